import { parseAddress } from "../../base/address.ts";
import type { Clock } from "../../base/clock.ts";
import { Fault } from "../../base/fault.ts";
import type { PacketBatch, TxTrain, UdpIo } from "../../base/packet.ts";
import type { PathTable } from "../../base/path-table.ts";
import { FfiSocket } from "./ffi-socket.ts";
import { ReceiveSlots } from "./receive-slots.ts";
import { SendSlots, SLOTS } from "./send-slots.ts";
import { EAGAIN, loadSystemCalls, type SystemCalls } from "./system-calls.ts";

export interface FfiOptions {
  /** 0 or absent: the system chooses. */
  readonly port?: number;
  readonly table: PathTable;
  /** Bind to this address only. Absent: every IPv4 address, and every IPv6 address where there are any. */
  readonly address?: string;
  readonly clock: Clock;
}

/** Reads of one socket before everything else gets its turn. */
const MOST_ROUNDS = 4;
/** After so many trains in a row that the kernel would not cut, it is not asked any more. */
const MOST_REFUSALS = 16;
/** Ports tried until one is free in both address families. */
const BIND_TRIES = 8;
const ANY_V4 = new Uint8Array(4);
const ANY_V6 = new Uint8Array(16);

class FfiIo implements UdpIo {
  readonly port: number;
  readonly #calls: SystemCalls;
  readonly #sockets: { readonly v4: FfiSocket | undefined; readonly v6: FfiSocket | undefined };
  readonly #table: PathTable;
  readonly #clock: Clock;
  readonly #receiving: ReceiveSlots;
  readonly #sending: SendSlots;
  /** Trains in use are those of slots [first, next). */
  #first = 0;
  #next = 0;
  /** The newest slot of each path: it may take more. */
  readonly #newest: Map<number, number> = new Map();
  #refusals = 0;
  #isWaiting = false;
  #waiting: (() => void)[] = [];
  #isClosed = false;

  constructor(calls: SystemCalls, options: FfiOptions, v4: FfiSocket | undefined, v6: FfiSocket | undefined) {
    this.port = (v4 ?? v6)!.port;
    this.#calls = calls;
    this.#sockets = { v4, v6 };
    this.#table = options.table;
    this.#clock = options.clock;
    this.#receiving = new ReceiveSlots(calls, options.table);
    this.#sending = new SendSlots(calls);
  }

  start(onBatch: (batch: PacketBatch, now: number) => void): void {
    for (const socket of [this.#sockets.v4, this.#sockets.v6]) {
      socket?.start((isReadable, isWritable) => {
        if (isWritable) this.#resume();
        if (isReadable) this.#drain(socket, onBatch);
      });
    }
  }

  #drain(socket: FfiSocket, onBatch: (batch: PacketBatch, now: number) => void): void {
    const { batch } = this.#receiving;
    for (let round = 0; round < MOST_ROUNDS && !this.#isClosed; round++) {
      const hasMore = this.#receiving.receive(socket.descriptor);
      if (batch.count > 0) onBatch(batch, this.#clock.now());
      if (!hasMore) return;
    }
  }

  claim(path: number, segmentBytes: number): TxTrain | undefined {
    const newest = this.#newest.get(path);
    if (newest !== undefined) {
      const train = this.#sending.train(newest);
      if (train.hasRoom(segmentBytes)) return train;
    }
    if (this.#next === SLOTS) this.flush();
    if (this.#isClosed || this.#next === SLOTS) return undefined;
    const train = this.#sending.train(this.#next);
    if (!train.open(path, segmentBytes)) return undefined;
    this.#newest.set(path, this.#next++);
    return train;
  }

  onWritable(wake: () => void): void {
    this.#waiting.push(wake);
  }

  flush(): void {
    if (this.#isWaiting || this.#next === 0) return;
    while (this.#first < this.#next) {
      if (!this.#sendRun()) return; // the rest goes when there is room
    }
    this.#first = 0;
    this.#next = 0;
    this.#newest.clear();
  }

  #socketOf(slot: number): FfiSocket | undefined {
    if (!this.#sending.prepare(slot, this.#table.get(this.#sending.train(slot).path))) return undefined;
    return this.#sending.isIpv6(slot) ? this.#sockets.v6 : this.#sockets.v4;
  }

  /** Sends as many trains as leave by one socket. False: it is full. */
  #sendRun(): boolean {
    const first = this.#first;
    const socket = this.#socketOf(first);
    if (socket === undefined) {
      this.#first++; // no such way: a lost datagram, as anywhere else
      return true;
    }
    if (this.#refusals >= MOST_REFUSALS) return this.#sendSingly(socket);
    let end = first + 1;
    while (end < this.#next && this.#socketOf(end) === socket) end++;
    const sent = this.#sending.send(socket.descriptor, first, end - first);
    if (sent > 0) {
      this.#first += sent;
      this.#refusals = 0;
      return true;
    }
    if (this.#calls.errno() === EAGAIN) return this.#wait(socket);
    if (this.#sending.train(first).count === 1) {
      this.#first++; // no route, refused and the like
      return true;
    }
    this.#refusals++;
    return this.#sendSingly(socket);
  }

  #sendSingly(socket: FfiSocket): boolean {
    const slot = this.#first;
    const { count } = this.#sending.train(slot);
    for (let done = 0; done < count; ) {
      const now = this.#sending.sendSingly(socket.descriptor, slot, done);
      if (now === done && done === 0 && this.#calls.errno() === EAGAIN) return this.#wait(socket);
      if (now === done) break; // the rest of it is lost
      done = now;
    }
    this.#first++;
    return true;
  }

  #wait(socket: FfiSocket): false {
    this.#isWaiting = true;
    socket.watch(true);
    return false;
  }

  #resume(): void {
    if (!this.#isWaiting) return;
    this.#isWaiting = false;
    for (const socket of [this.#sockets.v4, this.#sockets.v6]) socket?.watch(false);
    this.flush();
    if (this.#isWaiting) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.flush();
    this.#isClosed = true;
    this.#waiting = [];
    this.#sockets.v4?.close();
    this.#sockets.v6?.close();
  }
}

/** UDP through `node:ffi` on Linux: many datagrams a system call, cut and joined by the kernel (GSO, GRO). */
export async function openFfiIo(options: FfiOptions): Promise<UdpIo> {
  const calls = loadSystemCalls();
  const { address, port = 0 } = options;
  if (address !== undefined) {
    const bytes = parseAddress(address);
    if (bytes === undefined) {
      throw new Fault("UDP_BIND", `Cannot listen on UDP "${address}": not an IP address, wanted one of this machine`);
    }
    const socket = new FfiSocket(calls, bytes, port);
    return bytes.length === 16
      ? new FfiIo(calls, options, undefined, socket)
      : new FfiIo(calls, options, socket, undefined);
  }
  for (let tries = 1; ; tries++) {
    const v4 = new FfiSocket(calls, ANY_V4, port);
    try {
      return new FfiIo(calls, options, v4, new FfiSocket(calls, ANY_V6, v4.port));
    } catch {
      // No IPv6 here, or its port is taken: another port may be free in both families.
      if (port !== 0 || tries === BIND_TRIES) return new FfiIo(calls, options, v4, undefined);
      v4.close();
    }
  }
}
