import type { ConnSink } from "../../base/conn.ts";
import type { Fault } from "../../base/fault.ts";
import type { Receiver } from "./receiver.ts";
import type { Sender } from "./sender.ts";

/** What the user of a connection has been told, and what he is owed. */
export class UserEnd {
  #sink: ConnSink | undefined;
  mustDrain: boolean = false;
  #endDelivered = false;
  #fault: Fault | undefined;
  /** Nothing is left to be told: he knows, or it ended as it should. */
  #knowsOfEnd = false;

  attach(sink: ConnSink): void {
    this.#sink = sink;
  }

  /** `undefined`: it ended as it should. */
  close(fault: Fault | undefined): void {
    this.#fault = fault;
    if (fault === undefined) this.#knowsOfEnd = true;
  }

  /** Lets go of a user who was told everything. */
  rest(): void {
    if (this.#endDelivered) this.#sink = undefined;
  }

  /** Whoever aborts knows. */
  leave(): void {
    this.#knowsOfEnd = true;
    this.#sink = undefined;
  }

  /** Something for him came up after his turn. */
  isOwed(receiver: Receiver | undefined): boolean {
    if (this.#sink === undefined) return false;
    if (this.#fault !== undefined) return !this.#knowsOfEnd;
    if (receiver === undefined) return false;
    return receiver.waiting > 0 ? receiver.credit > 0 : receiver.isFinished && !this.#endDelivered;
  }

  /** Hands him what he may have. Throws what he throws. */
  deliver(receiver: Receiver | undefined, sender: Sender | undefined): void {
    const sink = this.#sink;
    if (sink === undefined) return;
    if (this.#fault !== undefined) {
      if (this.#knowsOfEnd) return;
      this.#hand(sink, receiver); // what came in order before a reset, as any kernel would
      if (this.#knowsOfEnd) return;
      this.#knowsOfEnd = true;
      receiver?.release();
      sink.abort(this.#fault);
      return;
    }
    if (receiver === undefined) return;
    this.#hand(sink, receiver);
    if (this.#fault !== undefined) return;
    if (receiver.isFinished && receiver.waiting === 0 && !this.#endDelivered) {
      this.#endDelivered = true;
      sink.end();
    }
    if (this.mustDrain && sender !== undefined && sender.buffered <= sender.buffer.limit / 2) {
      this.mustDrain = false;
      sink.drain();
    }
  }

  #hand(sink: ConnSink, receiver: Receiver | undefined): void {
    const before = this.#fault;
    for (let view = receiver?.take(); view !== undefined; view = receiver?.take()) {
      sink.data(view);
      if (this.#fault !== before || this.#knowsOfEnd) return;
    }
  }
}
