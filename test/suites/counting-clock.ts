import { type Clock, systemClock } from "../../src/base/clock.ts";

/** The system's clock, which knows how many of its alarms are still set. */
export class CountingClock implements Clock {
  pending = 0;

  now(): number {
    return systemClock.now();
  }

  wall(): number {
    return systemClock.wall();
  }

  at(deadline: number, wake: () => void): () => void {
    let isSet = true;
    const over = (): void => {
      if (isSet) this.pending--;
      isSet = false;
    };
    this.pending++;
    const cancel = systemClock.at(deadline, () => {
      over();
      wake();
    });
    return () => {
      over();
      cancel();
    };
  }
}
