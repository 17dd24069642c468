import { createSocket } from "node:dgram";
import { once } from "node:events";
import { expect, onTestFinished, test } from "vitest";
import { systemClock } from "../../base/clock.ts";
import { PACKET, STRIDE, type UdpIo } from "../../base/packet.ts";
import { PathTable } from "../../base/path-table.ts";
import { openDgramIo } from "./dgram-io.ts";
import { probeGso } from "./gso.ts";
import { openUdpIo } from "./udp-io.ts";

const gso = await probeGso();

async function open(
  address: string | undefined,
  force: "dgram" | "ffi" = "dgram",
): Promise<{ io: UdpIo; table: PathTable }> {
  const table = new PathTable();
  const { io } = await openUdpIo({ table, clock: systemClock, force, ...(address === undefined ? {} : { address }) });
  onTestFinished(() => io.close());
  return { io, table };
}

const WAYS = [
  ["127.0.0.1", "dgram"],
  ["::1", "dgram"],
  ...(gso === undefined
    ? []
    : ([
        ["127.0.0.1", "ffi"],
        ["::1", "ffi"],
      ] as const)),
] as const;

test.each(WAYS)(
  "trains of datagrams go and come over %s by %s, and answers go back by the path",
  async (address, force) => {
    const [a, b] = [await open(address, force), await open(address, force)];
    const { promise, resolve } = Promise.withResolvers<void>();
    const got: number[] = [];
    const echoed: number[] = [];
    b.io.start((batch) => {
      for (let i = 0; i < batch.count; i++) {
        const length = batch.at[i * STRIDE + PACKET.length]!;
        got.push(length);
        const train = b.io.claim(batch.at[i * STRIDE + PACKET.path]!, length)!;
        train.slab.fill(length, train.offset, train.offset + length);
        train.push(length);
      }
      b.io.flush();
    });
    a.io.start((batch) => {
      for (let i = 0; i < batch.count; i++) {
        const length = batch.at[i * STRIDE + PACKET.length]!;
        expect(batch.slab[batch.at[i * STRIDE + PACKET.offset]! + length - 1]).toBe(length & 255);
        echoed.push(length);
      }
      if (echoed.length === 31) resolve();
    });
    const path = a.table.intern({ kind: "udp", address, port: b.io.port });
    const train = a.io.claim(path, 1400)!;
    for (let i = 0; i < 30; i++) expect(train.push(1400)).toBe(true);
    expect(a.io.claim(path, 1400)).toBe(train);
    expect(train.push(7)).toBe(true);
    expect(train.push(7)).toBe(false); // a short one ends the train
    expect(a.io.claim(path, 1400)).not.toBe(train);
    a.io.flush();
    await promise;
    expect(got).toEqual(echoed);
    expect(got.filter((length) => length === 1400)).toHaveLength(30);
  },
);

test("is full after a bounded number of trains, and says when there is room again", async () => {
  const { io, table } = await open("127.0.0.1");
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

test("binds both families to one port, and a taken port is a fault", async () => {
  const { io } = await open(undefined);
  const socket = createSocket("udp4");
  onTestFinished(() => void socket.close());
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  await expect(
    openDgramIo({ table: new PathTable(), clock: systemClock, address: "127.0.0.1", port: socket.address().port }),
  ).rejects.toMatchObject({ code: "UDP_BIND" });
  expect(io.port).toBeGreaterThan(0);
});

test("what cannot be sent is lost and nothing else happens", async () => {
  const { io, table } = await open("127.0.0.1");
  for (const path of [
    table.intern({ kind: "udp", address: "2001:db8::1", port: 9 }),
    table.intern({ kind: "derp", region: 1, nodeKey: "aa" }),
    table.intern({ kind: "udp", address: "255.255.255.255", port: 9 }),
    4711,
  ]) {
    io.claim(path, 100)!.push(100);
  }
  io.flush();
  await new Promise((done) => void setImmediate(done));
});
