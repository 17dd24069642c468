import { Fault } from "../../base/fault.ts";
import type { UdpIo } from "../../base/packet.ts";
import { type DgramOptions, openDgramIo } from "./dgram-io.ts";
import { probeGso } from "./gso.ts";

export interface UdpIoOptions extends Omit<DgramOptions, "gso"> {
  /** Absent: the faster that works here. */
  readonly force?: "dgram" | "ffi";
}

export interface OpenedUdpIo {
  readonly io: UdpIo;
  /** `ffi`: trains leave in one system call each; datagrams come in through `node:dgram` in both. */
  readonly kind: "dgram" | "ffi";
}

/** The best UDP that this platform gives. */
export async function openUdpIo({ force, ...options }: UdpIoOptions): Promise<OpenedUdpIo> {
  const gso = force === "dgram" ? undefined : await probeGso();
  if (gso === undefined && force === "ffi") {
    throw new Fault("UDP_FFI", `Cannot use UDP "ffi": it does not work here, wanted Linux and a Node with node:ffi`, {
      hint: "leave the choice to Sallyport, or force dgram",
    });
  }
  return gso === undefined
    ? { io: await openDgramIo(options), kind: "dgram" }
    : { io: await openDgramIo({ ...options, gso }), kind: "ffi" };
}
