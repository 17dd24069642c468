import type { Conn, Proof } from "../../base/conn.ts";
import type { Fault } from "../../base/fault.ts";
import { PACKET, type PacketBatch, STRIDE } from "../../base/packet.ts";
import { seededRandom } from "../../base/random.ts";
import { Netstack, type NetstackOptions } from "./netstack.ts";

/** For tests: two stacks and a link with faults between them, on a time that only the test moves. */

export interface LinkOptions {
  readonly seed?: number;
  /** One way. */
  readonly delayMs?: number;
  readonly jitterMs?: number;
  /** Shares of 1. */
  readonly loss?: number;
  readonly reorder?: number;
  readonly duplicate?: number;
  readonly corrupt?: number;
  /** Bytes per ms; the queue before it holds `queueBytes`. */
  readonly rate?: number;
  readonly queueBytes?: number;
  readonly mtu?: number;
  /** For each packet, both ways; false: lost. */
  readonly filter?: (packet: Uint8Array, fromA: boolean) => boolean;
  readonly a?: Partial<NetstackOptions>;
  readonly b?: Partial<NetstackOptions>;
}

export const A_ADDRESS: string = "100.64.0.1";
export const B_ADDRESS: string = "100.64.0.2";
export const A_ADDRESS6: string = "fd7a::1";
export const B_ADDRESS6: string = "fd7a::2";
const addressBytes = (last: number): Uint8Array[] => [
  Uint8Array.of(100, 64, 0, last),
  Uint8Array.of(0xfd, 0x7a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last),
];

interface Flying {
  readonly at: number;
  readonly order: number;
  readonly packet: Uint8Array;
  readonly toB: boolean;
}

export class SimulatedLink {
  now: number = 1000;
  readonly a: Netstack;
  readonly b: Netstack;
  sent: number = 0;
  dropped: number = 0;
  readonly #options: LinkOptions;
  readonly #random: () => number;
  #flying: Flying[] = [];
  #order = 0;
  readonly #freeAt: [number, number] = [0, 0];

  constructor(options: LinkOptions = {}) {
    this.#options = options;
    const source = seededRandom(options.seed ?? 1);
    for (let i = 0; i < 8; i++) source(64);
    this.#random = () => {
      const draw = source(8);
      return ((draw[1]! << 16) | (draw[4]! << 8) | draw[6]!) / 2 ** 24;
    };
    const make = (last: number, toB: boolean, more: Partial<NetstackOptions> | undefined): Netstack =>
      new Netstack({
        addresses: addressBytes(last),
        random: seededRandom((options.seed ?? 1) * 31 + last),
        output: (packet) => this.#fly(packet, toB),
        proofOf: (_peer, source, destination): Proof => ({ kind: "mesh", nodeKey: "00", source, destination }),
        wake: () => {},
        now: () => this.now,
        ...(options.mtu === undefined ? {} : { mtu: options.mtu }),
        ...more,
      });
    this.a = make(1, true, options.a);
    this.b = make(2, false, options.b);
  }

  #fly(packet: Uint8Array, toB: boolean): void {
    const {
      delayMs = 1,
      jitterMs = 0,
      loss = 0,
      reorder = 0,
      duplicate = 0,
      corrupt = 0,
      rate,
      filter,
    } = this.#options;
    this.sent++;
    if (this.#random() < loss || filter?.(packet, toB) === false) {
      this.dropped++;
      return;
    }
    let at = this.now + delayMs + jitterMs * this.#random();
    if (rate !== undefined) {
      const side = toB ? 0 : 1;
      const start = Math.max(this.now, this.#freeAt[side]);
      if ((start - this.now) * rate > (this.#options.queueBytes ?? 256 * 1024)) {
        this.dropped++;
        return;
      }
      this.#freeAt[side] = start + packet.length / rate;
      at = this.#freeAt[side] + delayMs;
    }
    if (this.#random() < reorder) at += delayMs * (0.1 + this.#random());
    const copies = this.#random() < duplicate ? 2 : 1;
    for (let i = 0; i < copies; i++) {
      const copy = packet.slice();
      if (this.#random() < corrupt)
        copy[Math.floor(this.#random() * copy.length)]! ^= 1 << Math.floor(this.#random() * 8);
      this.#insert({ at: at + i * 0.5, order: this.#order++, packet: copy, toB });
    }
  }

  #insert(item: Flying): void {
    const queue = this.#flying;
    let low = 0;
    let high = queue.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (queue[middle]!.at <= item.at) low = middle + 1;
      else high = middle;
    }
    if (low === queue.length) queue.push(item);
    else queue.splice(low, 0, item);
  }

  /** Puts a made-up packet on its way. */
  inject(packet: Uint8Array, toB: boolean): void {
    this.#insert({ at: this.now, order: this.#order++, packet: packet.slice(), toB });
  }

  /** Moves to the next event. False: nothing will ever happen again. */
  step(): boolean {
    const next = Math.min(this.#flying[0]?.at ?? Infinity, this.a.deadline, this.b.deadline);
    if (next === Infinity) return false;
    this.now = Math.max(this.now, next);
    let count = 0;
    while (count < this.#flying.length && this.#flying[count]!.at <= this.now) count++;
    const arrived = this.#flying.splice(0, count);
    for (const toB of [true, false]) {
      const mine = arrived.filter((item) => item.toB === toB).map((item) => item.packet);
      const stack = toB ? this.b : this.a;
      if (mine.length > 0) stack.input(batchOf(mine, 1), this.now);
      if (stack.deadline <= this.now) stack.poll(this.now);
    }
    return true;
  }

  /** Runs until `isDone`, or virtual `limitMs` have passed; says whether it was done. */
  run(isDone: () => boolean, limitMs: number = 3_600_000): boolean {
    const end = this.now + limitMs;
    while (!isDone()) if (this.now > end || !this.step()) return isDone();
    return true;
  }

  /** Lets `ms` pass. */
  pass(ms: number): void {
    const end = this.now + ms;
    const next = (): number => Math.min(this.#flying[0]?.at ?? Infinity, this.a.deadline, this.b.deadline);
    while (next() <= end) this.step();
    this.now = end;
  }

  /** Connections from A to a listener of B. */
  async connect(port: number = 80, target: string = B_ADDRESS): Promise<[TestEnd, TestEnd]> {
    let accepted: Conn | undefined;
    const listener = this.b.listenTcp(port, (conn) => {
      accepted = conn;
    });
    let dialed: Conn | undefined;
    const dialing = this.a.dialTcp({ address: target, port }).then((conn) => {
      dialed = conn;
    });
    this.run(() => accepted !== undefined && this.a.connections > 0, 120_000);
    await dialing;
    listener.close();
    return [new TestEnd(dialed!), new TestEnd(accepted!)];
  }
}

export function batchOf(packets: readonly Uint8Array[], peer: number): PacketBatch {
  const slab = new Uint8Array(packets.reduce((sum, packet) => sum + packet.length, 0));
  const at = new Int32Array(packets.length * STRIDE);
  let offset = 0;
  packets.forEach((packet, i) => {
    slab.set(packet, offset);
    at[i * STRIDE + PACKET.offset] = offset;
    at[i * STRIDE + PACKET.length] = packet.length;
    at[i * STRIDE + PACKET.peer] = peer;
    offset += packet.length;
  });
  return { slab, at, count: packets.length };
}

/** A user of a connection that reads as fast as `credit` lets him and keeps everything. */
export class TestEnd {
  readonly conn: Conn;
  readonly chunks: Uint8Array[] = [];
  received: number = 0;
  ended: boolean = false;
  fault: Fault | undefined;
  #toSend: Uint8Array = new Uint8Array(0);
  #sent = 0;
  #endAfter = false;

  constructor(conn: Conn, credit: number = 4 * 1024 * 1024, repay: boolean = true) {
    this.conn = conn;
    conn.attach({
      data: (view) => {
        this.chunks.push(view.slice());
        this.received += view.length;
        if (repay) conn.credit(view.length);
      },
      end: () => {
        this.ended = true;
      },
      drain: () => this.#push(),
      abort: (fault) => {
        this.fault = fault;
      },
    });
    conn.credit(credit);
  }

  get bytes(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.chunks));
  }

  send(bytes: Uint8Array, thenEnd: boolean = false): void {
    this.#toSend = bytes;
    this.#sent = 0;
    this.#endAfter = thenEnd;
    this.#push();
  }

  #push(): void {
    while (this.#sent < this.#toSend.length) {
      const chunk = this.#toSend.subarray(this.#sent, this.#sent + 65_536);
      this.#sent += chunk.length;
      if (!this.conn.write(chunk)) break;
    }
    if (this.#sent === this.#toSend.length && this.#endAfter) {
      this.#endAfter = false;
      this.conn.end();
    }
  }
}
