/** Time as an argument: machines get `now`, only shells hold a clock. */
export interface Clock {
  /** Monotonic milliseconds; only differences mean anything. */
  now(): number;
  /** Unix time in milliseconds. It may jump: for certificates and tokens only, never for timers. */
  wall(): number;
  /** Runs `wake` once at monotonic `deadline` (ms) or soon after; the result cancels it. */
  at(deadline: number, wake: () => void): () => void;
}

const LONGEST_TIMER_MS = 2 ** 31 - 1; // setTimeout's limit; a longer one would fire at once

/** The clock of the running process. Its timers do not keep the process alive. */
export const systemClock: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
  at(deadline, wake) {
    const delay = Math.min(Math.max(0, deadline - performance.now()), LONGEST_TIMER_MS);
    const timer = setTimeout(wake, delay);
    timer.unref();
    return () => clearTimeout(timer);
  },
};

interface Alarm {
  readonly deadline: number;
  readonly order: number;
  readonly wake: () => void;
}

/** A clock that a test moves by hand. Alarms run in order of deadline, each at its own instant. */
export class FakeClock implements Clock {
  #now = 0;
  #order = 0;
  readonly #wallStart: number;
  readonly #alarms: Set<Alarm> = new Set();

  constructor(wallStart: number = Date.UTC(2026, 0, 1)) {
    this.#wallStart = wallStart;
  }

  now(): number {
    return this.#now;
  }

  wall(): number {
    return this.#wallStart + this.#now;
  }

  at(deadline: number, wake: () => void): () => void {
    const alarm = { deadline, order: this.#order++, wake };
    this.#alarms.add(alarm);
    return () => void this.#alarms.delete(alarm);
  }

  /** Instant of the next alarm, `Infinity` when none is set. */
  get next(): number {
    return this.#earliest()?.deadline ?? Infinity;
  }

  /** Moves time on by `ms`, running every alarm that falls due. */
  advance(ms: number): void {
    const end = this.#now + ms;
    for (let due = this.#earliest(); due !== undefined && due.deadline <= end; due = this.#earliest()) {
      this.#alarms.delete(due);
      this.#now = Math.max(this.#now, due.deadline);
      due.wake();
    }
    this.#now = end;
  }

  #earliest(): Alarm | undefined {
    let best: Alarm | undefined;
    for (const alarm of this.#alarms) {
      if (best === undefined || alarm.deadline < best.deadline) best = alarm;
    }
    return best;
  }
}
