import { createServer } from "node:http";
import { expect, onTestFinished, test } from "vitest";
import { house, join, relayOf, settle } from "../../test/suites/derp-house.ts";
import { listening } from "../../test/suites/listening.ts";
import { toHex } from "../base/bytes.ts";
import { FakeClock, systemClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { seededRandom } from "../base/random.ts";
import { generatePrivateKey, publicKeyOf } from "../crypto/keys.ts";
import { DerpClients } from "../mesh/derp/derp-clients.ts";

const DISCO = Uint8Array.of(0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac, ...new Uint8Array(80));

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
    server: relayOf(here.random, { clock: new FakeClock() }),
  });
  here.clock.advance(120_001);
  expect(alone.closed[0]).toContain("silent for 120 s");
});

test("over HTTP on TCP: upgrade, probe, captive portal check, and clients that connect by the map", async () => {
  const random = seededRandom(3);
  const server = relayOf(random);
  const http = createServer();
  server.attach(http);
  const port = await listening(http);
  onTestFinished(() => {
    server.close();
    http.close();
  });
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
