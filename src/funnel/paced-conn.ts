import type { Clock } from "../base/clock.ts";
import type { Conn, ConnSink, Proof } from "../base/conn.ts";
import type { Fault } from "../base/fault.ts";
import { Pace } from "./pace.ts";

/** A connection on which so many bytes a second go each way, and a window of each user more at once. */
export class PacedConn implements Conn {
  readonly #inner: Conn;
  readonly #clock: Clock;
  readonly #inwards: Pace;
  readonly #outwards: Pace;
  #sink: ConnSink | undefined;
  /** Held back while what came is not paid for; undefined: it is. */
  #heldCredit: number | undefined;
  #isFull = false;
  #isPaced = false;
  /** A write was refused, and nobody was told yet that the next will not be. */
  #isDrainOwed = false;

  constructor(inner: Conn, clock: Clock, bytesPerSecond: number) {
    this.#inner = inner;
    this.#clock = clock;
    this.#inwards = new Pace(bytesPerSecond);
    this.#outwards = new Pace(bytesPerSecond);
  }

  get proof(): Proof {
    return this.#inner.proof;
  }

  attach(sink: ConnSink): void {
    this.#sink = sink;
    this.#inner.attach({
      data: (view) => {
        this.#came(view.length);
        sink.data(view);
      },
      end: () => sink.end(),
      drain: () => {
        this.#isFull = false;
        this.#drained();
      },
      abort: (fault) => sink.abort(fault),
    });
  }

  #came(bytes: number): void {
    const now = this.#clock.now();
    const wait = this.#inwards.spend(bytes, now);
    if (wait > 0 && this.#heldCredit === undefined) {
      this.#heldCredit = 0;
      this.#clock.at(now + wait, () => this.#pay());
    }
  }

  /** What came meanwhile, on credit of before, has to be waited for, too. */
  #pay(): void {
    const now = this.#clock.now();
    const wait = this.#inwards.spend(0, now);
    if (wait > 0) return void this.#clock.at(now + wait, () => this.#pay());
    const credit = this.#heldCredit ?? 0;
    this.#heldCredit = undefined;
    if (credit > 0) this.#inner.credit(credit);
  }

  credit(bytes: number): void {
    if (this.#heldCredit === undefined) this.#inner.credit(bytes);
    else this.#heldCredit += bytes;
  }

  write(view: Uint8Array): boolean {
    if (!this.#inner.write(view)) this.#isFull = true;
    const now = this.#clock.now();
    const wait = this.#outwards.spend(view.length, now);
    if (wait > 0 && !this.#isPaced) {
      this.#isPaced = true;
      this.#clock.at(now + wait, () => {
        this.#isPaced = false;
        this.#drained();
      });
    }
    this.#isDrainOwed ||= this.#isFull || this.#isPaced;
    return !this.#isFull && !this.#isPaced;
  }

  #drained(): void {
    if (this.#isFull || this.#isPaced || !this.#isDrainOwed) return;
    this.#isDrainOwed = false;
    this.#sink?.drain();
  }

  end(): void {
    this.#inner.end();
  }

  abort(fault: Fault): void {
    this.#inner.abort(fault);
  }
}
