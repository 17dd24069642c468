import type { FakeClock } from "../base/clock.ts";
import { Fault } from "../base/fault.ts";

/** Turns of the event loop without any event after which nothing is left to do at this instant. */
const QUIET_TURNS = 4;
const MOST_TURNS = 10_000;
/** Fake time that one wait may take. */
const LONGEST_WAIT_MS = 3_600_000;
/** Time over timers that one real millisecond may bring to `until`: the thread pool, which signs and reads, needs real time. */
const MOST_JUMP_MS = 500;
/** Real time between two looks: at a backend that works, and at nothing in particular. */
const BUSY_LOOK_MS = 2;
const IDLE_LOOK_MS = 50;

export interface PaceOptions {
  readonly clock: FakeClock;
  /** Grows with everything that happens. */
  readonly events: () => number;
  /** Instant of the next arrival on the internet. */
  readonly nextArrival: () => number;
  /** Somebody outside works in real time: the backend that is being tested was asked, and has not begun to answer. */
  readonly isOutsideBusy: () => boolean;
}

interface Goal {
  /** Instant up to which time may jump. */
  readonly at: number;
  readonly reached: () => void;
}

/**
 * Moves the fake time. What is under way arrives at once; over timers time jumps only while somebody waits in `until` or
 * `advance`; for `until` never past a backend that was asked and has not begun to answer. Else it goes on as real time does.
 */
export class Pace {
  readonly #clock: FakeClock;
  readonly #options: PaceOptions;
  readonly #goals: Set<Goal> = new Set();
  #advanceTo = -1;
  #seen = 0;
  #wake: () => void = () => {};
  #isClosed = false;
  readonly #ended: Promise<void>;
  /** For those who wait: there is nothing more to wait for. */
  readonly #over: Promise<never>;

  constructor(options: PaceOptions) {
    this.#clock = options.clock;
    this.#options = options;
    this.#ended = this.#run();
    this.#over = this.#ended.then(() => {
      throw new Fault("TESTNET_CLOSED", "Cannot wait any longer: found the testnet closed, wanted it open");
    });
    this.#over.catch(() => {}); // told to those who wait
  }

  /** Waits for `promise` while time moves as fast as it can. */
  async until<T>(promise: Promise<T>): Promise<T> {
    const stuck = Promise.withResolvers<never>();
    const goal: Goal = {
      at: this.#clock.now() + LONGEST_WAIT_MS,
      reached: () =>
        stuck.reject(
          new Fault("TESTNET_STUCK", "Cannot wait any longer: found nothing to come in an hour of test time"),
        ),
    };
    this.#goals.add(goal);
    this.#wake();
    try {
      return await Promise.race([promise, stuck.promise, this.#over]);
    } finally {
      this.#goals.delete(goal);
    }
  }

  /** Moves time on by `ms`; settles when everything of that time has happened. */
  async advance(ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const goal: Goal = { at: this.#clock.now() + ms, reached: resolve };
    this.#goals.add(goal);
    this.#advanceTo = Math.max(this.#advanceTo, goal.at);
    this.#wake();
    await Promise.race([promise, this.#over]);
  }

  /** Something has begun: look at once. */
  poke(): void {
    this.#wake();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#wake();
    await this.#ended;
  }

  async #run(): Promise<void> {
    let before = performance.now();
    let jumped = 0;
    while (!this.#isClosed) {
      await this.#settle();
      const now = performance.now();
      const realMs = now - before;
      before = now;
      if (this.#reach()) continue;
      const next = this.#clock.next;
      const isAdvancing = this.#advanceTo > this.#clock.now();
      const mayJump = isAdvancing || (this.#goals.size > 0 && !this.#options.isOutsideBusy());
      const isArriving = this.#options.nextArrival() <= next;
      if (isArriving || isAdvancing) this.#jump(Math.min(next, ...[...this.#goals].map(({ at }) => at)));
      else if (mayJump) {
        jumped += this.#jump(Math.min(next, ...[...this.#goals].map(({ at }) => at)));
        if (jumped < MOST_JUMP_MS) continue;
        jumped = 0;
        await this.#rest(1);
      } else if (this.#options.nextArrival() < Infinity) this.#jump(next);
      else {
        this.#clock.advance(Math.min(realMs, Math.max(0, next - this.#clock.now())));
        const isWaitedFor = this.#goals.size > 0;
        await this.#rest(isWaitedFor ? BUSY_LOOK_MS : Math.min(IDLE_LOOK_MS, this.#clock.next - this.#clock.now()));
      }
    }
  }

  #jump(to: number): number {
    const ms = Math.max(0, to - this.#clock.now());
    this.#clock.advance(ms);
    return ms;
  }

  /** Whether somebody was told that his time has come. */
  #reach(): boolean {
    let isAny = false;
    for (const goal of this.#goals) {
      if (goal.at > this.#clock.now() || this.#options.nextArrival() <= goal.at) continue;
      this.#goals.delete(goal);
      goal.reached();
      isAny = true;
    }
    return isAny;
  }

  /** Lets everything run that needs no more time than this instant; most timers find nothing to do. */
  async #settle(): Promise<void> {
    let wanted = 1;
    for (let turns = 0, quiet = 0; quiet < wanted && turns < MOST_TURNS; turns++) {
      await new Promise((resolve) => void setImmediate(resolve));
      const events = this.#options.events();
      if (events !== this.#seen) wanted = QUIET_TURNS;
      quiet = events === this.#seen ? quiet + 1 : 0;
      this.#seen = events;
    }
  }

  /** Until a moment of real time has passed, or somebody wants time to move. */
  async #rest(ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, Math.max(1, ms));
    this.#wake = resolve;
    await promise;
    clearTimeout(timer);
    this.#wake = () => {};
  }
}
