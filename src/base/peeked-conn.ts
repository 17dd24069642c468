import type { Conn, ConnSink, Proof } from "./conn.ts";
import type { Fault } from "./fault.ts";

/** Who decides about a connection by its first bytes. */
export interface PeekWatcher {
  /** A part came before somebody attached; it is a copy, and stays as it is. */
  look(part: Buffer): void;
  /** Nothing will come any more, and nobody has attached. */
  gone(): void;
  /** What had to go before all else has gone. */
  leadSent(): void;
  /** Told once, when both directions have ended or the connection was cut. */
  closed(): void;
}

/**
 * A connection whose first bytes are looked at before it is decided who gets it. Whoever attaches then gets all that was
 * not forgotten, as if nothing had happened.
 */
export class PeekedConn implements Conn {
  /** What is known of the other end may become more while its first bytes are read, but never from them alone. */
  proof: Proof;
  watcher: PeekWatcher | undefined;
  /** Goes before what is written first, in one piece with it, or when it is told to. */
  lead: Uint8Array | undefined;
  readonly #inner: Conn;
  #sink: ConnSink | undefined;
  readonly #kept: Buffer[] = [];
  /** Given by the sink and not used. */
  #credit = 0;
  /** What the inner connection was allowed beyond that. */
  #ahead: number;
  /** The end is here, and the sink was not told yet. */
  #isEndOwed = false;
  #hasEndedInwards = false;
  #hasEndedOutwards = false;
  #isClosed = false;
  #fault: Fault | undefined;

  /** `mostBytes` are let in before somebody attaches. */
  constructor(inner: Conn, mostBytes: number) {
    this.proof = inner.proof;
    this.#inner = inner;
    this.#ahead = mostBytes;
    inner.attach(new Inlet(this));
    inner.credit(mostBytes);
  }

  // ——— for the inlet alone ———

  take(view: Uint8Array): void {
    const sink = this.#sink;
    if (sink !== undefined && this.#kept.length === 0 && this.#credit >= view.length) {
      this.#credit -= view.length;
      return void sink.data(view);
    }
    const part = Buffer.from(view); // a copy: the view is dead on return
    this.#kept.push(part);
    if (sink === undefined) this.watcher?.look(part);
    else this.#hand();
  }

  endInwards(): void {
    this.#isEndOwed = true;
    if (this.#sink === undefined) this.watcher?.gone();
    else this.#hand();
    this.#hasEndedInwards = true;
    this.#closeAtEnds();
  }

  drain(): void {
    this.#sink?.drain();
  }

  fail(fault: Fault): void {
    this.#fault = fault;
    this.#kept.length = 0;
    if (this.#sink === undefined) this.watcher?.gone();
    else this.#sink.abort(fault);
    this.#close();
  }

  // ——— for whoever looks ———

  /** The first `bytes` of what was seen so far are for nobody else. */
  forget(bytes: number = Infinity): void {
    let left = bytes;
    for (let head = this.#kept[0]; head !== undefined && left > 0; head = this.#kept[0]) {
      const part = Math.min(left, head.length);
      left -= part;
      this.#ahead -= part;
      if (part === head.length) this.#kept.shift();
      else this.#kept[0] = head.subarray(part);
    }
  }

  /** Shows what is kept to whoever looks now, as if it came only now. */
  lookAgain(): void {
    for (const part of this.#kept.slice()) this.watcher?.look(part);
  }

  // ——— for whoever gets it ———

  attach(sink: ConnSink): void {
    this.#sink = sink;
    // Not at once: whoever attaches is not ready before he has done so. Bytes wait for his credit.
    if (this.#fault !== undefined || this.#isEndOwed) queueMicrotask(() => this.#settle());
  }

  #settle(): void {
    if (this.#fault === undefined) this.#hand();
    else this.#sink?.abort(this.#fault);
  }

  credit(bytes: number): void {
    this.#credit += bytes;
    const paid = Math.min(this.#ahead, bytes);
    this.#ahead -= paid;
    if (bytes > paid) this.#inner.credit(bytes - paid);
    if (this.#kept.length > 0) queueMicrotask(() => this.#hand());
  }

  #hand(): void {
    const sink = this.#sink;
    if (sink === undefined || this.#fault !== undefined) return;
    while (this.#kept.length > 0 && this.#credit > 0) {
      const head = this.#kept[0]!;
      const isWhole = this.#credit >= head.length;
      const part = isWhole ? head : head.subarray(0, this.#credit);
      if (isWhole) this.#kept.shift();
      else this.#kept[0] = head.subarray(part.length);
      this.#credit -= part.length;
      sink.data(part);
    }
    if (this.#isEndOwed && this.#kept.length === 0) {
      this.#isEndOwed = false;
      sink.end();
    }
  }

  #closeAtEnds(): void {
    if (this.#hasEndedInwards && this.#hasEndedOutwards) this.#close();
  }

  #close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.watcher?.closed();
  }

  sendLead(): void {
    const { lead } = this;
    if (lead === undefined) return;
    this.lead = undefined;
    this.#inner.write(lead);
    this.watcher?.leadSent();
  }

  write(view: Uint8Array): boolean {
    this.sendLead();
    return this.#inner.write(view);
  }

  end(): void {
    this.sendLead();
    this.#inner.end();
    this.#hasEndedOutwards = true;
    this.#closeAtEnds();
  }

  abort(fault: Fault): void {
    this.sendLead(); // a cut behind it is another matter than one in its place
    this.#inner.abort(fault);
    this.#close();
  }

  /** Ends it from below: whoever has it is told, and so is the other end. */
  cut(fault: Fault): void {
    const sink = this.#isClosed ? undefined : this.#sink;
    this.abort(fault);
    sink?.abort(fault);
  }
}

/** Hears the inner connection: to the outside those words mean the other direction. One object in place of a closure a word. */
class Inlet implements ConnSink {
  readonly #conn: PeekedConn;

  constructor(conn: PeekedConn) {
    this.#conn = conn;
  }

  data(view: Uint8Array): void {
    this.#conn.take(view);
  }

  end(): void {
    this.#conn.endInwards();
  }

  drain(): void {
    this.#conn.drain();
  }

  abort(fault: Fault): void {
    this.#conn.fail(fault);
  }
}
