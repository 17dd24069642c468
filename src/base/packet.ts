/**
 * Packets of one turn, in one slab. `at` holds `STRIDE` numbers a packet, at the indices of `PACKET`.
 * Owner: who calls. A stage rewrites in place and may only drop. Dead when the call returns.
 */
export interface PacketBatch {
  slab: Uint8Array;
  at: Int32Array;
  count: number;
}

/** Where each number of a packet stands within its stride. */
export const PACKET = {
  offset: 0,
  length: 1,
  /** Interned way the datagram came: see `PathTable`. */
  path: 2,
  /** Index of the WireGuard peer, once decrypted; -1 before. */
  peer: 3,
  /** IP protocol number of the inner packet. */
  protocol: 4,
  sourcePort: 5,
  destinationPort: 6,
} as const;

export const STRIDE = 7;

/** A batch with room for `packets` packets in `bytes` bytes. */
export function createBatch(packets: number, bytes: number): PacketBatch {
  return { slab: new Uint8Array(bytes), at: new Int32Array(packets * STRIDE), count: 0 };
}

/**
 * Room for datagrams to one path, written one after another at `offset` of `slab`. All are `segmentBytes` long except
 * the last, which may be shorter (that is what one GSO send allows).
 */
export interface TxTrain {
  readonly slab: Uint8Array;
  /** Where the next datagram starts; at least `segmentBytes` may be written there. */
  readonly offset: number;
  readonly segmentBytes: number;
  /** Takes the `length` bytes at `offset` as a datagram. False: the train is full or was ended by a short one. */
  push(length: number): boolean;
}

/** Datagrams in and out of one UDP socket (or one per family). */
export interface UdpIo {
  /** The bound port. */
  readonly port: number;
  /** `onBatch` must not throw and must not keep the batch. */
  start(onBatch: (batch: PacketBatch, now: number) => void): void;
  /** Room for one train to one path; `undefined` = full, wait for `onWritable`. */
  claim(path: number, segmentBytes: number): TxTrain | undefined;
  onWritable(wake: () => void): void;
  /** Sends what was pushed. Once, at the end of the turn. */
  flush(): void;
  close(): Promise<void>;
}
