import { createSocket, type Socket } from "node:dgram";
import type { Clock } from "../../base/clock.ts";
import { Fault, messageOf } from "../../base/fault.ts";
import { createBatch, PACKET, type PacketBatch, STRIDE, type TxTrain, type UdpIo } from "../../base/packet.ts";
import type { Path, PathTable } from "../../base/path-table.ts";
import { Train } from "./train.ts";

export interface DgramOptions {
  /** 0 or absent: the system chooses. */
  readonly port?: number;
  readonly table: PathTable;
  /** Bind to this address only. Absent: every IPv4 address, and every IPv6 address where there are any. */
  readonly address?: string;
  readonly clock: Clock;
}

/** What upstream asks for; the kernel gives what `net.core.[rw]mem_max` allows. */
const SOCKET_BUFFER_BYTES = 7 << 20;
const BATCH_PACKETS = 128;
const BATCH_BYTES = 256 * 1024;
const DATAGRAM_BYTES = 65_536;
const MOST_TRAINS = 128;
/** Ports tried until one is free in both address families. */
const BIND_TRIES = 8;

class DgramTrain extends Train {
  /** Datagrams given to the kernel and not yet released. */
  inFlight = 0;
}

class DgramIo implements UdpIo {
  readonly port: number;
  readonly #sockets: { readonly v4: Socket | undefined; readonly v6: Socket | undefined };
  readonly #table: PathTable;
  readonly #clock: Clock;
  readonly #batch: PacketBatch = createBatch(BATCH_PACKETS, BATCH_BYTES);
  #filled = 0;
  #lastPath: Extract<Path, { kind: "udp" }> | undefined;
  #lastNumber = -1;
  #isDelivering = false;
  #onBatch: ((batch: PacketBatch, now: number) => void) | undefined;
  readonly #free: DgramTrain[] = [];
  #trains = 0;
  /** Trains of this turn; the last of each path may still take more. */
  #open: DgramTrain[] = [];
  readonly #openByPath: Map<number, DgramTrain> = new Map();
  #waiting: (() => void)[] = [];
  #isClosed = false;

  constructor(options: DgramOptions, v4: Socket | undefined, v6: Socket | undefined) {
    this.port = (v4 ?? v6)!.address().port;
    this.#sockets = { v4, v6 };
    this.#table = options.table;
    this.#clock = options.clock;
    for (const socket of [v4, v6]) {
      // A late error (ICMP refusals and the like) is a lost datagram; WireGuard and disco notice by themselves.
      socket?.on("error", () => undefined);
      socket?.on("message", (datagram, { address, port }) => this.#receive(datagram, address, port));
    }
  }

  start(onBatch: (batch: PacketBatch, now: number) => void): void {
    this.#onBatch = onBatch;
  }

  #receive(datagram: Uint8Array, address: string, port: number): void {
    if (this.#onBatch === undefined || datagram.length === 0 || datagram.length > DATAGRAM_BYTES) return;
    const batch = this.#batch;
    if (batch.count === BATCH_PACKETS || this.#filled + datagram.length > batch.slab.length) this.#deliver();
    if (!this.#isDelivering) {
      this.#isDelivering = true;
      setImmediate(() => {
        this.#isDelivering = false;
        this.#deliver();
      });
    }
    const at = batch.count++ * STRIDE;
    batch.slab.set(datagram, this.#filled);
    batch.at[at + PACKET.offset] = this.#filled;
    batch.at[at + PACKET.length] = datagram.length;
    batch.at[at + PACKET.path] = this.#pathOf(address, port);
    batch.at[at + PACKET.peer] = -1;
    this.#filled += datagram.length;
  }

  /** Most datagrams come from where the one before came from. */
  #pathOf(address: string, port: number): number {
    const last = this.#lastPath;
    if (last?.port === port && last.address === address && this.#table.get(this.#lastNumber) === last) {
      return this.#lastNumber;
    }
    const number = this.#table.intern({ kind: "udp", address, port });
    const path = this.#table.get(number);
    this.#lastPath = path?.kind === "udp" ? path : undefined;
    this.#lastNumber = number;
    return number;
  }

  /** All datagrams of one poll phase, or as many as the batch holds. */
  #deliver(): void {
    if (this.#batch.count > 0 && !this.#isClosed) this.#onBatch?.(this.#batch, this.#clock.now());
    this.#batch.count = 0;
    this.#filled = 0;
  }

  claim(path: number, segmentBytes: number): TxTrain | undefined {
    const last = this.#openByPath.get(path);
    if (last?.hasRoom(segmentBytes)) return last;
    if (this.#isClosed) return undefined;
    let train = this.#free.pop();
    if (train === undefined) {
      if (this.#trains === MOST_TRAINS) return undefined;
      this.#trains++;
      train = new DgramTrain();
    }
    if (!train.open(path, segmentBytes)) {
      this.#free.push(train);
      return undefined;
    }
    this.#open.push(train);
    this.#openByPath.set(path, train);
    return train;
  }

  onWritable(wake: () => void): void {
    this.#waiting.push(wake);
  }

  flush(): void {
    const trains = this.#open;
    this.#open = [];
    this.#openByPath.clear();
    for (const train of trains) this.#send(train);
  }

  #send(train: DgramTrain): void {
    const path = this.#table.get(train.path);
    const isUdp = path?.kind === "udp" && !this.#isClosed;
    const socket = isUdp ? (path.address.includes(":") ? this.#sockets.v6 : this.#sockets.v4) : undefined;
    train.inFlight = 1; // ours, until all are handed over
    if (isUdp && socket !== undefined) {
      for (let i = 0; i < train.count; i++) {
        const length = i === train.count - 1 ? train.lastBytes : train.segmentBytes;
        train.inFlight++;
        try {
          // The callback also gets failures (no route, full buffer): a lost datagram, as anywhere on the way.
          socket.send(train.slab, i * train.segmentBytes, length, path.port, path.address, () => this.#release(train));
        } catch {
          this.#release(train); // an address that the system refuses at once
        }
      }
    }
    this.#release(train);
  }

  #release(train: DgramTrain): void {
    if (--train.inFlight > 0) return;
    this.#free.push(train);
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#onBatch = undefined;
    const closing = [this.#sockets.v4, this.#sockets.v6].map((socket) => {
      const { promise, resolve } = Promise.withResolvers<void>();
      if (socket === undefined) resolve();
      else socket.close(() => resolve());
      return promise;
    });
    await Promise.all(closing);
  }
}

/** UDP through `node:dgram`: one system call a datagram, works everywhere. */
export async function openDgramIo(options: DgramOptions): Promise<UdpIo> {
  const { address, port = 0 } = options;
  if (address !== undefined) {
    const socket = await bind(address.includes(":") ? "udp6" : "udp4", port, address);
    return address.includes(":") ? new DgramIo(options, undefined, socket) : new DgramIo(options, socket, undefined);
  }
  for (let tries = 1; ; tries++) {
    const v4 = await bind("udp4", port, undefined);
    try {
      return new DgramIo(options, v4, await bind("udp6", v4.address().port, undefined));
    } catch {
      // No IPv6 here, or its port is taken: another port may be free in both families.
      if (port !== 0 || tries === BIND_TRIES || !hasIpv6) return new DgramIo(options, v4, undefined);
      v4.close();
    }
  }
}

/** Kept from the last failure: a host without IPv6 is not asked again and again. */
let hasIpv6 = true;

function bind(type: "udp4" | "udp6", port: number, address: string | undefined): Promise<Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<Socket>();
  const socket = createSocket({ type, ipv6Only: type === "udp6", lookup: literal });
  socket.once("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EAFNOSUPPORT" || error.code === "EADDRNOTAVAIL") hasIpv6 = false;
    socket.close();
    const where = `${address ?? (type === "udp4" ? "0.0.0.0" : "::")} port ${port}`;
    reject(
      new Fault("UDP_BIND", `Cannot listen on UDP "${where}": ${messageOf(error)}, wanted a free port`, {
        hint: "choose another port, or 0 to let the system choose",
        cause: error,
      }),
    );
  });
  socket.bind({ port, ...(address === undefined ? {} : { address }), exclusive: true }, () => {
    socket.removeAllListeners("error");
    try {
      socket.setRecvBufferSize(SOCKET_BUFFER_BYTES);
      socket.setSendBufferSize(SOCKET_BUFFER_BYTES);
    } catch {
      // Smaller buffers only cost speed.
    }
    resolve(socket);
  });
  return promise;
}

/** All our destinations are addresses already: no resolver, no wait. */
function literal(
  address: string,
  options: unknown,
  done: (error: NodeJS.ErrnoException | null, address: string, family: number) => void,
): void {
  const answer = typeof options === "function" ? (options as typeof done) : done;
  answer(null, address, address.includes(":") ? 6 : 4);
}
