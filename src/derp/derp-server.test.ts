import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type Duplex, duplexPair } from "node:stream";
import { expect, onTestFinished, test } from "vitest";
import { toHex } from "../base/bytes.ts";
import { FakeClock, systemClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { type Random, seededRandom } from "../base/random.ts";
import { generatePrivateKey, publicKeyOf } from "../crypto/keys.ts";
import { DerpClient } from "../mesh/derp/derp-client.ts";
import { DerpClients } from "../mesh/derp/derp-clients.ts";
import { DERP, encodeDerpFrame } from "../wire/derp.ts";
import { DerpServer, type DerpServerOptions } from "./derp-server.ts";

const DISCO = Uint8Array.of(0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac, ...new Uint8Array(80));

interface House {
  readonly clock: FakeClock;
  readonly random: Random;
  readonly server: DerpServer;
}

function house(options: Partial<DerpServerOptions> = {}): House {
  const clock = new FakeClock();
  const random = seededRandom(7);
  const server = new DerpServer({
    privateKey: generatePrivateKey(random),
    random,
    clock,
    log: silentLog,
    admit: () => true,
    ...options,
  });
  return { clock, random, server };
}

interface Guest {
  readonly key: Uint8Array;
  readonly client: DerpClient;
  readonly got: { readonly from: string; readonly payload: Uint8Array }[];
  readonly gone: string[];
  readonly health: string[];
  readonly closed: string[];
  readonly end: Duplex;
}

async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await new Promise((done) => void setImmediate(done));
}

async function join(
  { clock, random, server }: House,
  privateKey: Uint8Array = generatePrivateKey(random),
): Promise<Guest> {
  const [near, far] = duplexPair();
  const guest = { got: [], gone: [], health: [], closed: [] } as Pick<Guest, "got" | "gone" | "health" | "closed">;
  const client = new DerpClient({
    stream: near,
    nodePrivateKey: privateKey,
    random,
    clock,
    onReady: () => {},
    onPacket: (source, payload) => void guest.got.push({ from: toHex(source), payload: payload.slice() }),
    onPeerGone: (key) => void guest.gone.push(toHex(key)),
    onHealth: (text) => void guest.health.push(text),
    onClose: (fault) => void guest.closed.push(fault.message),
  });
  server.accept(far);
  await settle();
  return { ...guest, key: publicKeyOf(privateKey), client, end: near };
}

test("a key that is no longer admitted loses all its connections at once, and nobody else theirs", async () => {
  const here = house();
  const privateKey = generatePrivateKey(here.random);
  const [a, again, b] = [await join(here, privateKey), await join(here, privateKey), await join(here)];
  here.server.disconnect(toHex(a.key));
  await settle();
  expect([a.closed.length, again.closed.length, b.closed.length]).toEqual([1, 1, 0]);
  expect(here.server.clients).toBe(1);
  here.server.disconnect("unknown");
});

test("relays between two clients, with the true source", async () => {
  const here = house();
  const [a, b] = [await join(here), await join(here)];
  expect(here.server.clients).toBe(2);
  a.client.send(b.key, Uint8Array.of(1, 2, 3));
  b.client.send(a.key, new Uint8Array(65_536).fill(5));
  await settle();
  expect(b.got).toEqual([{ from: toHex(a.key), payload: Uint8Array.of(1, 2, 3) }]);
  expect(a.got[0]!.payload.length).toBe(65_536);
});

test("tells who left, and, for disco only and rarely, who is not here", async () => {
  const here = house();
  const [a, b] = [await join(here), await join(here)];
  const stranger = new Uint8Array(32).fill(3);
  for (let i = 0; i < 10; i++) a.client.send(stranger, DISCO);
  a.client.send(stranger, new Uint8Array(50));
  await settle();
  expect(a.gone).toEqual([toHex(stranger), toHex(stranger), toHex(stranger)]);
  a.client.send(b.key, Uint8Array.of(1));
  await settle();
  a.client.close();
  await settle();
  expect(b.gone).toEqual([toHex(a.key)]);
  expect(here.server.clients).toBe(1);
});

test.each([
  ["says no", () => false],
  ["rejects", () => Promise.reject(new Error("verifier down"))],
  [
    "throws",
    () => {
      throw new Error("x");
    },
  ],
  ["answers nonsense", () => "yes" as unknown as boolean],
])("DD-10: an admission that %s refuses", async (_, admit) => {
  const here = house({ admit });
  const guest = await join(here);
  expect(guest.closed).toHaveLength(1);
  expect(here.server.clients).toBe(0);
});

test("DD-10: an admission that never answers is given up after 10 s", async () => {
  const here = house({ admit: () => new Promise(() => {}) });
  const guest = await join(here);
  expect(guest.closed).toHaveLength(0);
  here.clock.advance(10_001);
  await settle();
  expect(guest.closed).toHaveLength(1);
});

test.each([
  ["a packet over 64 KiB", encodeDerpFrame(DERP.sendPacket, new Uint8Array(32 + 65_537))],
  ["a frame that promises 1 GiB", Uint8Array.of(4, 64, 0, 0, 0)],
  ["a short SendPacket", encodeDerpFrame(DERP.sendPacket, new Uint8Array(31))],
  ["ForwardPacket", encodeDerpFrame(DERP.forwardPacket, new Uint8Array(70))],
  ["WatchConns", encodeDerpFrame(DERP.watchConnections)],
  ["ClosePeer", encodeDerpFrame(DERP.closePeer, new Uint8Array(32))],
  ["a ping of 4 bytes", encodeDerpFrame(DERP.ping, new Uint8Array(4))],
  ["a ping of 1001 bytes", encodeDerpFrame(DERP.ping, new Uint8Array(1001))],
])("DD-7: %s disconnects", async (_, frame) => {
  const here = house();
  const guest = await join(here);
  guest.end.write(frame);
  await settle();
  expect(guest.closed).toHaveLength(1);
  expect(here.server.clients).toBe(0);
});

test("DD-7: frames of unknown types are passed over", async () => {
  const here = house();
  const guest = await join(here);
  guest.end.write(encodeDerpFrame(0x77, new Uint8Array(5000)));
  await settle();
  expect(guest.closed).toHaveLength(0);
});

test("DD-4: a client key of low order gets nowhere", async () => {
  const { server } = house();
  const [near, far] = duplexPair();
  server.accept(far);
  near.resume();
  near.write(encodeDerpFrame(DERP.clientInfo, new Uint8Array(32), new Uint8Array(24 + 60)));
  await settle();
  expect(far.destroyed).toBe(true);
});

test("DD-8: a client that does not read loses its own packets only, and is given up after 2 s", async () => {
  const here = house();
  const [sender, stalled, other] = [await join(here), await join(here), await join(here)];
  stalled.end.pause();
  for (let i = 0; i < 500; i++) {
    sender.client.send(stalled.key, new Uint8Array(1000));
    sender.client.send(other.key, Uint8Array.of(i));
    await new Promise((done) => void setImmediate(done));
  }
  await settle();
  expect(other.got).toHaveLength(500);
  here.clock.advance(2001);
  await settle();
  expect(here.server.clients).toBe(2);
});

test("DD-9: with two connections of one key the last writer gets the packets, and both are told", async () => {
  const here = house();
  const key = generatePrivateKey(here.random);
  const [first, second, other] = [await join(here, key), await join(here, key), await join(here)];
  expect(here.server.clients).toBe(2);
  other.client.send(first.key, Uint8Array.of(1));
  await settle();
  expect([first.got.length, second.got.length]).toEqual([0, 1]);
  first.client.send(other.key, Uint8Array.of(0));
  await settle();
  other.client.send(first.key, Uint8Array.of(2));
  await settle();
  expect([first.got.length, second.got.length]).toEqual([1, 1]);
  expect(first.health[0]).toContain("another connection");
  second.client.close();
  await settle();
  expect(first.health.at(-1)).toBe("");
});

test("DD-9: over its rate a client's reads wait", async () => {
  const here = house({ bytesPerSecond: 10_000 });
  const [a, b] = [await join(here), await join(here)];
  // Straight to the stream: our own client would keep to the limit that the server told it.
  for (let i = 0; i < 100; i++) a.end.write(encodeDerpFrame(DERP.sendPacket, b.key, new Uint8Array(1000)));
  await settle();
  const before = b.got.length;
  expect(before).toBeLessThan(100);
  for (let i = 0; i < 50; i++) {
    here.clock.advance(200);
    await settle();
  }
  expect(b.got).toHaveLength(100);
});

test("keepalives keep a silent connection; without them it ends after 120 s", async () => {
  const here = house();
  const guest = await join(here);
  for (let i = 0; i < 100; i++) {
    here.clock.advance(5000);
    await settle();
  }
  expect(guest.closed).toHaveLength(0);
  const alone = await join({
    ...here,
    server: new DerpServer({
      privateKey: generatePrivateKey(here.random),
      random: here.random,
      clock: new FakeClock(),
      log: silentLog,
      admit: () => true,
    }),
  });
  here.clock.advance(120_001);
  expect(alone.closed[0]).toContain("silent for 120 s");
});

test("over HTTP on TCP: upgrade, probe, captive portal check, and clients that connect by the map", async () => {
  const random = seededRandom(3);
  const server = new DerpServer({
    privateKey: generatePrivateKey(random),
    random,
    clock: systemClock,
    log: silentLog,
    admit: () => true,
  });
  const http = createServer();
  server.attach(http);
  await new Promise<void>((done) => void http.listen(0, "127.0.0.1", done));
  onTestFinished(() => {
    server.close();
    http.close();
  });
  const { port } = http.address() as AddressInfo;
  const at = `http://127.0.0.1:${port}`;
  expect((await fetch(`${at}/derp/probe`)).status).toBe(200);
  expect((await fetch(`${at}/derp/latency-check`, { method: "POST" })).status).toBe(405);
  expect((await fetch(`${at}/derp`)).status).toBe(426);
  const portal = await fetch(`${at}/generate_204`, { headers: { "X-Tailscale-Challenge": "abc" } });
  expect([portal.status, portal.headers.get("x-tailscale-response")]).toEqual([204, "response abc"]);

  const net = await import("node:net");
  const node = { Name: "1a", RegionID: 1, HostName: "127.0.0.1", DERPPort: port };
  const map = { Regions: { 1: { RegionID: 1, RegionCode: "a", RegionName: "A", Nodes: [node] } } };
  const { promise, resolve } = Promise.withResolvers<string>();
  const keys = [generatePrivateKey(random), generatePrivateKey(random)] as const;
  const pool = (nodePrivateKey: Uint8Array, onPacket: (text: string) => void) =>
    new DerpClients({
      nodePrivateKey,
      random,
      clock: systemClock,
      log: silentLog,
      map: () => map,
      onPacket: (region, source, payload) => onPacket(`${region} ${toHex(source)} ${toHex(payload)}`),
      // Plain TCP; the upgrade is written here because only the pool is under test.
      connect: async () => {
        const socket = net.connect(port, "127.0.0.1");
        socket.write(
          "GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\nConnection: Upgrade\r\nDerp-Fast-Start: 1\r\n\r\n",
        );
        return socket;
      },
    });
  const a = pool(keys[0], () => {});
  const b = pool(keys[1], resolve);
  onTestFinished(() => {
    a.close();
    b.close();
  });
  b.setHome(1);
  while (server.clients === 0) await settle();
  a.send(1, publicKeyOf(keys[1]), Uint8Array.of(42));
  expect(await promise).toBe(`1 ${toHex(publicKeyOf(keys[0]))} 2a`);
});
