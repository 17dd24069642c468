import { type AddressBytes, formatAddress } from "../../base/address.ts";
import { Fault } from "../../base/fault.ts";
import * as sys from "./system-calls.ts";

/** What upstream asks for; the kernel gives what `net.core.[rw]mem_max` allows, and all of it to root. */
const SOCKET_BUFFER_BYTES = 7 << 20;

export type OnReady = (isReadable: boolean, isWritable: boolean) => void;

/** Sockets by the address of their poll handle: one C callback serves all, so that none is ever freed under libuv. */
const sockets: Map<bigint, FfiSocket> = new Map();
let readyCallback: bigint | undefined;

/** One kernel socket for UDP that is ours alone: Node does not know of it, libuv only watches it. */
export class FfiSocket {
  readonly port: number;
  readonly descriptor: number;
  readonly isIpv6: boolean;
  readonly #calls: sys.SystemCalls;
  readonly #handle: Buffer;
  readonly #handleAt: bigint;
  #onReady: OnReady | undefined;

  /** Throws UDP_BIND. */
  constructor(calls: sys.SystemCalls, address: AddressBytes, port: number) {
    this.#calls = calls;
    this.isIpv6 = address.length === 16;
    const descriptor = calls.socket(this.isIpv6 ? sys.AF_INET6 : sys.AF_INET, sys.SOCK_DGRAM_NONBLOCK_CLOEXEC, 0);
    this.descriptor = descriptor;
    if (descriptor < 0) throw bindFault(address, port, calls.errno());
    this.#handle = Buffer.allocUnsafeSlow(calls.pollBytes).fill(0);
    this.#handleAt = calls.pointerOf(this.#handle);
    if (this.isIpv6) this.#set(sys.IPPROTO_IPV6, sys.IPV6_V6ONLY, 1);
    for (const [forced, plain] of [
      [sys.SO_RCVBUFFORCE, sys.SO_RCVBUF],
      [sys.SO_SNDBUFFORCE, sys.SO_SNDBUF],
    ] as const) {
      if (!this.#set(sys.SOL_SOCKET, forced, SOCKET_BUFFER_BYTES))
        this.#set(sys.SOL_SOCKET, plain, SOCKET_BUFFER_BYTES);
    }
    this.#set(sys.SOL_UDP, sys.UDP_GRO, 1); // refused by an old kernel: datagrams then come one by one
    const bound = this.#bind(address, port);
    const failed = bound < 0 ? calls.errno() : calls.uv_poll_init(calls.loop, this.#handleAt, descriptor);
    if (failed !== 0) {
      calls.close(descriptor);
      throw bindFault(address, port, Math.abs(failed));
    }
    this.port = bound;
    sockets.set(this.#handleAt, this);
  }

  #set(level: number, option: number, value: number): boolean {
    const memory = Buffer.allocUnsafeSlow(4);
    memory.writeInt32LE(value);
    return this.#calls.setsockopt(this.descriptor, level, option, this.#calls.pointerOf(memory), 4) === 0;
  }

  /** The port, or -1. */
  #bind(address: AddressBytes, port: number): number {
    const memory = Buffer.allocUnsafeSlow(sys.SOCKADDR.room + 4).fill(0);
    const at = this.#calls.pointerOf(memory);
    writeSockaddr(memory, 0, address, port);
    if (this.#calls.bind(this.descriptor, at, this.isIpv6 ? sys.SOCKADDR.v6End : sys.SOCKADDR.v4End) !== 0) return -1;
    memory.writeUInt32LE(sys.SOCKADDR.room, sys.SOCKADDR.room);
    if (this.#calls.getsockname(this.descriptor, at, at + BigInt(sys.SOCKADDR.room)) !== 0) return -1;
    return memory.readUInt16BE(sys.SOCKADDR.port);
  }

  /** `onReady` runs as a task of its own; it must not throw. Called again while there is something to read. */
  start(onReady: OnReady): void {
    this.#onReady = onReady;
    this.watch(false);
  }

  /** Watch for room to send, too. */
  watch(isFull: boolean): void {
    if (this.#onReady === undefined) return;
    readyCallback ??= this.#calls.readyCallback(dispatch);
    this.#calls.uv_poll_start(this.#handleAt, sys.UV_READABLE | (isFull ? sys.UV_WRITABLE : 0), readyCallback);
  }

  ready(events: number): void {
    this.#onReady?.((events & ~sys.UV_WRITABLE) !== 0, (events & sys.UV_WRITABLE) !== 0);
  }

  close(): void {
    if (!sockets.delete(this.#handleAt)) return;
    this.#onReady = undefined;
    this.#calls.uv_poll_stop(this.#handleAt);
    this.#calls.uv_close(this.#handleAt, 0n);
    this.#calls.close(this.descriptor);
    keepUntilClosed(this.#handle);
  }
}

function dispatch(handle: bigint, status: number, events: number): void {
  const socket = sockets.get(handle);
  if (status < 0) socket?.watch(false); // libuv stops to watch what had an error
  socket?.ready(status < 0 ? sys.UV_READABLE : events);
}

/** libuv still uses a closed handle at the end of the turn: it is let go two turns later. */
function keepUntilClosed(handle: Buffer): void {
  setImmediate(() => setImmediate(() => handle.fill(0)));
}

// A loop that ends must find no handle whose memory is JavaScript's.
process.on("exit", () => {
  for (const socket of sockets.values()) socket.close();
});

/** `sockaddr_in` or `sockaddr_in6` at `offset` of zeroed memory. */
export function writeSockaddr(memory: Buffer, offset: number, address: AddressBytes, port: number): void {
  const isIpv6 = address.length === 16;
  memory.writeUInt16LE(isIpv6 ? sys.AF_INET6 : sys.AF_INET, offset + sys.SOCKADDR.family);
  memory.writeUInt16BE(port, offset + sys.SOCKADDR.port);
  memory.set(address, offset + (isIpv6 ? sys.SOCKADDR.v6 : sys.SOCKADDR.v4));
}

const ERRORS: ReadonlyMap<number, string> = new Map([
  [13, "permission denied"],
  [97, "no such address family here"],
  [98, "address already in use"],
  [99, "no such address here"],
]);

function bindFault(address: AddressBytes, port: number, error: number): Fault {
  const found = ERRORS.get(error) ?? `error ${error}`;
  const where = `${formatAddress(address)} port ${port}`;
  return new Fault("UDP_BIND", `Cannot listen on UDP "${where}": ${found}, wanted a free port`, {
    hint: "choose another port, or 0 to let the system choose",
  });
}
