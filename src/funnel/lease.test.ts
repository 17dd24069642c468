import { expect, onTestFinished, test } from "vitest";
import { freePorts } from "../../test/suites/free-ports.ts";
import { nodeSide, openIngress, PEER_API, publicName, visit } from "../../test/suites/ingress-scene.ts";
import { parsePrefix } from "../base/address.ts";
import { FakeClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { LeaseListeners } from "./lease-listeners.ts";
import { type Lease, LeaseTable } from "./lease-table.ts";

const WAIT = { timeout: 20_000, interval: 2 };
const NAME = "box.tail.test";

const lease = (port: number, more: Partial<Lease> = {}): Lease => ({
  ...{ port, ports: new Set([port]), name: NAME, owner: "node-5", peerApi: PEER_API },
  ...more,
});

test("FN-14 a port has one holder at an ingress: the first, and who had it before", () => {
  const [one, other] = [lease(2222), lease(2222, { owner: "node-6" })];
  const first = new LeaseTable([one, other, lease(7000)]);
  expect([first.find(2222), first.ports, first.conflicts]).toEqual([one, [2222, 7000], [other]]);
  expect(new LeaseTable([other, one], first).find(2222)).toBe(one);
  expect(new LeaseTable([other, one], first).conflicts).toEqual([other]);
  expect(new LeaseTable([other], first).find(2222)).toBe(other);
});

/** An ingress whose one raw port leads to `found`. */
async function leased(found: Lease | undefined, dial = nodeSide(), rules = publicName(NAME)) {
  const { ingress, clock } = await openIngress([rules], dial.dial, {
    leases: () => new LeaseTable(found === undefined ? [] : [{ ...found, port, ports: new Set([port]) }]),
  });
  const [port = 0] = await freePorts(1);
  const close = await ingress.lease(port, "127.0.0.1");
  return { ingress, clock, port, close, deliveries: dial.deliveries };
}

test("a visitor of a raw port is brought to the node before he says a word, and hears it first", async () => {
  const { port, ingress, deliveries, close } = await leased(lease(0));
  const visitor = visit(port);
  await expect.poll(() => deliveries.length, WAIT).toBe(1);
  expect(deliveries[0]!.head).toContain(`\r\nTailscale-Ingress-Target: ${NAME}:${port}\r\n`);
  deliveries[0]!.conn.write(Buffer.from("SSH-2.0-here\r\n"));
  await expect.poll(() => visitor.heard().toString(), WAIT).toBe("SSH-2.0-here\r\n");
  visitor.socket.write("SSH-2.0-there\r\n");
  await expect.poll(() => deliveries[0]!.bytes().toString(), WAIT).toBe("SSH-2.0-there\r\n");
  close();
  const late = visit(port);
  await expect.poll(late.ending, WAIT).toBe("reset");
  expect([ingress.open, visitor.ending()]).toEqual([1, undefined]); // who is here stays
});

test.each<readonly [string, Lease | undefined, string]>([
  ["nobody's port", undefined, "unknown_name"],
  ["a node that is away", lease(0, { peerApi: undefined }), "away"],
])("%s: cut, and not a byte", async (_, found, count) => {
  const { port, ingress } = await leased(found);
  const visitor = visit(port);
  await expect.poll(visitor.ending, WAIT).toBe("reset");
  expect(visitor.heard().length).toBe(0);
  expect(ingress.counts).toMatchObject({ [count]: 1 });
});

test.each([403, 500, 503])("a node that answers %i: cut, and not a byte", async (status) => {
  const { port } = await leased(lease(0), nodeSide({ answer: () => `HTTP/1.1 ${status} No\r\n\r\n` }));
  const visitor = visit(port, Buffer.from("SSH-2.0-there\r\n"));
  await expect.poll(visitor.ending, WAIT).toBe("reset");
  expect(visitor.heard().length).toBe(0);
});

test("what the node asks for its visitors holds on its raw ports, too", async () => {
  const rules = new Map([["*", { deny: [parsePrefix("127.0.0.0/8")!] }]]);
  const { port, deliveries } = await leased(lease(0), nodeSide(), publicName(NAME, { rules }));
  await expect.poll(visit(port).ending, WAIT).toBe("reset");
  expect(deliveries).toEqual([]);
});

function listeners(open: (port: number) => Promise<() => void>, ranges = [{ first: 2000, last: 5000 }]) {
  const clock = new FakeClock();
  const made = new LeaseListeners({ ranges, open, clock, log: silentLog });
  onTestFinished(() => made.close());
  return { made, clock };
}

test("ports are opened as they are let, closed as they are given up, and never others", async () => {
  const open = new Set<number>();
  const { made } = listeners(async (port) => {
    open.add(port);
    return () => void open.delete(port);
  });
  made.set([2222, 80, 443, 2223]);
  await expect.poll(() => made.ports, WAIT).toEqual([2222, 2223]);
  made.set([2223]);
  expect([...open]).toEqual([2223]);
  made.set([2222]);
  made.set([]); // given up while it is being opened
  await expect.poll(() => [open.size, made.ports.length], WAIT).toEqual([0, 0]);
});

test("a port that somebody has is tried again", async () => {
  let isTaken = true;
  let tried = 0;
  const { made, clock } = listeners(async () => {
    tried++;
    if (isTaken) throw new Error("EADDRINUSE");
    return () => undefined;
  });
  made.set([2222]);
  await expect.poll(() => tried, WAIT).toBe(1);
  await expect.poll(() => made.failed, WAIT).toEqual([2222]);
  isTaken = false;
  await expect
    .poll(() => {
      clock.advance(5000);
      return made.ports;
    }, WAIT)
    .toEqual([2222]);
  expect([tried, made.failed]).toEqual([2, []]);
});

test("an ingress opens 1024 ports and no more", async () => {
  let open = 0;
  const { made } = listeners(async () => {
    open++;
    return () => undefined;
  });
  made.set(Array.from({ length: 2000 }, (_, i) => 2000 + i));
  await expect.poll(() => made.ports.length, WAIT).toBe(1024);
  expect(open).toBe(1024);
});
