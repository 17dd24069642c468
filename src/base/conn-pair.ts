import type { Conn, ConnSink, Proof } from "./conn.ts";
import type { Fault } from "./fault.ts";

const RING_BYTES = 256 * 1024;
const VIEW_BYTES = 64 * 1024;
const LAST_WORDS_BYTES = 4096;

/** Two ends of a connection in memory, with credit and back-pressure like a real one. `proof` is what B knows of A. */
export function connPair(proof: Proof, reverse: Proof = mirrored(proof)): [Conn, Conn] {
  const a = new MemoryConn(reverse);
  const b = new MemoryConn(proof);
  a.peer = b;
  b.peer = a;
  return [a, b];
}

function mirrored(proof: Proof): Proof {
  const source = proof.kind === "ingress" ? proof.visitor : proof.source;
  return { kind: "public", source: proof.destination, destination: source };
}

class MemoryConn implements Conn {
  readonly proof: Proof;
  peer!: MemoryConn;
  #sink: ConnSink | undefined;
  #credit = 0;
  #queue: Uint8Array[] = []; // what we wrote and the peer has not taken
  #queued = 0;
  #mustDrain = false;
  #ended = false;
  #endDelivered = false;
  #isDead = false;

  constructor(proof: Proof) {
    this.proof = proof;
  }

  get unsent(): number {
    return this.#queued;
  }

  attach(sink: ConnSink): void {
    this.#sink = sink;
    queueMicrotask(() => this.peer.#pump());
  }

  credit(bytes: number): void {
    this.#credit += bytes;
    queueMicrotask(() => this.peer.#pump());
  }

  write(view: Uint8Array): boolean {
    if (this.#isDead || this.#ended) return false;
    this.#queue.push(view.slice());
    this.#queued += view.length;
    queueMicrotask(() => this.#pump());
    this.#mustDrain = this.#queued >= RING_BYTES;
    return !this.#mustDrain;
  }

  end(): void {
    this.#ended = true;
    queueMicrotask(() => this.#pump());
  }

  abort(fault: Fault): void {
    if (this.#isDead) return;
    this.#isDead = true;
    queueMicrotask(() => {
      if (this.#queued <= LAST_WORDS_BYTES) this.#pump(true);
      this.peer.#aborted(fault);
    });
  }

  #aborted(fault: Fault): void {
    if (this.#isDead) return;
    this.#isDead = true;
    this.#sink?.abort(fault);
  }

  #pump(isLast: boolean = false): void {
    const { peer } = this;
    const isAlive = isLast || !this.#isDead;
    while (isAlive && !peer.#isDead && peer.#sink !== undefined && peer.#credit > 0 && this.#queue.length > 0) {
      const head = this.#queue.shift()!;
      const take = Math.min(head.length, peer.#credit, VIEW_BYTES);
      if (take < head.length) this.#queue.unshift(head.subarray(take));
      this.#queued -= take;
      peer.#credit -= take;
      peer.#sink.data(head.subarray(0, take));
    }
    if (this.#mustDrain && this.#queued < RING_BYTES / 2) {
      this.#mustDrain = false;
      this.#sink?.drain();
    }
    if (this.#ended && !this.#endDelivered && this.#queue.length === 0 && peer.#sink !== undefined && !peer.#isDead) {
      this.#endDelivered = true;
      peer.#sink.end();
    }
  }
}
