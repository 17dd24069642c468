import { expect, onTestFinished, test } from "vitest";
import { udpIoSuite } from "../../../test/suites/udp-io.ts";
import { systemClock } from "../../base/clock.ts";
import { PathTable } from "../../base/path-table.ts";
import { openDgramIo } from "./dgram-io.ts";
import { openUdpIo, probeFfi } from "./udp-io.ts";

const clock = systemClock;
const hasFfi = await probeFfi();

udpIoSuite("dgram", async (options) => (await openUdpIo({ ...options, clock, force: "dgram" })).io);
if (hasFfi) udpIoSuite("ffi", async (options) => (await openUdpIo({ ...options, clock, force: "ffi" })).io);

test("the choice is the fastest that works, or what is forced", async () => {
  for (const force of [undefined, "dgram"] as const) {
    const { io, kind } = await openUdpIo({
      table: new PathTable(),
      clock,
      address: "127.0.0.1",
      ...(force === undefined ? {} : { force }),
    });
    await io.close();
    expect(kind).toBe(force ?? (hasFfi ? "ffi" : "dgram"));
  }
});

test.skipIf(process.platform !== "linux" || process.getBuiltinModule("node:ffi") === undefined)(
  "where Node has FFI on Linux, its self-test passes",
  () => expect(hasFfi).toBe(true),
);

test("dgram is full after a bounded number of trains, and says when there is room again", async () => {
  const table = new PathTable();
  const io = await openDgramIo({ table, clock, address: "127.0.0.1" });
  onTestFinished(() => io.close());
  let claimed = 0;
  while (io.claim(table.intern({ kind: "udp", address: "127.0.0.1", port: 1000 + claimed }), 1400) !== undefined)
    claimed++;
  expect(claimed).toBe(128);
  const { promise, resolve } = Promise.withResolvers<void>();
  io.onWritable(resolve);
  io.flush();
  await promise;
  expect(io.claim(0, 1400)).toBeDefined();
});
