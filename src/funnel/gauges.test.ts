import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import { describe, expect, onTestFinished, test } from "vitest";
import { makeHello } from "../../test/suites/client-hellos.ts";
import { nodeSide, openIngress, PEER_API, publicName } from "../../test/suites/ingress-scene.ts";
import { foldName } from "../wire/host-name.ts";
import { Gauges, Rate, visitorKey } from "./gauges.ts";
import type { Ingress } from "./ingress.ts";
import { LeaseTable } from "./lease-table.ts";
import type { IngressLimits } from "./options.ts";
import { Pace } from "./pace.ts";
import type { PublicName } from "./public-names.ts";

test.each([
  ["203.0.113.9", "203.0.113.9"],
  ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"],
  ["2001:db8:1:2:ffff::1", "2001:db8:1:2::"],
  ["2001:db8:1:3::1", "2001:db8:1:3::"],
])("FN-15 %s counts as %s", (address, key) => {
  expect(visitorKey(address)).toBe(key);
});

/** A visitor's socket, with the address that the kernel says. */
const from = (remoteAddress: string) =>
  Object.assign(new Duplex({ read() {}, write: (_bytes, _encoding, done) => done() }), {
    ...{ remoteAddress, remotePort: 4711 },
    resetAndDestroy(this: Duplex) {
      this.destroy();
    },
  });

test("FN-10 one visitor who asks port 80 without end keeps nobody else from being sent on", async () => {
  const limits = { nameConnectionsPerSecond: 50, visitorConnectionsPerSecond: 10, visitorPending: 1000 };
  const { ingress } = await openIngress([publicName("box.tail.test")], nodeSide().dial, { limits });
  const ask = (address: string): Duplex => {
    const socket = from(address);
    onTestFinished(() => void socket.destroy());
    ingress.acceptPlain(socket as unknown as Socket);
    return socket;
  };
  const greedy = Array.from({ length: 500 }, () => ask("203.0.113.1"));
  expect(greedy.filter(({ destroyed }) => !destroyed)).toHaveLength(20);
  expect(ask("203.0.113.2").destroyed).toBe(false);
});

test("FN-10 the limits of a wildcard's owner were for each name under it, of which there are as many as one likes", async () => {
  const rules = new Map([["*.shop.example.org:443", { connections: 3, visitorConnections: 2 }]]);
  const names = [publicName("*.shop.example.org", { rules })];
  const { ingress } = await openIngress(names, nodeSide({ answer: () => undefined }).dial);
  const isIn = async (address: string, name: string): Promise<boolean> => {
    const socket = from(address);
    onTestFinished(() => void socket.destroy());
    ingress.accept(socket as unknown as Socket, 443);
    socket.emit("data", makeHello({ name }));
    await new Promise((resolve) => setImmediate(resolve));
    return !socket.destroyed && !socket.writableEnded;
  };
  const seen = [];
  for (const [address, name] of [
    ["203.0.113.1", "a"],
    ["203.0.113.1", "b"],
    ["203.0.113.1", "c"],
    ["203.0.113.2", "a"],
    ["203.0.113.3", "d"],
  ] as const)
    seen.push(await isIn(address, `${name}.shop.example.org`));
  expect(seen).toEqual([true, true, false, true, false]);
});

describe("FN-15 who has a whole /64 is one visitor, by whichever door he comes", () => {
  const rules = new Map([["box.tail.test:443", { visitorConnections: 2 }]]);
  const hello = makeHello({ name: "box.tail.test" });
  const lease = new LeaseTable([
    { port: 2222, ports: new Set([2222]), name: "box.tail.test", owner: "node-5", peerApi: PEER_API },
  ]);

  test.each<readonly [string, Partial<IngressLimits>, PublicName, (ingress: Ingress, socket: Socket) => void]>([
    ["TLS", { visitorOpen: 2 }, publicName("box.tail.test"), (ingress, socket) => ingress.accept(socket, 443)],
    [
      "a raw port",
      { visitorOpen: 2 },
      publicName("box.tail.test"),
      (ingress, socket) => ingress.acceptLeased(socket, 2222),
    ],
    ["port 80", { visitorOpen: 2 }, publicName("box.tail.test"), (ingress, socket) => ingress.acceptPlain(socket)],
    [
      "the name's own rules",
      {},
      publicName("box.tail.test", { rules }),
      (ingress, socket) => {
        ingress.accept(socket, 443);
        socket.emit("data", hello);
      },
    ],
  ])("%s", async (_, limits, name, enter) => {
    const node = nodeSide({ answer: () => undefined });
    const { ingress } = await openIngress([name], node.dial, { limits, leases: () => lease });
    const isIn = async (address: string): Promise<boolean> => {
      const socket = from(address);
      onTestFinished(() => void socket.destroy());
      enter(ingress, socket as unknown as Socket);
      await new Promise((resolve) => setImmediate(resolve));
      return !socket.destroyed && !socket.writableEnded;
    };
    const seen: boolean[] = [];
    for (const last of ["::1", "::2", ":ffff:ffff:ffff:ffff", "::3"]) seen.push(await isIn(`2001:db8:1:2${last}`));
    expect(seen).toEqual([true, true, false, false]);
    for (const other of ["2001:db8:1:3::1", "203.0.113.1", "::ffff:203.0.113.1"]) expect(await isIn(other)).toBe(true);
    expect(await isIn("203.0.113.1")).toBe(false);
    expect(await isIn("203.0.113.2")).toBe(true);
  });
});

test("a rate allows twice its second at once, and then its rate", () => {
  const rate = new Rate();
  const taken = (now: number): number => {
    let count = 0;
    while (rate.take(10, now)) count++;
    return count;
  };
  expect(taken(0)).toBe(20);
  expect(taken(500)).toBe(5);
  expect(taken(100_000)).toBe(20);
});

test("gauges at rest are forgotten, those in use never are", () => {
  const gauges = new Gauges(10);
  const busy = gauges.of("busy");
  busy.open = 1;
  for (let i = 0; i < 1000; i++) gauges.of(`visitor ${i}`);
  expect(gauges.size).toBeLessThanOrEqual(10);
  expect(gauges.of("busy")).toBe(busy);
});

test("a pace lets a second's worth through and makes the rest wait", () => {
  const pace = new Pace(1000);
  expect(pace.spend(1000, 0)).toBe(0);
  expect(pace.spend(500, 0)).toBe(500);
  expect(pace.spend(1, 100_000)).toBe(0);
  expect(new Pace(Number.POSITIVE_INFINITY).spend(1e12, 0)).toBe(0);
});

test.each([
  ["Box.Tail.Test.", "box.tail.test"],
  ["xn--bcher-kva.example", "xn--bcher-kva.example"],
  ["a_b.example", "a_b.example"],
  ["10.1.2.3", undefined],
  ["::1", undefined],
  ["", undefined],
  ["a..b", undefined],
  ["-a.b", undefined],
  ["bücher.example", undefined],
  ["\u212a.example", undefined], // KELVIN SIGN: lower case of other scripts is not for us
  [`${"a".repeat(64)}.test`, undefined],
  [`${"a.".repeat(127)}test`, undefined],
])("%j as a name: %j", (text, name) => {
  expect(foldName(text)).toBe(name);
});
