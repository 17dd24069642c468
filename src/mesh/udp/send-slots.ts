import { parseAddress } from "../../base/address.ts";
import type { Path } from "../../base/path-table.ts";
import { writeSockaddr } from "./ffi-socket.ts";
import { MessageSlots } from "./message-slots.ts";
import * as sys from "./system-calls.ts";
import { Train } from "./train.ts";

/** Trains of one turn; a train is one message that the kernel cuts (`UDP_SEGMENT`, udp(7)). */
export const SLOTS = 128;
/** Where a device cannot cut (no checksums in hardware), a train goes as so many messages. */
const MOST_SINGLES = 64;
const FLAGS: number = sys.MSG_DONTWAIT | sys.MSG_NOSIGNAL;

/** Memory that `sendmmsg` reads: one message for each train, in the order in which trains were begun. */
export class SendSlots {
  readonly #calls: sys.SystemCalls;
  readonly #slots: MessageSlots;
  readonly #singles: Buffer;
  readonly #singlesAt: bigint;
  readonly #trains: Train[] = [];
  /** What each slot's address says; made anew only when it changes. */
  readonly #paths: (Path | undefined)[] = [];
  readonly #isIpv6: Uint8Array = new Uint8Array(SLOTS);

  constructor(calls: sys.SystemCalls) {
    this.#calls = calls;
    const slots = new MessageSlots(calls, SLOTS, sys.CMSG.end);
    this.#slots = slots;
    this.#singles = Buffer.allocUnsafeSlow(MOST_SINGLES * (sys.MMSGHDR.end + sys.IOVEC.end)).fill(0);
    this.#singlesAt = calls.pointerOf(this.#singles);
    for (let slot = 0; slot < SLOTS; slot++) {
      const control = slots.controlAt(slot);
      slots.memory.writeBigUInt64LE(BigInt(sys.CMSG.value + 2), control + sys.CMSG.length);
      slots.memory.writeInt32LE(sys.SOL_UDP, control + sys.CMSG.level);
      slots.memory.writeInt32LE(sys.UDP_SEGMENT, control + sys.CMSG.type);
    }
  }

  /** The train of a slot; its memory is taken when it is first used. */
  train(slot: number): Train {
    const known = this.#trains[slot];
    if (known !== undefined) return known;
    const train = new Train();
    this.#trains[slot] = train;
    const vector = this.#slots.vectorAt(slot);
    this.#slots.memory.writeBigUInt64LE(this.#calls.pointerOf(train.slab), vector + sys.IOVEC.base);
    return train;
  }

  /** Makes a filled train ready to go. False: it has no such way. */
  prepare(slot: number, path: Path | undefined): boolean {
    const train = this.#trains[slot]!;
    if (path?.kind !== "udp" || train.count === 0) return false;
    if (this.#paths[slot] !== path && !this.#address(slot, path)) return false;
    const slots = this.#slots;
    const { words } = slots;
    words[(slots.vectorAt(slot) + sys.IOVEC.length) >> 2] = train.offset;
    words[(slots.messageAt(slot) + sys.MMSGHDR.controlLength) >> 2] = train.count > 1 ? sys.CMSG.end : 0;
    words[(slots.controlAt(slot) + sys.CMSG.value) >> 2] = train.segmentBytes;
    return true;
  }

  #address(slot: number, path: Extract<Path, { kind: "udp" }>): boolean {
    const address = parseAddress(path.address);
    this.#paths[slot] = undefined;
    if (address === undefined) return false;
    const { memory, words } = this.#slots;
    const at = this.#slots.nameAt(slot);
    memory.fill(0, at, at + sys.SOCKADDR.room);
    writeSockaddr(memory, at, address, path.port);
    const isIpv6 = address.length === 16;
    this.#isIpv6[slot] = isIpv6 ? 1 : 0;
    const length = isIpv6 ? sys.SOCKADDR.v6End : sys.SOCKADDR.v4End;
    words[(this.#slots.messageAt(slot) + sys.MMSGHDR.nameLength) >> 2] = length;
    this.#paths[slot] = path;
    return true;
  }

  isIpv6(slot: number): boolean {
    return this.#isIpv6[slot] === 1;
  }

  /** Sends the prepared trains of `count` slots from `first` on. How many went, or -1 and `errno` says why. */
  send(descriptor: number, first: number, count: number): number {
    const from = this.#slots.pointer + BigInt(this.#slots.messageAt(first));
    return this.#calls.sendmmsg(descriptor, from, count, FLAGS);
  }

  /** Sends a prepared train uncut, from datagram `begun` on. How many of its datagrams are gone now. */
  sendSingly(descriptor: number, slot: number, begun: number): number {
    const train = this.#trains[slot]!;
    const memory = this.#singles;
    const vectors = MOST_SINGLES * sys.MMSGHDR.end;
    const slabAt = this.#calls.pointerOf(train.slab);
    for (let i = begun; i < train.count; i++) {
      const message = i * sys.MMSGHDR.end;
      const vector = vectors + i * sys.IOVEC.end;
      this.#slots.memory.copy(memory, message, this.#slots.messageAt(slot), this.#slots.messageAt(slot + 1));
      memory.writeBigUInt64LE(this.#singlesAt + BigInt(vector), message + sys.MMSGHDR.vector);
      memory.writeUInt32LE(0, message + sys.MMSGHDR.controlLength);
      memory.writeBigUInt64LE(slabAt + BigInt(i * train.segmentBytes), vector + sys.IOVEC.base);
      const length = i === train.count - 1 ? train.lastBytes : train.segmentBytes;
      memory.writeBigUInt64LE(BigInt(length), vector + sys.IOVEC.length);
    }
    const from = this.#singlesAt + BigInt(begun * sys.MMSGHDR.end);
    const sent = this.#calls.sendmmsg(descriptor, from, train.count - begun, FLAGS);
    return begun + Math.max(0, sent);
  }
}
