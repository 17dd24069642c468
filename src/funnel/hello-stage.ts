import type { Awaited, Place, WaitingLine } from "../base/waiting-line.ts";
import { type ClientHello, HelloReader, type HelloRefusal } from "../wire/client-hello.ts";
import { HeldBytes } from "./held-bytes.ts";
import type { Stage, Visitor } from "./visitor.ts";

/** Held of a visitor who has not been told apart yet. A hello is at most half of it. */
const MOST_HELD_BYTES = 128 * 1024;

export interface HelloHearer {
  /** `said`: all that came. */
  hello(visitor: Visitor, hello: ClientHello, said: Buffer): void;
  /** No hello came: something else did, the time is over, or the visitor is gone (`undefined`). */
  noHello(visitor: Visitor, refusal: HelloRefusal | undefined): void;
  /** Others need the room. */
  crowded(visitor: Visitor): void;
}

/** Reads a visitor's first message without answering it. */
export class HelloStage implements Stage, Awaited {
  readonly #visitor: Visitor;
  readonly #hearer: HelloHearer;
  readonly #reader: HelloReader = new HelloReader();
  readonly #held: HeldBytes = new HeldBytes();
  #place: Place | undefined;

  constructor(visitor: Visitor, hearer: HelloHearer) {
    this.#visitor = visitor;
    this.#hearer = hearer;
  }

  /** `owner` is whose place it is. */
  wait(line: WaitingLine, owner: string): void {
    this.#place = line.enter(owner, this);
    if (this.#place === undefined) this.#hearer.crowded(this.#visitor);
    else this.#visitor.hear(this);
  }

  said(chunk: Buffer): void {
    if (this.#place === undefined) return;
    const held = this.#held;
    held.push(chunk);
    const answer = held.length > MOST_HELD_BYTES ? TOO_MUCH : this.#reader.push(chunk);
    if (answer === undefined) return;
    this.#leave();
    if ("alert" in answer) this.#hearer.noHello(this.#visitor, answer);
    else this.#hearer.hello(this.#visitor, answer, held.bytes);
  }

  finished(): void {
    this.gone();
  }

  drained(): void {}

  gone(): void {
    if (this.#place === undefined) return;
    this.#leave();
    this.#hearer.noHello(this.#visitor, undefined);
  }

  giveUp(why: "crowded" | "late"): void {
    if (why === "late") return void this.gone();
    this.#leave();
    this.#hearer.crowded(this.#visitor);
  }

  #leave(): void {
    this.#place?.leave();
    this.#place = undefined;
  }
}

const TOO_MUCH: HelloRefusal = { alert: 50, found: "too many bytes" };
