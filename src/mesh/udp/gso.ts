import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { endianness } from "node:os";
import { parseAddress } from "../../base/address.ts";

/** Hands the kernel many datagrams to one address in one call, which then cuts them (`UDP_SEGMENT`, udp(7)). */
export interface GsoSender {
  /**
   * `bytes` bytes of `slab`, cut every `segmentBytes`. False: the kernel took nothing, send them one by one.
   * `slab` must be an array of its own, not a view into a pool of Node's.
   */
  send(socket: Socket, slab: Uint8Array, offset: number, bytes: number, segmentBytes: number, to: GsoTarget): boolean;
}

export interface GsoTarget {
  readonly address: string;
  readonly port: number;
}

/** The kernel's limits of one such call: datagrams, and bytes of one IP packet. */
export const GSO_SEGMENTS = 64;
export const GSO_BYTES = 65_000;

/** `struct msghdr`, `iovec`, `sockaddr_in6` and `cmsghdr` of 64-bit Linux, side by side in one piece of memory. */
const AT = { header: 0, vector: 64, address: 80, control: 112 } as const;
const HEADER = { name: 0, nameLength: 8, vector: 16, vectors: 24, control: 32, controlLength: 40 } as const;
const MEMORY_BYTES = 136;
const CONTROL_BYTES = 24;
const AF_INET = 2;
const AF_INET6 = 10;
const SOL_UDP = 17;
const UDP_SEGMENT = 103;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
/** After so many refusals in a row (an interface without checksums, say) it is not tried any more. */
const MOST_REFUSALS = 16;
const SELF_TEST_MS = 500;

let probed: Promise<GsoSender | undefined> | undefined;

/** Once per process: `undefined` where the platform has no FFI, forbids it, or the kernel does not cut as promised. */
export function probeGso(): Promise<GsoSender | undefined> {
  probed ??= probe();
  return probed;
}

async function probe(): Promise<GsoSender | undefined> {
  const is64Bit = process.arch === "x64" || process.arch === "arm64";
  if (process.platform !== "linux" || !is64Bit || endianness() !== "LE") return undefined;
  try {
    const sender = open();
    return sender !== undefined && (await cutsRight(sender)) ? sender : undefined;
  } catch {
    return undefined; // no such symbol, no permission, no loopback: dgram alone does it
  }
}

function open(): GsoSender | undefined {
  const ffi = process.getBuiltinModule("node:ffi");
  if (ffi === undefined) return undefined;
  const { functions } = ffi.dlopen(null, {
    sendmsg: { return: "i64", arguments: ["i32", "u64", "i32"] },
  });
  const memory = Buffer.allocUnsafeSlow(MEMORY_BYTES).fill(0);
  const base = ffi.getRawPointer(memory);
  memory.writeBigUInt64LE(base + BigInt(AT.address), AT.header + HEADER.name);
  memory.writeBigUInt64LE(base + BigInt(AT.vector), AT.header + HEADER.vector);
  memory.writeBigUInt64LE(1n, AT.header + HEADER.vectors);
  memory.writeBigUInt64LE(base + BigInt(AT.control), AT.header + HEADER.control);
  memory.writeBigUInt64LE(BigInt(CONTROL_BYTES), AT.header + HEADER.controlLength);
  memory.writeBigUInt64LE(18n, AT.control); // cmsg_len: header 16 and the u16
  memory.writeInt32LE(SOL_UDP, AT.control + 8);
  memory.writeInt32LE(UDP_SEGMENT, AT.control + 12);
  const pointers = new WeakMap<Uint8Array, bigint>();
  let refusals = 0;
  return {
    send(socket, slab, offset, bytes, segmentBytes, to) {
      const descriptor = descriptorOf(socket);
      const address = parseAddress(to.address);
      if (descriptor === undefined || address === undefined || refusals >= MOST_REFUSALS) return false;
      if (offset < 0 || offset + bytes > slab.length) return false;
      let pointer = pointers.get(slab);
      if (pointer === undefined) {
        pointer = ffi.getRawPointer(slab);
        pointers.set(slab, pointer);
      }
      memory.fill(0, AT.address, AT.control);
      memory.writeUInt16LE(address.length === 4 ? AF_INET : AF_INET6, AT.address);
      memory.writeUInt16BE(to.port, AT.address + 2);
      memory.set(address, AT.address + (address.length === 4 ? 4 : 8));
      memory.writeUInt32LE(address.length === 4 ? 16 : 28, AT.header + HEADER.nameLength);
      memory.writeBigUInt64LE(pointer + BigInt(offset), AT.vector);
      memory.writeBigUInt64LE(BigInt(bytes), AT.vector + 8);
      memory.writeUInt16LE(segmentBytes, AT.control + 16);
      const taken = Number(functions.sendmsg(descriptor, base, MSG_DONTWAIT | MSG_NOSIGNAL));
      refusals = taken === bytes ? 0 : refusals + 1;
      return taken === bytes;
    },
  };
}

const states = new WeakMap<Socket, { readonly handle?: { readonly fd?: number } | null }>();

/** Node has no public way to a socket's descriptor: it is in the handle of dgram's state. Absent after close. */
function descriptorOf(socket: Socket): number | undefined {
  let state = states.get(socket);
  if (state === undefined) {
    const members = socket as unknown as Readonly<
      Record<symbol, { readonly handle?: { readonly fd?: number } | null }>
    >;
    const symbol = Object.getOwnPropertySymbols(socket).find((one) => one.description === "state symbol");
    state = symbol === undefined ? undefined : members[symbol];
    if (state === undefined) return undefined;
    states.set(socket, state);
  }
  const descriptor = state.handle?.fd;
  return typeof descriptor === "number" && descriptor >= 0 ? descriptor : undefined;
}

/** Sends 100 + 100 + 50 bytes to itself over loopback and looks at what comes. */
async function cutsRight(sender: GsoSender): Promise<boolean> {
  const socket = createSocket("udp4");
  try {
    socket.bind(0, "127.0.0.1");
    await once(socket, "listening");
    const slab = new Uint8Array(4096);
    slab.fill(1, 0, 100).fill(2, 100, 200).fill(3, 200, 250);
    const lengths: string[] = [];
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const timer = setTimeout(() => resolve(false), SELF_TEST_MS);
    socket.on("message", (datagram) => {
      lengths.push(`${datagram[0]}:${datagram.length}`);
      if (lengths.length === 3) resolve(lengths.join() === "1:100,2:100,3:50");
    });
    const isTaken = sender.send(socket, slab, 0, 250, 100, { address: "127.0.0.1", port: socket.address().port });
    if (!isTaken) resolve(false);
    const isRight = await promise;
    clearTimeout(timer);
    return isRight;
  } finally {
    socket.close();
  }
}
