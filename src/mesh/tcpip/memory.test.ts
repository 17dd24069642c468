import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { Fault } from "../../base/fault.ts";
import { seededRandom } from "../../base/random.ts";
import { DEFAULT_MEMORY_BYTES, LARGEST_BUFFER_BYTES, TcpMemory } from "./memory.ts";
import { ByteRing } from "./ring.ts";
import { B_ADDRESS, type LinkOptions, SimulatedLink, TestEnd } from "./simulated-link.ts";

const MIB = 1024 * 1024;
const hash = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
/** Rings that are never refused. */
const FLOOR = 64 * 1024;

/** Watches that no window of B is taken back (RFC 9293 section 3.8.6.2.1). */
function noRetreat(): {
  readonly filter: (packet: Uint8Array, fromA: boolean) => boolean;
  readonly retreats: string[];
} {
  const edges = new Map<number, number>();
  const retreats: string[] = [];
  const filter = (packet: Uint8Array, fromA: boolean): boolean => {
    const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
    const isPlain = !fromA && (packet[33]! & 0b110) === 0; // neither SYN nor RST
    if (!isPlain) return true;
    const port = view.getUint16(22);
    const edge = (view.getUint32(28) + view.getUint16(34) * 256) >>> 0;
    const before = edges.get(port) ?? edge;
    if (((edge - before) | 0) < 0) retreats.push(`${port}: ${before} → ${edge}`);
    edges.set(port, edge);
    return true;
  };
  return { filter, retreats };
}

/** So many connections from A to users of B who read nothing before they get credit. */
async function opened(link: SimulatedLink, count: number): Promise<{ senders: TestEnd[]; readers: TestEnd[] }> {
  const readers: TestEnd[] = [];
  const listener = link.b.listenTcp(80, (conn) => readers.push(new TestEnd(conn, 0, false)));
  const dials = Array.from({ length: count }, () => link.a.dialTcp({ address: B_ADDRESS, port: 80 }));
  link.run(() => readers.length === count, 120_000);
  const senders = (await Promise.all(dials)).map((conn) => new TestEnd(conn));
  listener.close();
  return { senders, readers };
}

const flood = (more: LinkOptions = {}): SimulatedLink =>
  new SimulatedLink({ delayMs: 5, b: { tcpMemoryBytes: 16 * MIB }, a: { tcpMemoryBytes: 16 * MIB }, ...more });

describe("IP-9 memory of all connections together", () => {
  test("nobody feels the bound until three quarters are held, and the floor stays for everybody", () => {
    const memory = new TcpMemory();
    expect(memory.share).toBe(LARGEST_BUFFER_BYTES);
    memory.held = 0.75 * DEFAULT_MEMORY_BYTES;
    expect([memory.share, memory.isScarce]).toEqual([LARGEST_BUFFER_BYTES, false]);
    memory.held += MIB;
    expect(memory.isScarce).toBe(true);
    memory.held = 2 * DEFAULT_MEMORY_BYTES;
    expect([memory.share, memory.mayGrow(0, FLOOR), memory.mayGrow(0, FLOOR + 1)]).toEqual([32 * 1024, true, false]);
  });

  test("property: a ring that is made smaller keeps what is in it, and its account is what it holds", () => {
    const account = { held: 0 };
    const ring = new ByteRing(1, account);
    const draw = seededRandom(3);
    let [start, end] = [1, 1];
    const byteAt = (position: number): number => (position * 31 + (position >> 8)) & 0xff;
    for (let round = 0; round < 400; round++) {
      const [length = 0, taken = 0, mayFit = 0] = draw(3);
      const part = Uint8Array.from({ length: length * 200 }, (_, i) => byteAt(end + i));
      ring.put(end, part, 0, part.length, end);
      end += part.length;
      start += Math.floor(((end - start) * taken) / 256);
      ring.discard(start);
      if (mayFit > 128) ring.fit(end);
      const kept = new Uint8Array(end - start);
      if (kept.length > 0) ring.read(start, kept.length, kept, 0);
      expect(kept.every((byte, i) => byte === byteAt(start + i))).toBe(true);
      expect(account.held).toBe(ring.capacity);
    }
    ring.release();
    expect(account.held).toBe(0);
  });

  test.each([
    ["read nothing", 64, 1, 0],
    ["read fast, and then nothing", 12, 8, 4 * MIB],
  ])(
    "callers of users who %s fill no more than the bound, no window is taken back, and all arrives in the end",
    async (_, count, size, first) => {
      const { filter, retreats } = noRetreat();
      const link = flood({ filter });
      const { senders, readers } = await opened(link, count);
      for (const { conn } of readers) conn.credit(first);
      const sent = seededRandom(5)(size * MIB);
      for (const sender of senders) sender.send(sent, true);
      const most = { a: 0, b: 0 };
      const watch = (): boolean => {
        most.a = Math.max(most.a, link.a.heldBytes);
        most.b = Math.max(most.b, link.b.heldBytes);
        return false;
      };
      link.run(watch, 20_000);
      expect(most.b).toBeGreaterThan(12 * MIB);
      expect(most.b).toBeLessThanOrEqual(16 * MIB + count * FLOOR);
      expect(most.a).toBeLessThanOrEqual(16 * MIB + 2 * count * FLOOR);
      for (const { conn } of readers) conn.credit(size * MIB);
      link.run(() => watch() || readers.every(({ ended }) => ended), 600_000);
      expect(new Set(readers.map(({ bytes }) => hash(bytes)))).toEqual(new Set([hash(sent)]));
      expect(retreats).toEqual([]);
      for (const { conn } of readers) conn.end();
      link.run(() => link.a.heldBytes + link.b.heldBytes === 0, 600_000);
      expect([link.a.heldBytes, link.b.heldBytes]).toEqual([0, 0]);
    },
  );

  test("who comes while others hold all there is gets on", async () => {
    const link = flood();
    const { senders } = await opened(link, 64);
    for (const sender of senders) sender.send(new Uint8Array(MIB));
    link.run(() => false, 20_000);
    const [from, to] = await link.connect(81);
    const sent = seededRandom(6)(2 * MIB);
    const began = link.now;
    from.send(sent, true);
    expect(link.run(() => to.ended, 60_000)).toBe(true);
    expect(hash(to.bytes)).toBe(hash(sent));
    expect(link.now - began).toBeLessThan(5000); // at the floor of 32 KiB a round trip it takes less than one second
  });

  test("what was held of a connection is given back when its user leaves it in TIME-WAIT, unread", async () => {
    const link = flood();
    const { senders, readers } = await opened(link, 1);
    senders[0]!.send(new Uint8Array(100_000), true);
    readers[0]!.conn.end();
    link.run(() => false, 5000);
    expect(link.b.heldBytes).toBeGreaterThanOrEqual(100_000);
    readers[0]!.conn.abort(new Fault("TEST_OVER", "over"));
    expect(link.b.heldBytes).toBe(0);
  });

  test.each([[{ delayMs: 50, rate: 12_500, queueBytes: 2 * MIB }], [{ delayMs: 5, loss: 0.01, seed: 4 }]])(
    "one connection is as fast as without a bound: %j",
    async (options: LinkOptions) => {
      const took = async (tcpMemoryBytes: number): Promise<number> => {
        const link = new SimulatedLink({ ...options, a: { tcpMemoryBytes }, b: { tcpMemoryBytes } });
        const [from, to] = await link.connect();
        const began = link.now;
        from.send(new Uint8Array(6 * MIB), true);
        link.run(() => to.ended);
        return link.now - began;
      };
      expect(await took(DEFAULT_MEMORY_BYTES)).toBe(await took(Number.POSITIVE_INFINITY));
    },
  );
});
