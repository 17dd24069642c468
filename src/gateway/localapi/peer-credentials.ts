import type { Socket } from "node:net";
import { endianness } from "node:os";

/** Who is at the other end of a unix socket, as the kernel noted it at `connect`. */
export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/** Linux (`asm-generic/socket.h`); other systems and architectures are not asked. */
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const CREDENTIALS_BYTES = 12; // struct ucred: pid, uid, gid

/**
 * Asks the kernel by `node:ffi`; `undefined` where that does not exist. The reader gives `undefined` for a socket that it
 * cannot ask about: whoever calls must then refuse.
 */
export function peerCredentialsReader(): ((socket: Socket) => PeerCredentials | undefined) | undefined {
  const isKnown = process.platform === "linux" && (process.arch === "x64" || process.arch === "arm64");
  if (!isKnown || endianness() !== "LE") return undefined;
  try {
    const ffi = process.getBuiltinModule("node:ffi");
    if (ffi === undefined) return undefined;
    const { functions } = ffi.dlopen(null, {
      getsockopt: { return: "i32", arguments: ["i32", "i32", "i32", "u64", "u64"] },
    });
    const memory = Buffer.allocUnsafeSlow(CREDENTIALS_BYTES + 4);
    const pointer = ffi.getRawPointer(memory);
    return (socket) => {
      const descriptor = descriptorOf(socket);
      if (descriptor === undefined) return undefined;
      memory.fill(0xff);
      memory.writeUInt32LE(CREDENTIALS_BYTES, CREDENTIALS_BYTES);
      const length = pointer + BigInt(CREDENTIALS_BYTES);
      const failed = Number(functions.getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, pointer, length)) !== 0;
      if (failed || memory.readUInt32LE(CREDENTIALS_BYTES) !== CREDENTIALS_BYTES) return undefined;
      return { pid: memory.readInt32LE(0), uid: memory.readUInt32LE(4), gid: memory.readUInt32LE(8) };
    };
  } catch {
    return undefined; // forbidden (--permission), or another C library
  }
}

/** Node has no public way to a socket's descriptor: it is in the handle. Absent after close. */
function descriptorOf(socket: Socket): number | undefined {
  const { _handle: handle } = socket as { readonly _handle?: { readonly fd?: number } | null };
  const descriptor = handle?.fd;
  return typeof descriptor === "number" && descriptor >= 0 ? descriptor : undefined;
}
