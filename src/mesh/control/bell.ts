import type { Clock } from "../../base/clock.ts";

/** For loops that sleep until something has changed. A ring wakes whoever sleeps then, and is not kept for others. */
export class Bell {
  #sleep: PromiseWithResolvers<void> = Promise.withResolvers();

  ring(): void {
    const { resolve } = this.#sleep;
    this.#sleep = Promise.withResolvers();
    resolve();
  }

  /** Settles with the next ring. */
  next(): Promise<void> {
    return this.#sleep.promise;
  }

  /** Does it ring within `ms`? */
  async ringsWithin(clock: Clock, ms: number): Promise<boolean> {
    const over = Promise.withResolvers<false>();
    const cancel = clock.at(clock.now() + ms, () => over.resolve(false));
    const hasRung = await Promise.race([this.next().then(() => true), over.promise]);
    cancel();
    return hasRung;
  }
}
