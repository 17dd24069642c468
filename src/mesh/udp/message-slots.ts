import * as sys from "./system-calls.ts";

/**
 * What `recvmmsg` and `sendmmsg` are told of several messages, each kind of record side by side: headers, vectors of one part,
 * addresses, control messages (recvmmsg(2), cmsg(3)).
 */
export class MessageSlots {
  readonly memory: Buffer;
  /** The same, in words of 32 bits. */
  readonly words: Int32Array;
  /** Where the kernel finds it. */
  readonly pointer: bigint;
  readonly #vectors: number;
  readonly #names: number;
  readonly #controls: number;
  readonly #controlBytes: number;

  constructor(calls: sys.SystemCalls, count: number, controlBytes: number) {
    this.#vectors = count * sys.MMSGHDR.end;
    this.#names = this.#vectors + count * sys.IOVEC.end;
    this.#controls = this.#names + count * sys.SOCKADDR.room;
    this.#controlBytes = controlBytes;
    const memory = Buffer.allocUnsafeSlow(this.#controls + count * controlBytes).fill(0);
    this.memory = memory;
    this.words = new Int32Array(memory.buffer, memory.byteOffset, memory.length >> 2);
    this.pointer = calls.pointerOf(memory);
    for (let slot = 0; slot < count; slot++) {
      const message = this.messageAt(slot);
      memory.writeBigUInt64LE(this.pointer + BigInt(this.nameAt(slot)), message + sys.MMSGHDR.name);
      memory.writeBigUInt64LE(this.pointer + BigInt(this.vectorAt(slot)), message + sys.MMSGHDR.vector);
      memory.writeBigUInt64LE(1n, message + sys.MMSGHDR.vectorCount);
      memory.writeBigUInt64LE(this.pointer + BigInt(this.controlAt(slot)), message + sys.MMSGHDR.control);
    }
  }

  messageAt(slot: number): number {
    return slot * sys.MMSGHDR.end;
  }

  vectorAt(slot: number): number {
    return this.#vectors + slot * sys.IOVEC.end;
  }

  nameAt(slot: number): number {
    return this.#names + slot * sys.SOCKADDR.room;
  }

  controlAt(slot: number): number {
    return this.#controls + slot * this.#controlBytes;
  }
}
