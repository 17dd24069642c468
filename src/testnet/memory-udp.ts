import type { AddressPort } from "../base/address.ts";
import { createBatch, PACKET, type PacketBatch, STRIDE, type TxTrain, type UdpIo } from "../base/packet.ts";
import type { PathTable } from "../base/path-table.ts";

const TRAIN_BYTES = 64 * 1024;
const TRAIN_DATAGRAMS = 64;
const MOST_TRAINS = 128;
const BATCH_PACKETS = 128;
const BATCH_BYTES = 256 * 1024;

export interface MemoryUdpOptions {
  readonly port: number;
  readonly table: PathTable;
  readonly now: () => number;
  /** The datagram is the receiver's to keep. */
  readonly send: (to: AddressPort, datagram: Uint8Array) => void;
  readonly onClose: () => void;
}

class MemoryTrain implements TxTrain {
  readonly slab: Uint8Array = new Uint8Array(TRAIN_BYTES);
  readonly path: number;
  readonly segmentBytes: number;
  readonly lengths: number[] = [];
  offset = 0;
  isEnded = false;

  constructor(path: number, segmentBytes: number) {
    this.path = path;
    this.segmentBytes = segmentBytes;
  }

  push(length: number): boolean {
    if (this.isEnded || length > this.segmentBytes || length <= 0) return false;
    this.lengths.push(length);
    this.offset += length;
    const isFull = this.lengths.length === TRAIN_DATAGRAMS || this.offset + this.segmentBytes > TRAIN_BYTES;
    this.isEnded = isFull || length < this.segmentBytes;
    return true;
  }
}

/** A UDP socket of a host of the test internet. */
export class MemoryUdp implements UdpIo {
  readonly port: number;
  readonly #options: MemoryUdpOptions;
  readonly #batch: PacketBatch = createBatch(BATCH_PACKETS, BATCH_BYTES);
  #filled = 0;
  #trains: MemoryTrain[] = [];
  #onBatch: ((batch: PacketBatch, now: number) => void) | undefined;
  #isClosed = false;

  constructor(options: MemoryUdpOptions) {
    this.#options = options;
    this.port = options.port;
  }

  start(onBatch: (batch: PacketBatch, now: number) => void): void {
    this.#onBatch = onBatch;
  }

  claim(path: number, segmentBytes: number): TxTrain | undefined {
    const last = this.#trains.findLast((train) => train.path === path);
    if (last !== undefined && !last.isEnded && last.segmentBytes === segmentBytes) return last;
    if (this.#isClosed || segmentBytes > TRAIN_BYTES || this.#trains.length === MOST_TRAINS) return undefined;
    const train = new MemoryTrain(path, segmentBytes);
    this.#trains.push(train);
    return train;
  }

  /** Never full for longer than a turn: `flush` takes everything. */
  onWritable(wake: () => void): void {
    queueMicrotask(wake);
  }

  flush(): void {
    const trains = this.#trains;
    this.#trains = [];
    for (const { path, slab, lengths } of trains) {
      const way = this.#options.table.get(path);
      let offset = 0;
      for (const length of lengths) {
        if (way?.kind === "udp") this.#options.send(way, slab.slice(offset, offset + length));
        offset += length;
      }
    }
  }

  /** A datagram from the internet; `deliver` gives all that came in one instant as one batch. */
  receive(datagram: Uint8Array, { address, port }: AddressPort): void {
    if (this.#isClosed || datagram.length === 0 || datagram.length > TRAIN_BYTES) return;
    const batch = this.#batch;
    if (batch.count === BATCH_PACKETS || this.#filled + datagram.length > batch.slab.length) this.deliver();
    const at = batch.count++ * STRIDE;
    batch.slab.set(datagram, this.#filled);
    batch.at[at + PACKET.offset] = this.#filled;
    batch.at[at + PACKET.length] = datagram.length;
    batch.at[at + PACKET.path] = this.#options.table.intern({ kind: "udp", address, port });
    batch.at[at + PACKET.peer] = -1;
    this.#filled += datagram.length;
  }

  deliver(): void {
    if (this.#batch.count > 0 && !this.#isClosed) this.#onBatch?.(this.#batch, this.#options.now());
    this.#batch.count = 0;
    this.#filled = 0;
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#trains = [];
    this.#options.onClose();
  }
}
