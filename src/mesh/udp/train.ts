import type { TxTrain } from "../../base/packet.ts";

const TRAIN_BYTES = 64 * 1024;
/** What the kernel cuts in one call (`UDP_MAX_SEGMENTS` before Linux 6.9), and the bytes of one IP packet. */
const MOST_DATAGRAMS = 64;
const MOST_BYTES = 65_000;

/** Datagrams to one path, one after another; all as long as the first but the last. */
export class Train implements TxTrain {
  readonly slab: Uint8Array = new Uint8Array(new ArrayBuffer(TRAIN_BYTES));
  segmentBytes = 0;
  offset = 0;
  path = -1;
  count = 0;
  /** Length of the last datagram. */
  lastBytes = 0;
  #isEnded = false;

  /** False: no train holds a datagram of that length. */
  open(path: number, segmentBytes: number): boolean {
    this.path = path;
    this.segmentBytes = segmentBytes;
    this.offset = 0;
    this.count = 0;
    this.#isEnded = false;
    return segmentBytes <= TRAIN_BYTES;
  }

  /** It may take one more datagram of `bytes` bytes. */
  hasRoom(bytes: number): boolean {
    return !this.#isEnded && bytes <= this.segmentBytes;
  }

  push(length: number): boolean {
    if (this.#isEnded || length > this.segmentBytes || length <= 0) return false;
    if (this.count === 0) this.segmentBytes = length;
    this.offset += length;
    this.count++;
    this.lastBytes = length;
    const isFull = this.count === MOST_DATAGRAMS || this.offset + this.segmentBytes > MOST_BYTES;
    this.#isEnded = isFull || length < this.segmentBytes;
    return true;
  }
}
