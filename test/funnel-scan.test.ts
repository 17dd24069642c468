import { text } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { asDuplex } from "../src/base/duplex.ts";
import { Fault } from "../src/base/fault.ts";
import type { Gateway } from "../src/gateway/gateway.ts";
import { MeshNode } from "../src/mesh/node.ts";
import type { Relay } from "../src/server/relay.ts";
import { brings, FunnelMesh } from "./suites/funnel-mesh.ts";

const WAIT = { timeout: 60_000, interval: 5 };
const NAME = "web.tail.test";
/** Dials at a time: over before the first of them is tried again, which would count as two. */
const AT_ONCE = 256;
const STOP = new Fault("TEST", "seen");

/** A relay that was broken into, in a mesh whose policy lets everybody do everything. */
let mesh: FunnelMesh;
let gateway: Gateway;
let relay: Relay;
let other: MeshNode;

beforeAll(async () => {
  mesh = await FunnelMesh.open();
  relay = await mesh.relay({ listeners: [] });
  gateway = await mesh.gateway();
  other = await MeshNode.open(await mesh.joining("db"));
  mesh.defer(() => other.close());
  await other.ready();
  await gateway.setServeConfig({
    TCP: { 22: { TCPForward: "127.0.0.1:9" }, 80: { HTTP: true }, 443: { HTTPS: true } },
    Web: {
      [`${NAME}:443`]: { Handlers: { "/": { Text: "x" } } },
      [`${NAME}:80`]: { Handlers: { "/": { Text: "x" } } },
    },
    AllowFunnel: { [`${NAME}:443`]: true },
  });
  await vi.waitUntil(() => brings(relay, NAME), WAIT);
}, 60_000);

afterAll(async () => {
  await mesh.close();
});

const dropped = (): number => gateway.node.counters["filter"]?.["dropped"] ?? 0;

/** Which of these ports answer. All others have been dropped when it settles. */
async function openPorts(address: string, ports: readonly number[]): Promise<number[]> {
  const open: number[] = [];
  const giveUp = new AbortController();
  const before = dropped();
  const dials = ports.map((port) =>
    relay.node.dial({ address, port }, { signal: giveUp.signal }).then(
      (conn) => {
        open.push(port);
        asDuplex(conn)
          .on("error", () => undefined)
          .destroy();
      },
      () => undefined,
    ),
  );
  await expect.poll(() => dropped() - before + open.length, WAIT).toBeGreaterThanOrEqual(ports.length);
  giveUp.abort();
  await Promise.all(dials);
  return open;
}

test("FN-11 of a gateway's 65,535 ports the relay reaches one, its peerapi", async () => {
  const [ipv4 = "", ipv6 = ""] = gateway.node.addresses;
  const { port: peerApi } = relay.names.find(NAME, 443)!.peerApi!;
  (await relay.node.dial({ address: ipv4, port: peerApi })).abort(STOP);
  const open: number[] = [];
  for (let first = 1; first <= 65_535; first += AT_ONCE) {
    const ports = Array.from({ length: Math.min(AT_ONCE, 65_536 - first) }, (_, i) => first + i);
    open.push(
      ...(await openPorts(
        ipv4,
        ports.filter((port) => port !== peerApi),
      )),
    );
  }
  expect(open).toEqual([]);
  const some = [22, 53, 80, 443, 5252, 8080, 10_000, 41_641].filter((port) => port !== peerApi);
  expect(await openPorts(ipv6, some)).toEqual([]);
  // It is the relay that may not: another node of this policy may.
  for (const port of [80, 443]) (await other.dial({ address: ipv4, port })).abort(STOP);
});

test.each([
  ...["GET /v0/metrics", "GET /v0/env", "GET /v0/goroutines", "GET /v0/magicsock", "GET /v0/dnsfwd", "GET /v0/doctor"],
  ...[
    "GET /dns-query?q=db.tail.test",
    "POST /dns-query",
    "PUT /v0/put/file",
    "GET /v0/interfaces",
    "GET /v0/sockstats",
  ],
  ...["GET /localapi/v0/status", "GET /metrics", "GET /healthz", "POST /v0/wol", "CONNECT /", "GET /v0/ingress/x"],
])("FN-11 nothing else of the peerapi answers the relay: %s", async (line) => {
  const conn = asDuplex(await relay.node.dial(relay.names.find(NAME, 443)!.peerApi!));
  conn.on("error", () => undefined);
  conn.end(`${line} HTTP/1.1\r\nHost: peer\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
  expect(await text(conn)).toMatch(/^(?:HTTP\/1\.1 40[045] .*|)$/s);
});

test("FN-11 the relay knows no node without visitors, reaches none, and none reaches it", async () => {
  expect([...relay.node.map!.peers.values()].map(({ Name }) => Name)).toEqual([`${NAME}.`]);
  await expect(relay.node.dial({ address: other.addresses[0]!, port: 80 })).rejects.toThrow();
  await expect(other.dial({ address: relay.node.addresses[0]!, port: 443 })).rejects.toThrow();
});
