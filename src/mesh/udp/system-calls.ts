import { endianness } from "node:os";

/** What is used of libc and libuv through `node:ffi`. Numbers and layouts below are those of 64-bit Linux. */
export interface SystemCalls {
  socket(family: number, type: number, protocol: number): number;
  bind(descriptor: number, address: bigint, length: number): number;
  getsockname(descriptor: number, address: bigint, length: bigint): number;
  setsockopt(descriptor: number, level: number, option: number, value: bigint, length: number): number;
  close(descriptor: number): number;
  recvmmsg(descriptor: number, messages: bigint, count: number, flags: number, timeout: bigint): number;
  sendmmsg(descriptor: number, messages: bigint, count: number, flags: number): number;
  uv_poll_init(loop: bigint, handle: bigint, descriptor: number): number;
  uv_poll_start(handle: bigint, events: number, callback: bigint): number;
  uv_poll_stop(handle: bigint): number;
  uv_close(handle: bigint, callback: bigint): void;
  /** Of the call just made that gave -1. */
  errno(): number;
  pointerOf(memory: Uint8Array): bigint;
  readonly loop: bigint;
  readonly pollBytes: number;
  /**
   * A C callback for `uv_poll_start`. Inside it runs only Node's own `setImmediate`, so that `onReady` is an ordinary
   * task: an exception of ours would otherwise meet C frames, and microtasks would not run after it.
   */
  readyCallback(onReady: (handle: bigint, status: number, events: number) => void): bigint;
}

export const AF_INET = 2;
export const AF_INET6 = 10;
export const SOCK_DGRAM_NONBLOCK_CLOEXEC: number = 2 | 0o4000 | 0o2_000_000;
export const SOL_SOCKET = 1;
export const SO_SNDBUF = 7;
export const SO_RCVBUF = 8;
export const SO_SNDBUFFORCE = 32;
export const SO_RCVBUFFORCE = 33;
export const IPPROTO_IPV6 = 41;
export const IPV6_V6ONLY = 26;
export const SOL_UDP = 17;
export const UDP_SEGMENT = 103;
export const UDP_GRO = 104;
export const MSG_DONTWAIT = 0x40;
export const MSG_NOSIGNAL = 0x4000;
export const EAGAIN = 11;
export const UV_READABLE = 1;
export const UV_WRITABLE = 2;
const UV_POLL = 8;

/** `struct mmsghdr`: a `msghdr` and what came. */
export const MMSGHDR = {
  name: 0,
  nameLength: 8,
  vector: 16,
  vectorCount: 24,
  control: 32,
  controlLength: 40,
  flags: 48,
  received: 56,
  end: 64,
} as const;
export const IOVEC = { base: 0, length: 8, end: 16 } as const;
/** Control messages hold one number here: `UDP_SEGMENT` 16 bits, `UDP_GRO` 32. */
export const CMSG = { length: 0, level: 8, type: 12, value: 16, end: 24 } as const;
export const SOCKADDR = { family: 0, port: 2, v4: 4, v6: 8, v4End: 16, v6End: 28, room: 32 } as const;

let loaded: SystemCalls | undefined;

/** Throws whatever says that it does not work here: another system, no FFI, no permission, no such symbol. */
export function loadSystemCalls(): SystemCalls {
  loaded ??= load();
  return loaded;
}

function load(): SystemCalls {
  const is64Bit = process.arch === "x64" || process.arch === "arm64";
  const ffi = process.getBuiltinModule("node:ffi");
  if (process.platform !== "linux" || !is64Bit || endianness() !== "LE" || ffi === undefined) {
    throw new Error("no Linux on x64 or arm64, or no node:ffi");
  }
  const { lib, functions } = ffi.dlopen(null, {
    socket: { return: "i32", arguments: ["i32", "i32", "i32"] },
    bind: { return: "i32", arguments: ["i32", "u64", "u32"] },
    getsockname: { return: "i32", arguments: ["i32", "u64", "u64"] },
    setsockopt: { return: "i32", arguments: ["i32", "i32", "i32", "u64", "u32"] },
    close: { return: "i32", arguments: ["i32"] },
    recvmmsg: { return: "i32", arguments: ["i32", "u64", "u32", "i32", "u64"] },
    sendmmsg: { return: "i32", arguments: ["i32", "u64", "u32", "i32"] },
    uv_poll_init: { return: "i32", arguments: ["u64", "u64", "i32"] },
    uv_poll_start: { return: "i32", arguments: ["u64", "i32", "u64"] },
    uv_poll_stop: { return: "i32", arguments: ["u64"] },
    uv_close: { return: "void", arguments: ["u64", "u64"] },
    uv_handle_size: { return: "u64", arguments: ["i32"] },
    __errno_location: { return: "u64", arguments: [] },
  });
  const errnoAt = functions.__errno_location();
  return {
    ...functions,
    errno: () => ffi.getInt32(errnoAt),
    pointerOf: (memory) => ffi.getRawPointer(memory),
    loop: ffi.getCurrentEventLoop(),
    pollBytes: Number(functions.uv_handle_size(UV_POLL)),
    readyCallback: (onReady) =>
      lib.registerCallback(
        { return: "void", arguments: ["u64", "i32", "i32"] },
        setImmediate.bind(undefined, onReady) as unknown as () => undefined,
      ),
  };
}
