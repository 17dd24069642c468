import { randomBytes } from "node:crypto";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { resetSocket } from "../../src/base/reset.ts";

/** Longer than any part that is written, and a prime, so that a shift is seen. */
const PERIOD = 65_521;
const ONCE = randomBytes(PERIOD);
const BLOCK = Buffer.concat([ONCE, ONCE]);
const MOST_PART = 32 * 1024;
const SLOW_MS = 3;

/** `end`: says all, then its end. `end first`: the end at once. `silence`: says all, and nothing more. `leave`: closes. */
export const ENDINGS = ["end", "end first", "reset", "silence", "leave"] as const;

export interface SidePlan {
  readonly bytes: number;
  readonly ending: (typeof ENDINGS)[number];
  readonly reading: "all" | "slowly" | "late";
  /** From the last that it says until it loses patience and resets. */
  readonly patienceMs: number;
  /** Resets wherever it is by then. */
  readonly resetsAfterMs: number;
}

/** What one says is his own: nobody else's can be taken for it. */
export function partOf(voice: number, position: number, length: number): Buffer {
  const at = (voice * 4099 + position) % PERIOD;
  return BLOCK.subarray(at, at + length);
}

/** One end of a conversation, which goes by its plan whatever the other does, and remembers what it said and heard. */
export class ChaosSide {
  readonly plan: SidePlan;
  readonly voice: number;
  sent = 0;
  heard = 0;
  /** It said its end after all that it sent. */
  hasEnded = false;
  /** It closed in the middle, which may look like an end. */
  hasLeft = false;
  sawEnd = false;
  isClosed = false;
  /** What was heard that nobody said. */
  wrong: string | undefined;
  readonly closed: Promise<void>;
  readonly #stream: Duplex;
  readonly #wire: Socket;
  readonly #other: number;
  readonly #timers: Set<NodeJS.Timeout> = new Set();

  /** `wire`: the TCP below. `other`: the voice that is to be heard. */
  constructor(stream: Duplex, wire: Socket, plan: SidePlan, voice: number, other: number) {
    this.#stream = stream;
    this.#wire = wire;
    this.plan = plan;
    this.voice = voice;
    this.#other = other;
    this.closed = new Promise((resolve) => {
      const over = (): void => {
        this.isClosed = true;
        for (const timer of this.#timers) clearTimeout(timer);
        resolve();
      };
      if (wire.closed) over();
      else for (const one of new Set<Duplex>([stream, wire])) one.once("close", over); // TLS keeps its wire's to itself at times
    });
    for (const one of new Set<Duplex>([stream, wire])) one.on("error", () => void wire.destroy());
  }

  /** `first`: what was read already. */
  start(first: Buffer): void {
    if (this.isClosed) return;
    const stream = this.#stream;
    if (first.length > 0) this.#hear(first);
    stream.on("data", (chunk: Buffer) => this.#hear(chunk));
    stream.once("end", () => {
      this.sawEnd = true;
      if (this.plan.ending === "silence") this.#end();
    });
    if (this.plan.reading === "late") {
      stream.pause();
      this.#after(this.plan.patienceMs / 2, () => void stream.resume());
    } else stream.resume();
    this.#after(this.plan.resetsAfterMs, () => this.reset());
    if (this.plan.ending === "end first") this.#end();
    else this.#say();
  }

  reset(): void {
    if (this.isClosed) return;
    resetSocket(this.#wire);
    if (this.#stream !== this.#wire) this.#stream.destroy();
  }

  #hear(chunk: Buffer): void {
    for (let at = 0; at < chunk.length; ) {
      const length = Math.min(MOST_PART, chunk.length - at);
      const isRight = chunk.subarray(at, at + length).equals(partOf(this.#other, this.heard, length));
      if (!isRight) this.wrong ??= `at ${this.heard}: ${chunk.toString("hex", at, at + 16)}`;
      this.heard += length;
      at += length;
    }
    if (this.plan.reading !== "slowly") return;
    this.#stream.pause();
    this.#after(SLOW_MS, () => void this.#stream.resume());
  }

  #say(): void {
    const stream = this.#stream;
    while (this.sent < this.plan.bytes) {
      if (this.isClosed || stream.destroyed || stream.writableEnded) return;
      const length = Math.min(MOST_PART, this.plan.bytes - this.sent);
      this.sent += length;
      if (!stream.write(partOf(this.voice, this.sent - length, length)))
        return void stream.once("drain", () => this.#say());
    }
    this.#finish();
  }

  #finish(): void {
    const { ending, patienceMs } = this.plan;
    if (ending === "end") this.#end();
    else if (ending === "reset") this.reset();
    else if (ending === "leave") this.#leave();
    else this.#after(patienceMs, () => this.reset());
  }

  #end(): void {
    if (this.isClosed || this.#stream.writableEnded) return;
    this.hasEnded = true;
    this.#stream.end();
  }

  #leave(): void {
    this.hasLeft = true;
    this.#wire.destroy();
    this.#stream.destroy();
  }

  #after(ms: number, run: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      run();
    }, ms);
    this.#timers.add(timer);
  }
}

/** What must not be, of two ends that were in one conversation. */
export function lies(hearer: ChaosSide, sayer: ChaosSide): string[] {
  const found: string[] = [];
  if (hearer.wrong !== undefined) found.push(`heard what nobody said ${hearer.wrong}`);
  if (hearer.heard > sayer.sent) found.push(`heard ${hearer.heard} of ${sayer.sent}`);
  if (!hearer.sawEnd || sayer.hasLeft) return found;
  if (!sayer.hasEnded) found.push(`an end that nobody said (heard ${hearer.heard}, sent ${sayer.sent})`);
  else if (hearer.heard !== sayer.sent) found.push(`an end after ${hearer.heard} of ${sayer.sent}`);
  return found;
}
