/** The largest of the values seen in the last `length` rounds, from the three best candidates (Nichols' filter). */
export class WindowedMax {
  readonly #length: number;
  #first = 0;
  #firstRound = 0;
  #second = 0;
  #secondRound = 0;
  #third = 0;
  #thirdRound = 0;

  constructor(length: number) {
    this.#length = length;
  }

  get value(): number {
    return this.#first;
  }

  reset(value: number, round: number): void {
    this.#first = this.#second = this.#third = value;
    this.#firstRound = this.#secondRound = this.#thirdRound = round;
  }

  add(value: number, round: number): void {
    if (value >= this.#first || round - this.#thirdRound > this.#length) {
      this.reset(value, round);
      return;
    }
    if (value >= this.#second) {
      this.#second = this.#third = value;
      this.#secondRound = this.#thirdRound = round;
    } else if (value >= this.#third) {
      this.#third = value;
      this.#thirdRound = round;
    }
    const age = round - this.#firstRound;
    if (age > this.#length) this.#promote(value, round);
    else if (this.#secondRound === this.#firstRound && age > this.#length / 4) {
      this.#second = this.#third = value; // a quarter has passed without a second: take a fresh one
      this.#secondRound = this.#thirdRound = round;
    } else if (this.#thirdRound === this.#secondRound && age > this.#length / 2) {
      this.#third = value;
      this.#thirdRound = round;
    }
  }

  /** The best one is too old: the next take its place. */
  #promote(value: number, round: number): void {
    this.#first = this.#second;
    this.#firstRound = this.#secondRound;
    this.#second = this.#third;
    this.#secondRound = this.#thirdRound;
    this.#third = value;
    this.#thirdRound = round;
    if (round - this.#firstRound <= this.#length) return;
    this.#first = this.#second;
    this.#firstRound = this.#secondRound;
    this.#second = this.#third;
    this.#secondRound = this.#thirdRound;
  }
}
