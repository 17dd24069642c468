/** What a connection may owe, and how fast it is forgiven. */
interface Allowance {
  readonly most: number;
  readonly perSecond: number;
}

/** Of bytes that bring nothing: some 7,000 empty frames, and then 1,800 a second. */
const IDLE_BYTES: Allowance = { most: 64 * 1024, perSecond: 16 * 1024 };
/** Of streams that end without their answer: a page that is left cancels dozens. */
const FAILURES: Allowance = { most: 500, perSecond: 33 };
/** What a request or a part of a body may cost in framing, window updates and the like. */
const FRAMING_BYTES = 256;
/** What a frame that must be answered at once costs beyond its bytes: about a thousand make a flood. */
const ANSWERED_FRAME_BYTES = 32;

/** Grows with what is charged and shrinks with time. */
class Debt {
  readonly #allowance: Allowance;
  #owed = 0;
  #at: number;

  constructor(allowance: Allowance, now: number) {
    this.#allowance = allowance;
    this.#at = now;
  }

  /** How far that is above what may be owed; 0 where it is not. */
  charge(amount: number, now: number): number {
    const { most, perSecond } = this.#allowance;
    const forgiven = ((now - this.#at) * perSecond) / 1000;
    this.#at = now;
    this.#owed = Math.max(0, this.#owed + amount - forgiven);
    return Math.max(0, this.#owed - most);
  }
}

/**
 * What the peer of one HTTP/2 connection may cost us beyond what it asks for. node:http2 tells nothing of most frames
 * (WINDOW_UPDATE, PRIORITY, empty DATA, unknown types), and to read them before it would cost every download a copy. So
 * what is measured is bytes: all that came, against the requests and bodies among them and against what we sent. A flood
 * of whatever frame is bytes that brought nothing (CVE-2019-9511 to 9518). Streams that end without their answer count
 * alike, whoever ended them: the peer (CVE-2023-44487), or we because its frames left no choice (CVE-2025-8671).
 */
export class Http2Budget {
  readonly #idleBytes: Debt;
  readonly #failures: Debt;
  #useful = 0;
  #read = 0;
  #written = 0;

  constructor(now: number) {
    this.#idleBytes = new Debt(IDLE_BYTES, now);
    this.#failures = new Debt(FAILURES, now);
  }

  /** A request came, or a part of a body, of that many bytes. */
  received(bytes: number): void {
    this.#useful += bytes + FRAMING_BYTES;
  }

  /** The bytes that we had to answer some frame with earn nothing. */
  answeredFrame(bytes: number): void {
    this.#useful -= bytes + ANSWERED_FRAME_BYTES;
  }

  /** A stream ended before up to that much of its body was read. */
  left(bytes: number): void {
    this.#useful += bytes;
  }

  /** A stream ended without its answer. False: one too many. */
  failed(now: number): boolean {
    return this.#failures.charge(1, now) === 0;
  }

  /** With all bytes of the connection so far: how many of those that brought nothing are too many. */
  measure(read: number, written: number, now: number): number {
    const idle = read - this.#read - (written - this.#written) - this.#useful;
    this.#read = read;
    this.#written = written;
    this.#useful = 0;
    return this.#idleBytes.charge(idle, now);
  }
}
