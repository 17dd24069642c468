import { systemClock } from "../../base/clock.ts";
import { Fault } from "../../base/fault.ts";
import { PACKET, STRIDE, type UdpIo } from "../../base/packet.ts";
import { PathTable } from "../../base/path-table.ts";
import { type DgramOptions, openDgramIo } from "./dgram-io.ts";
import { openFfiIo } from "./ffi-io.ts";

export type UdpKind = "dgram" | "ffi";

export interface UdpIoOptions extends DgramOptions {
  /** Absent: the faster that works here. */
  readonly force?: UdpKind;
}

export interface OpenedUdpIo {
  readonly io: UdpIo;
  readonly kind: UdpKind;
}

const SELF_TEST_MS = 500;

/** The best UDP that this platform gives. */
export async function openUdpIo({ force, ...options }: UdpIoOptions): Promise<OpenedUdpIo> {
  const hasFfi = force !== "dgram" && (await probeFfi());
  if (!hasFfi && force === "ffi") {
    throw new Fault("UDP_FFI", `Cannot use UDP "ffi": it does not work here, wanted Linux and a Node with node:ffi`, {
      hint: "leave the choice to Sallyport, or force dgram",
    });
  }
  return hasFfi ? { io: await openFfiIo(options), kind: "ffi" } : { io: await openDgramIo(options), kind: "dgram" };
}

let probed: Promise<boolean> | undefined;

/** Once per process: whether the fast way loads here and passes its self-test. */
export function probeFfi(): Promise<boolean> {
  probed ??= passesSelfTest().catch(() => false); // no such symbol, no permission, no loopback
  return probed;
}

/** Sends 100 + 100 + 50 bytes to itself over loopback, twice, and looks at what comes. */
async function passesSelfTest(): Promise<boolean> {
  const table = new PathTable();
  const io = await openFfiIo({ table, clock: systemClock, address: "127.0.0.1" });
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => resolve(false), SELF_TEST_MS);
  try {
    const path = table.intern({ kind: "udp", address: "127.0.0.1", port: io.port });
    const seen: string[] = [];
    io.start(({ slab, at, count }) => {
      for (let i = 0; i < count; i++) {
        const entry = i * STRIDE;
        const offset = at[entry + PACKET.offset]!;
        const length = at[entry + PACKET.length]!;
        const isWhole = slab[offset] === slab[offset + length - 1] && at[entry + PACKET.path] === path;
        seen.push(isWhole ? `${slab[offset]}:${length}` : "torn");
      }
      if (seen.length >= KNOWN.length) resolve(seen.join() === KNOWN.join());
    });
    for (const known of KNOWN) {
      const [mark, length] = known.split(":").map(Number) as [number, number];
      const train = io.claim(path, length);
      if (train === undefined) return false;
      train.slab.fill(mark, train.offset, train.offset + length);
      train.push(length);
    }
    io.flush();
    return await promise;
  } finally {
    clearTimeout(timer);
    await io.close();
  }
}

/** Mark and length of each datagram of the self-test: two trains, each ended by a short one. */
const KNOWN: readonly string[] = ["1:100", "2:100", "3:50", "4:1400", "5:1400", "6:1400", "7:9"];
