/**
 * A time of repair: from the first loss until all that was under way then has arrived. It may turn out to have been
 * imagined (RFC 3522, RFC 3708, RFC 5682).
 */
export class Episode {
  state: "open" | "recovery" | "loss" = "open";
  #end = 0;
  #mayUndo = false;
  #firstResentAt = Infinity;
  /** Segments sent again, less what was reported to have arrived twice. */
  #resent = 0;
  #sawOriginal = false;

  get isOpen(): boolean {
    return this.state === "open";
  }

  begin(state: "recovery" | "loss", end: number): void {
    this.state = state;
    this.#end = end;
    this.#mayUndo = true;
    this.#firstResentAt = Infinity;
    this.#resent = 0;
    this.#sawOriginal = false;
  }

  /** `una` reached what was under way at its beginning. */
  isOver(una: number): boolean {
    return this.state !== "open" && una >= this.#end;
  }

  /** All of it is not acknowledged yet. */
  isPartial(una: number): boolean {
    return this.state === "recovery" && una < this.#end;
  }

  end(): void {
    this.state = "open";
    this.#mayUndo = false;
  }

  noteResent(now: number): void {
    this.#resent++;
    this.#firstResentAt = Math.min(this.#firstResentAt, now);
  }

  noteDuplicate(): void {
    this.#resent--;
  }

  /** A segment that the timeout had called lost arrived, though it was not sent again. */
  noteOriginal(): void {
    if (this.state === "loss") this.#sawOriginal = true;
  }

  /**
   * Something is acknowledged; `resentAt` is when it was sent again, -1: never. An echo from before that tells of the
   * original; so does, after a timeout, the arrival of what was not sent again yet.
   */
  isImagined(resentAt: number, echoAge: number, now: number): boolean {
    if (!this.#mayUndo) return false;
    if (echoAge < 0 || resentAt < 0) return this.#sawOriginal && this.#resent <= 1;
    this.#mayUndo = false;
    return Math.floor(now) - echoAge < Math.floor(Math.min(resentAt, this.#firstResentAt));
  }

  /** All that was sent again had arrived before. */
  get wasAllDuplicate(): boolean {
    return this.state !== "open" && this.#resent === 0;
  }
}
