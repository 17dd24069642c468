import type { Clock } from "../../base/clock.ts";
import { Fault } from "../../base/fault.ts";

const MOST_VALUES = 8;
const LIFETIME_MS = 600_000;
const MOST_RECORDS = 10_000;

/** TXT values that nodes set to prove their names, each for ten minutes (matrix CS-17). */
export class ChallengeRecords {
  readonly #clock: Clock;
  readonly #values: Map<string, Map<string, number>> = new Map();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Served as soon as this returns. Several orders may be under way; the value longest there makes room for a ninth.
   * @throws {Fault} ZONE_FULL
   */
  set(record: string, value: string): void {
    const now = this.#clock.now();
    const values = this.#values.get(record) ?? new Map<string, number>();
    if (!this.#values.has(record) && this.#values.size >= MOST_RECORDS) this.#forgetOld(now);
    if (!this.#values.has(record) && this.#values.size >= MOST_RECORDS) {
      throw new Fault("ZONE_FULL", `Cannot publish "${record}": ${MOST_RECORDS} records wait already, wanted fewer`, {
        hint: "Records go after ten minutes.",
      });
    }
    values.delete(value);
    values.set(value, now + LIFETIME_MS);
    if (values.size > MOST_VALUES) values.delete(values.keys().next().value!);
    this.#values.set(record, values);
  }

  values(record: string): readonly string[] {
    const values = this.#values.get(record);
    if (values === undefined) return [];
    const now = this.#clock.now();
    for (const [value, until] of values) if (until <= now) values.delete(value);
    if (values.size === 0) this.#values.delete(record);
    return [...values.keys()];
  }

  #forgetOld(now: number): void {
    for (const [record, values] of this.#values) {
      if (values.values().every((until) => until <= now)) this.#values.delete(record);
    }
  }
}
