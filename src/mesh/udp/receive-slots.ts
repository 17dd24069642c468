import { formatAddress } from "../../base/address.ts";
import { PACKET, type PacketBatch, STRIDE } from "../../base/packet.ts";
import type { Path, PathTable } from "../../base/path-table.ts";
import { MessageSlots } from "./message-slots.ts";
import * as sys from "./system-calls.ts";

/** Messages a call; with GRO each may be a train of datagrams. */
const SLOTS = 16;
const DATAGRAM_BYTES = 65_536;
/** Not a power of two, so that the starts of all slots do not fall on the same lines of the cache. */
const SLOT_BYTES: number = DATAGRAM_BYTES + 1088;
/** The most datagrams that a kernel puts into one message. */
const MOST_SEGMENTS = 128;
const CACHED_PATHS = 256;
const ADDRESS_WORDS = 7;
const CONTROL_BYTES = 32;

/** Memory that `recvmmsg` fills: `SLOTS` messages side by side, and what says where each came from. */
export class ReceiveSlots {
  readonly batch: PacketBatch;
  readonly #calls: sys.SystemCalls;
  readonly #table: PathTable;
  readonly #slots: MessageSlots;
  readonly #words: Int32Array;
  readonly #slab: Uint8Array;
  // A small cache from kernel addresses to paths: text and its hash cost more than all else about a datagram.
  readonly #cachedWords: Int32Array = new Int32Array(CACHED_PATHS * ADDRESS_WORDS);
  readonly #cachedNumbers: Int32Array = new Int32Array(CACHED_PATHS).fill(-1);
  readonly #cachedPaths: (Path | undefined)[] = new Array<Path | undefined>(CACHED_PATHS).fill(undefined);

  constructor(calls: sys.SystemCalls, table: PathTable) {
    this.#calls = calls;
    this.#table = table;
    this.#slab = new Uint8Array(new ArrayBuffer(SLOTS * SLOT_BYTES));
    this.batch = { slab: this.#slab, at: new Int32Array(SLOTS * MOST_SEGMENTS * STRIDE), count: 0 };
    const slots = new MessageSlots(calls, SLOTS, CONTROL_BYTES);
    this.#slots = slots;
    this.#words = slots.words;
    const slabAt = calls.pointerOf(this.#slab);
    for (let slot = 0; slot < SLOTS; slot++) {
      const vector = slots.vectorAt(slot);
      slots.memory.writeBigUInt64LE(slabAt + BigInt(slot * SLOT_BYTES), vector + sys.IOVEC.base);
      slots.memory.writeBigUInt64LE(BigInt(DATAGRAM_BYTES), vector + sys.IOVEC.length);
      this.#reset(slot);
    }
  }

  /** What the kernel wrote over. */
  #reset(slot: number): void {
    const word = this.#slots.messageAt(slot) >> 2;
    this.#words[word + (sys.MMSGHDR.nameLength >> 2)] = sys.SOCKADDR.room;
    this.#words[word + (sys.MMSGHDR.controlLength >> 2)] = CONTROL_BYTES;
  }

  /** Fills the batch with what waits in the socket. True: there may be more. */
  receive(descriptor: number): boolean {
    const { batch } = this;
    batch.count = 0;
    const count = this.#calls.recvmmsg(descriptor, this.#slots.pointer, SLOTS, sys.MSG_DONTWAIT, 0n);
    for (let slot = 0; slot < count; slot++) {
      this.#take(slot);
      this.#reset(slot);
    }
    return count === SLOTS;
  }

  /** Cuts one message into datagrams. */
  #take(slot: number): void {
    const { at } = this.batch;
    const received = this.#words[(this.#slots.messageAt(slot) + sys.MMSGHDR.received) >> 2]!;
    const segment = this.#segmentBytes(slot, received);
    const path = this.#pathOf(slot);
    if (path < 0) return;
    let entry = this.batch.count * STRIDE;
    let offset = slot * SLOT_BYTES;
    for (let left = received; left > 0 && entry < at.length; left -= segment) {
      const length = Math.min(segment, left);
      at[entry + PACKET.offset] = offset;
      at[entry + PACKET.length] = length;
      at[entry + PACKET.path] = path;
      at[entry + PACKET.peer] = -1;
      entry += STRIDE;
      offset += length;
      this.batch.count++;
    }
  }

  #segmentBytes(slot: number, received: number): number {
    const words = this.#words;
    const length = words[(this.#slots.messageAt(slot) + sys.MMSGHDR.controlLength) >> 2]!;
    const control = this.#slots.controlAt(slot) >> 2;
    const isGro =
      length >= sys.CMSG.value + 4 &&
      words[control + (sys.CMSG.level >> 2)] === sys.SOL_UDP &&
      words[control + (sys.CMSG.type >> 2)] === sys.UDP_GRO;
    const segment = isGro ? words[control + (sys.CMSG.value >> 2)]! : received;
    return segment > 0 ? segment : received;
  }

  /** The table may have given a number away since: then it is asked again. */
  #pathOf(slot: number): number {
    const words = this.#words;
    const name = this.#slots.nameAt(slot) >> 2;
    const isIpv6 = (words[name]! & 0xffff) === sys.AF_INET6;
    const count = isIpv6 ? 6 : 2; // IPv6: the flow label is skipped below
    let hash = words[name]!;
    for (let i = isIpv6 ? 2 : 1; i < count; i++) hash = Math.imul(hash ^ words[name + i]!, 0x9e3779b1);
    const entry = (hash ^ (hash >>> 16)) & (CACHED_PATHS - 1);
    const cached = entry * ADDRESS_WORDS;
    let isSame = this.#cachedWords[cached] === words[name];
    for (let i = isIpv6 ? 2 : 1; isSame && i < count; i++) isSame = this.#cachedWords[cached + i] === words[name + i];
    const known = this.#cachedNumbers[entry]!;
    if (isSame && known >= 0 && this.#table.get(known) === this.#cachedPaths[entry]) return known;
    const number = this.#intern(this.#slots.nameAt(slot), isIpv6);
    this.#cachedNumbers[entry] = number;
    this.#cachedPaths[entry] = this.#table.get(number);
    for (let i = 0; i < count; i++) this.#cachedWords[cached + i] = words[name + i]!;
    return number;
  }

  #intern(at: number, isIpv6: boolean): number {
    const start = at + (isIpv6 ? sys.SOCKADDR.v6 : sys.SOCKADDR.v4);
    const { memory } = this.#slots;
    const address = formatAddress(memory.subarray(start, start + (isIpv6 ? 16 : 4)));
    return this.#table.intern({ kind: "udp", address, port: memory.readUInt16BE(at + sys.SOCKADDR.port) });
  }
}
