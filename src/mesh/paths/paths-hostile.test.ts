import fc from "fast-check";
import { expect, test } from "vitest";
import { playedPeer } from "../../../test/suites/disco-peer.ts";
import { batchOf, pair } from "../../../test/suites/disco-world.ts";
import { formatAddressPort, parseAddressPort } from "../../base/address.ts";
import { toHex } from "../../base/bytes.ts";
import { seededRandom } from "../../base/random.ts";
import { boxKey, sealBox } from "../../crypto/box.ts";
import { publicKeyOf } from "../../crypto/keys.ts";
import { type DiscoMessage, encodeDiscoFrame } from "../../wire/disco.ts";

const pongTo = (tx: Uint8Array): DiscoMessage => ({ kind: "pong", tx, source: { address: "192.0.2.1", port: 41641 } });

test("DD-12: direct, then DERP when UDP goes away, then direct again; while unsure both ways", () => {
  const { world, a, b } = pair("full cone", "port-restricted");
  a.talk(90_000);
  b.talk(90_000);
  world.run(5000);
  expect(a.kind(world.now)).toBe("udp");
  world.isUdpBlocked = true;
  const cutAt = world.now;
  let both = false;
  while (a.kind(world.now) === "udp" && world.now - cutAt < 20_000) world.run(100);
  both = a.paths.second(0, world.now) >= 0;
  expect(world.now - cutAt).toBeLessThan(6600); // the trust in an address after its last pong
  expect(both).toBe(true);
  world.run(15_000);
  expect(a.paths.second(0, world.now)).toBe(-1);
  world.isUdpBlocked = false;
  world.run(9000);
  expect([a.kind(world.now), b.kind(world.now)]).toEqual(["udp", "udp"]);
});

test("DD-12: while data flows, a way that died is left within 1.5 s on both sides", () => {
  const { world, a, b } = pair("port-restricted", "port-restricted");
  a.converse(b, 60_000);
  world.run(5000);
  expect([a.kind(world.now), b.kind(world.now)]).toEqual(["udp", "udp"]);
  world.isUdpBlocked = true;
  world.run(1500);
  expect([a.kind(world.now), b.kind(world.now)]).toEqual(["derp", "derp"]);
  expect(a.paths.second(0, world.now)).toBeGreaterThanOrEqual(0);
  world.isUdpBlocked = false;
  world.run(6000);
  expect([a.kind(world.now), b.kind(world.now)]).toEqual(["udp", "udp"]);
});

test("DD-1: only the right pong, from where it was asked, in time, moves the path", () => {
  const here = playedPeer();
  const { world, host, say, pings } = here;
  host.paths.sent(0, world.now);
  world.run(10);
  const { tx } = pings()[0]!;
  const random = seededRandom(5);
  for (let i = 0; i < 10_000; i++) say(pongTo(random(12)), "192.0.2.9:5000");
  say(pongTo(tx), "192.0.2.9:5001");
  say(pongTo(tx), "192.0.2.10:5000");
  here.sayByDerp(pongTo(tx));
  expect(host.kind(world.now)).toBe("derp");
  world.run(5000);
  say(pongTo(tx), "192.0.2.9:5000");
  expect(host.kind(world.now)).toBe("derp");
  host.paths.sent(0, world.now);
  world.run(10);
  say(pongTo(pings().at(-1)!.tx), "192.0.2.9:5000");
  expect(host.kind(world.now)).toBe("udp");
  world.run(6000);
  say(pongTo(tx), "192.0.2.9:5000"); // twice: prolongs nothing
  world.run(600);
  expect(host.kind(world.now)).toBe("derp");
});

test("DD-2: strangers, keys of other nodes and broken boxes get no answer", () => {
  const { world, host, nodeKey, say, seal, heard } = playedPeer();
  const pongs = () => heard().filter(({ message }) => message.kind === "pong").length;
  const tx = new Uint8Array(12).fill(1);
  say({ kind: "ping", tx, nodeKey: new Uint8Array(32).fill(9) }, "192.0.2.9:5000");
  const from = { kind: "udp", address: "192.0.2.9", port: 5000 } as const;
  const ping = seal({ kind: "ping", tx, nodeKey });
  for (let i = 6; i < ping.length; i++) {
    const broken = ping.slice();
    broken[i]! ^= 4;
    host.receive(from, broken);
  }
  host.receive({ kind: "derp", region: 1, nodeKey: toHex(new Uint8Array(32).fill(8)) }, ping);
  world.run(1000);
  expect(pongs()).toBe(0);
  host.receive(from, ping);
  expect(pongs()).toBe(1);
});

test("DD-3: a list of 1,000 addresses is 32 candidates, none of them forbidden, five a second", () => {
  const forbidden = [
    "127.0.0.1:1",
    "224.0.0.1:1",
    "0.0.0.0:1",
    "169.254.169.254:80",
    "192.0.2.1:41641",
    "255.255.255.255:9",
    "[::1]:1",
    "[ff02::1]:1",
    "[fe80::1]:1",
    "[fd7a:115c:a1e0::1]:1",
    "8.8.8.8:0",
    "100.100.100.100:53",
  ];
  const many = Array.from({ length: 1000 }, (_, i) => `8.8.${i >> 8}.${i & 255}:${1 + i}`);
  const here = playedPeer([...forbidden, ...many]);
  const { world, host, pings, sayByDerp } = here;
  const startedAt = world.now;
  host.talk(30_000);
  sayByDerp({ kind: "callMeMaybe", endpoints: [...forbidden, ...many].map((text) => parseAddressPort(text)!) });
  world.run(30_000);
  const asked = new Set(pings().map(({ to }) => (to.kind === "udp" ? formatAddressPort(to) : "derp")));
  expect(asked.size).toBeGreaterThan(4);
  expect(asked.size).toBeLessThanOrEqual(32);
  for (const endpoint of forbidden) expect(asked.has(endpoint)).toBe(false);
  expect(pings().length).toBeLessThanOrEqual(5 + (5 * (world.now - startedAt)) / 1000);
});

test("DD-4: a peer whose disco key is of low order has no disco, and DERP still works", () => {
  const { world, host, nodeKey } = playedPeer();
  const peer = {
    index: 0,
    nodeKey,
    discoKey: new Uint8Array(32),
    endpoints: ["192.0.2.9:1"],
    homeDerp: 1,
    isWireGuardOnly: false,
  };
  host.paths.setPeer(peer, world.now);
  host.paths.sent(0, world.now);
  world.run(1000);
  expect(host.kind(world.now)).toBe("derp");
});

test("DD-5: no datagram makes it throw, sealed or not", () => {
  const { world, host, seal, discoPrivate } = playedPeer();
  const path = host.table.intern({ kind: "udp", address: "192.0.2.9", port: 5000 });
  const key = boxKey(discoPrivate, publicKeyOf(host.discoPrivate))!;
  const head = seal({ kind: "callMeMaybe", endpoints: [] });
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(3), (bytes, way) => {
      const nonce = head.subarray(38, 62);
      const sealed = encodeDiscoFrame({ senderKey: head.subarray(6, 38), nonce, box: sealBox(key, nonce, bytes) });
      const datagram = [
        bytes,
        sealed,
        Uint8Array.of(...head.subarray(0, 62), ...bytes),
        Uint8Array.of(1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, ...bytes),
      ][way]!;
      host.paths.input(
        batchOf(datagram, way === 1 ? host.table.intern({ kind: "derp", region: 1, nodeKey: "zz" }) : path),
        world.now,
      );
    }),
    { numRuns: 3000 },
  );
});
