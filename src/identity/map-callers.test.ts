import { decodeJwt, importJWK, jwtVerify } from "jose";
import { expect, test } from "vitest";
import { FakeClock } from "../base/clock.ts";
import type { Proof } from "../base/conn.ts";
import { Fault } from "../base/fault.ts";
import type { NetworkMap } from "../wire/network-map.ts";
import type { CapMap, Node } from "../wire/tailcfg.ts";
import { Assertions } from "./assertions.ts";
import { MapCallers } from "./map-callers.ts";

const node = (id: number, key: string, address: string, more: Partial<Node> = {}): Node => ({
  ID: id,
  StableID: `n${id}`,
  Name: `n${id}.tail.test.`,
  User: id,
  Key: `nodekey:${key}`,
  Addresses: [`${address}/32`],
  ...more,
});

function mapOf(...peers: Node[]): NetworkMap {
  return {
    self: node(1, "self", "100.64.0.1"),
    peers: new Map(peers.map((peer) => [peer.ID, peer])),
    users: new Map([
      [2, { ID: 2, LoginName: "a@x" }],
      [3, { ID: 3, LoginName: "b@x" }],
    ]),
    derpMap: { Regions: {} },
    dns: {},
    packetFilter: [],
    domain: "",
    health: [],
  };
}

const proof = (nodeKey: string, address: string): Proof => ({
  kind: "mesh",
  nodeKey,
  source: { address, port: 1 },
  destination: { address: "100.64.0.1", port: 80 },
});
const callersOf = (map: NetworkMap, held: CapMap = {}): MapCallers => {
  const callers = new MapCallers(() => held);
  callers.setMap(map);
  return callers;
};

test.each([
  ["user", node(2, "k", "100.64.0.2"), "100.64.0.2", "user"],
  ["tagged", node(2, "k", "100.64.0.2", { Tags: ["tag:ci"] }), "100.64.0.2", "tagged"],
  ["ID-18 routed", node(2, "k", "100.64.0.2", { AllowedIPs: ["10.1.0.0/24"] }), "10.1.0.9", "routed"],
  ["expired", node(2, "k", "100.64.0.2", { KeyExpiry: "2020-01-01T00:00:00Z" }), "100.64.0.2", "IDENTITY_EXPIRED"],
  ["never expires", node(2, "k", "100.64.0.2", { KeyExpiry: "0001-01-01T00:00:00Z" }), "100.64.0.2", "user"],
  ["ID-3 no profile", node(9, "k", "100.64.0.2"), "100.64.0.2", "IDENTITY_UNKNOWN_USER"],
  ["ID-3 unknown", node(2, "other", "100.64.0.2"), "100.64.0.2", "IDENTITY_UNKNOWN_PEER"],
])("%s", (_, peer, source, wanted) => {
  const caller = callersOf(mapOf(peer)).of(proof("k", source), 0);
  expect(caller instanceof Fault ? caller.code : caller.kind).toBe(wanted);
});

test("ID-11: identity follows the key; who changed is cut, who stayed is not", () => {
  const callers = callersOf(mapOf(node(2, "a", "100.64.0.2"), node(3, "c", "100.64.0.3")));
  const gone = callers.revoked(proof("a", "100.64.0.2"));
  const stays = callers.revoked(proof("c", "100.64.0.3"));
  const epoch = callers.epoch;
  callers.setMap(mapOf(node(4, "b", "100.64.0.2", { User: 3 }), node(3, "c", "100.64.0.3")));
  expect([gone.aborted, stays.aborted, callers.epoch > epoch]).toEqual([true, false, true]);
  expect(callers.of(proof("a", "100.64.0.2"), 0)).toBeInstanceOf(Fault);
  expect(callers.of(proof("b", "100.64.0.2"), 0)).toMatchObject({ kind: "user", login: "b@x" });
  expect(callers.revoked(proof("a", "100.64.0.2")).aborted).toBe(true);
});

test("ID-12: a Funnel visitor is nobody, whatever address is claimed", () => {
  const callers = callersOf(mapOf(node(2, "k", "100.64.0.2")), { cap: [1] });
  const visitor = { address: "100.64.0.2", port: 1 };
  const caller = callers.of({ kind: "ingress", nodeKey: "k", visitor, destination: visitor }, 0);
  expect(caller).toEqual({ kind: "anonymous", address: "100.64.0.2" });
  expect(callers.capabilities(caller as never, "100.64.0.1", ["cap"])).toBeUndefined();
});

test.each([
  [{}, ["a/x"], undefined],
  [{ "b/y": [true] }, ["a/x"], "{}"],
  [
    { "b/y": [true], "a/x": [{ role: "<&>" }] },
    ["a/x", "b/y"],
    '{"a/x":[{"role":"\\u003c\\u0026\\u003e"}],"b/y":[true]}',
  ],
  [{ "a/x": null }, ["a/x"], '{"a/x":[]}'],
  [{ "a/x": [1] }, [], undefined],
  [{ "a/x": [1], "a/y": [2], b: [3] }, ["a/*"], '{"a/x":[1],"a/y":[2]}'],
])("ID-10: held %j, accepted %j: %s", (held, names, wanted) => {
  const callers = callersOf(mapOf(node(2, "k", "100.64.0.2")), held);
  const caller = callers.of(proof("k", "100.64.0.2"), 0);
  expect(callers.capabilities(caller as never, "100.64.0.1", names)).toBe(wanted);
});

test("assertions verify with the published key and are short-lived", async () => {
  const clock = new FakeClock();
  const assertions = await Assertions.create("https://gw.tail.test", clock);
  const token = await assertions.sign({ kind: "anonymous", address: "1.2.3.4" }, "http://gw", '{"a":[1]}');
  const key = await importJWK(assertions.jwks.keys[0]!, "EdDSA");
  const { payload } = await jwtVerify(token, key, { currentDate: new Date(clock.wall()), audience: "http://gw" });
  expect(payload).toMatchObject({ kind: "anonymous", capabilities: { a: [1] } });
  expect(decodeJwt(token).exp! - decodeJwt(token).iat!).toBe(60);
});

test("an assertion is signed once in 20 s for the same caller, and anew for another, and after", async () => {
  const clock = new FakeClock();
  let issuer = "https://gw.tail.test";
  const assertions = await Assertions.create(() => issuer, clock);
  const sign = (address = "1.2.3.4", capabilities?: string) =>
    assertions.sign({ kind: "anonymous", address }, "http://gw", capabilities);
  const first = await sign();
  expect(await sign()).toBe(first);
  expect(await sign("1.2.3.5")).not.toBe(first);
  expect(await sign("1.2.3.4", '{"a":[1]}')).not.toBe(first);
  clock.advance(20_000);
  expect(decodeJwt(await sign()).iat! - decodeJwt(first).iat!).toBe(20);
  issuer = "https://renamed.tail.test";
  expect(decodeJwt(await sign()).iss).toBe("https://renamed.tail.test");
});
