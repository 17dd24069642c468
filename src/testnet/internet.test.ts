import type { Duplex } from "node:stream";
import { expect, test } from "vitest";
import { FakeClock } from "../base/clock.ts";
import { PACKET, STRIDE } from "../base/packet.ts";
import { PathTable } from "../base/path-table.ts";
import { type Host, type HostOptions, Internet } from "./internet.ts";
import type { NatKind } from "./nat.ts";

const never = new AbortController().signal;
const SERVER = { address: "198.51.100.1", port: 443 };
const settle = async () => {
  for (let i = 0; i < 5; i++) await new Promise((done) => void setImmediate(done));
};

interface Machine {
  readonly host: Host;
  readonly got: { readonly at: number; readonly from: string; readonly text: string }[];
  send(to: string, port: number, text: string): void;
}

function machine(internet: Internet, clock: FakeClock, options: HostOptions = {}): Machine {
  const host = internet.host(options);
  const table = new PathTable();
  const udp = host.openUdp(table, () => clock.now());
  const got: Machine["got"] = [];
  udp.start(({ slab, at, count }) => {
    for (let i = 0; i < count; i++) {
      const [offset, length] = [at[i * STRIDE + PACKET.offset]!, at[i * STRIDE + PACKET.length]!];
      const path = table.get(at[i * STRIDE + PACKET.path]!);
      const from = path?.kind === "udp" ? `${path.address}:${path.port}` : "?";
      got.push({ at: clock.now(), from, text: Buffer.from(slab.subarray(offset, offset + length)).toString() });
    }
  });
  return {
    host,
    got,
    send(address, port, text) {
      const train = udp.claim(table.intern({ kind: "udp", address, port }), 1500)!;
      train.slab.set(Buffer.from(text), train.offset);
      train.push(text.length);
      udp.flush();
    },
  };
}

function world() {
  const clock = new FakeClock();
  return { clock, internet: new Internet(clock) };
}

test("datagrams take the time of both links, and those who lose some lose about so many", () => {
  const { clock, internet } = world();
  const a = machine(internet, clock, { delayMs: 7 });
  const b = machine(internet, clock, { delayMs: 20 });
  a.send(b.host.address, 41641, "hello");
  clock.advance(100);
  expect(b.got).toEqual([{ at: 27, from: "192.0.2.1:41641", text: "hello" }]);
  b.host.link.loss = 0.25;
  for (let i = 0; i < 2000; i++) a.send(b.host.address, 41641, "x");
  clock.advance(100);
  expect(b.got.length).toBeGreaterThan(1400);
  expect(b.got.length).toBeLessThan(1600);
  b.host.link.isUdpBlocked = true;
  a.send(b.host.address, 41641, "lost");
  clock.advance(100);
  expect(b.got.at(-1)!.text).toBe("x");
});

test.each<[NatKind, boolean, boolean]>([
  ["full cone", true, true],
  ["restricted", true, false],
  ["port-restricted", false, false],
  ["symmetric", false, false],
])("a %s NAT: another port of who was asked gets in: %s, somebody else: %s", (nat, otherPort, somebodyElse) => {
  const { clock, internet } = world();
  const inside = machine(internet, clock, { nat });
  const asked = machine(internet, clock);
  const other = machine(internet, clock);
  inside.send(asked.host.address, 41641, "ask");
  clock.advance(50);
  const [address, port] = asked.got[0]!.from.split(":") as [string, string];
  expect(address).toBe("203.0.113.1");
  asked.send(address, Number(port), "answer");
  clock.advance(50);
  expect(inside.got.map(({ text }) => text)).toEqual(["answer"]);
  other.send(address, Number(port), "stranger");
  const second = asked.host.openUdp(new PathTable(), () => clock.now());
  expect(second.port).toBe(41642);
  clock.advance(50);
  expect(inside.got.some(({ text }) => text === "stranger")).toBe(somebodyElse);
  const nobody = inside.host.nat!.in(Number(port), { address: asked.host.address, port: 9 });
  expect(nobody !== undefined).toBe(otherPort);
  inside.send(other.host.address, 41641, "ask");
  clock.advance(50);
  expect(other.got[0]!.from === asked.got[0]!.from).toBe(nat !== "symmetric");
  other.send(inside.host.address, 41641, "to an inside address");
  clock.advance(50);
  expect(inside.got.some(({ text }) => text.startsWith("to an"))).toBe(false);
});

function readAll(stream: Duplex): string {
  let text = "";
  for (let part = stream.read(); part !== null; part = stream.read()) text += String(part);
  return text;
}

test("streams keep their order under jitter, and a slow reader stops the writer", async () => {
  const { clock, internet } = world();
  const host = internet.host({ delayMs: 10, jitterMs: 50 });
  let far!: Duplex;
  internet.listen(SERVER, (stream) => {
    far = stream;
  });
  const opening = host.connect(SERVER, never);
  clock.advance(100);
  const near = await opening;
  for (let i = 0; i < 100; i++) near.write(`${i} `);
  clock.advance(1000);
  await settle();
  expect(readAll(far)).toBe(Array.from({ length: 100 }, (_, i) => `${i} `).join(""));
  let written = 0;
  while (written < 64 << 20 && near.write(Buffer.alloc(65_536))) written += 65_536;
  for (let i = 0; i < 100; i++) {
    clock.advance(100);
    await settle();
  }
  expect(near.writableNeedDrain).toBe(true);
  expect(far.readableLength).toBeLessThan(1 << 20);
  near.destroy();
  clock.advance(100);
  await settle();
  expect(far.destroyed).toBe(true);
});

test("nobody listens: refused; a cut link: what was sent arrives when it is mended", async () => {
  const { clock, internet } = world();
  const host = internet.host();
  const refused = host.connect(SERVER, never);
  clock.advance(20);
  await expect(refused).rejects.toMatchObject({ code: "TESTNET_REFUSED" });
  let far!: Duplex;
  internet.listen(SERVER, (stream) => {
    far = stream;
  });
  const opening = host.connect(SERVER, never);
  clock.advance(20);
  const near = await opening;
  host.link.isCut = true;
  near.write("kept");
  clock.advance(60_000);
  await settle();
  expect(readAll(far)).toBe("");
  host.link.isCut = false;
  clock.advance(1000);
  await settle();
  expect(readAll(far)).toBe("kept");
  const abort = new AbortController();
  const waiting = host.connect(SERVER, abort.signal);
  abort.abort(new Error("enough"));
  await expect(waiting).rejects.toThrow("enough");
});
