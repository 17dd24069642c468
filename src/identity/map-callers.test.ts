import { decodeJwt, importJWK, jwtVerify } from "jose";
import { expect, test } from "vitest";
import { mapNode, networkMap } from "../../test/suites/network-map.ts";
import { FakeClock } from "../base/clock.ts";
import type { Proof } from "../base/conn.ts";
import { Fault } from "../base/fault.ts";
import type { NetworkMap } from "../wire/network-map.ts";
import type { CapMap, Node } from "../wire/tailcfg.ts";
import { Assertions } from "./assertions.ts";
import { encodeHeaderValue, identityHeaders } from "./headers.ts";
import { MapCallers } from "./map-callers.ts";

const node = (id: number, key: string, address: string, more: Partial<Node> = {}): Node =>
  mapNode(id, { User: id, Key: `nodekey:${key}`, Addresses: [`${address}/32`], ...more });

const mapOf = (...peers: Node[]): NetworkMap =>
  networkMap(peers, {
    self: node(1, "self", "100.64.0.1"),
    users: new Map([
      [2, { ID: 2, LoginName: "a@x" }],
      [3, { ID: 3, LoginName: "b@x" }],
    ]),
  });

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
  [
    "expired long ago",
    node(2, "k", "100.64.0.2", { KeyExpiry: "1969-01-01T00:00:00Z" }),
    "100.64.0.2",
    "IDENTITY_EXPIRED",
  ],
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

const visit = (relay: string, i: number): Proof => ({
  kind: "ingress",
  nodeKey: relay,
  visitor: { address: `203.0.${i >> 8}.${i & 255}`, port: 1 },
  destination: { address: "100.64.0.1", port: 443 },
});

test("strangers from 70,000 addresses cut no member of the mesh off", () => {
  const callers = callersOf(mapOf(node(2, "a", "100.64.0.2"), node(3, "relay", "100.64.0.3")));
  const member = callers.revoked(proof("a", "100.64.0.2"));
  for (let i = 0; i < 70_000; i++) {
    const address = `2001:db8::${(i >> 8).toString(16)}:${(i & 255).toString(16)}`;
    expect(callers.revoked({ ...visit("relay", 0), visitor: { address, port: 1 } } as Proof).aborted).toBe(false);
  }
  expect(member.aborted).toBe(false);
});

test("addresses behind a subnet router make room among themselves", () => {
  const callers = callersOf(mapOf(node(2, "a", "100.64.0.2"), node(3, "router", "100.64.0.3")));
  const member = callers.revoked(proof("a", "100.64.0.2"));
  const routed = Array.from({ length: 16_385 }, (_, i) =>
    callers.revoked(proof("router", `10.0.${i >> 8}.${i & 255}`)),
  );
  expect([member.aborted, routed[0]!.aborted, routed[1]!.aborted]).toEqual([false, true, false]);
});

test("a visitor whom two relays bring is cut with the one that is gone, and stays with the other", () => {
  const callers = callersOf(mapOf(node(2, "one", "100.64.0.2"), node(3, "two", "100.64.0.3")));
  const [byOne, byTwo] = [callers.revoked(visit("one", 9)), callers.revoked(visit("two", 9))];
  callers.setMap(mapOf(node(3, "two", "100.64.0.3")));
  expect([byOne.aborted, byTwo.aborted]).toEqual([true, false]);
  callers.setMap(mapOf(node(2, "one", "100.64.0.2")));
  expect(byTwo.aborted).toBe(true);
});

/** What a relay could claim of a visitor. */
const CLAIMS: readonly string[] = [
  ...["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.1.1", "0.0.0.0", "fe80::1", "fc00::1"],
  ...["203.0.113.9", "2001:db8::1", "::ffff:203.0.113.9", "::ffff:127.0.0.1", "255.255.255.255"],
  ...Array.from({ length: 44 }, (_, i) => `100.${64 + i}.${i}.${200 - i}`),
  ...Array.from({ length: 20 }, (_, i) => `fd7a:115c:a1e0::${(i * 257).toString(16)}`),
  ...Array.from({ length: 10 }, (_, i) => `::ffff:100.${64 + 6 * i}.0.${i + 1}`),
  ...[
    "100.64.0.1",
    "100.64.0.2",
    "FD7A:115C:A1E0::2",
    "fd7a:115c:a1e0:0:0:0:0:2",
    "",
    "alice",
    "100.64.0.2%eth0",
    "1.2.3",
  ],
  ...["100.63.255.255", "100.128.0.0", "fd7a:115c:a1df::1", "fd7a:115c:a1e1::1"],
];
const IN_MESH = /^(?:::ffff:)?100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.|^fd7a:115c:a1e0:/i;

test("ID-12: a Funnel visitor is nobody, whatever address is claimed, and none with an address of the mesh", () => {
  expect(CLAIMS.length).toBeGreaterThanOrEqual(100);
  const callers = callersOf(mapOf(node(2, "k", "100.64.0.2")), { cap: [1] });
  for (const address of CLAIMS) {
    const destination = { address: "100.64.0.1", port: 443 };
    const caller = callers.of({ kind: "ingress", nodeKey: "k", visitor: { address, port: 1 }, destination }, 0);
    const isRefused = IN_MESH.test(address) || !/^[\da-f.:]*[.:][\da-f.:]*$/i.test(address) || address === "1.2.3";
    expect([address, caller instanceof Fault ? caller.code : caller.kind]).toEqual([
      address,
      isRefused ? "IDENTITY_INGRESS_CLAIM" : "anonymous",
    ]);
    if (!(caller instanceof Fault)) expect(callers.capabilities(caller, "100.64.0.1", ["cap"])).toBeUndefined();
  }
});

/** Texts that look alike, or are alike to a program that folds too much. */
function lookAlikes(): [string, string][] {
  const logins = [
    "mark@example.com",
    "kim@xn--bcher-kva.example",
    "jos\u00e9@example.com",
    "admin@example.com",
    "k@k.k",
    "anke.müller@mail.example",
  ];
  const changes: ((text: string) => string)[] = [
    (text) => text.replaceAll("k", "\u212a"), // the Kelvin sign is a k in lower case
    (text) => text.normalize("NFD"),
    (text) => text.replaceAll("a", "\u0430"),
    (text) => text.replaceAll("e", "\u0435"),
    (text) => text.replaceAll("i", "\u0131"),
    (text) => text.replaceAll("i", "\u0130"),
    (text) => text.replaceAll("m", "\uff4d"),
    (text) => text.toUpperCase(),
    (text) => text.replace(/@.*/, (domain) => domain.toUpperCase()),
    ...["", " ", ".", "\u200b", "\u00a0", "\0", "\t", "\u202e", "\ufeff", "@"].flatMap((mark) => [
      (text: string) => text + mark,
      (text: string) => mark + text,
      (text: string) => text.replace("@", `${mark}@`),
      (text: string) => text.replace("@", `@${mark}`),
      (text: string) => text.slice(0, 1) + mark + text.slice(1),
    ]),
    (text) => text.replace("@", "\uff20"),
    (text) => text.replaceAll(".", "\u3002"),
  ];
  return logins.flatMap((login) =>
    changes.flatMap((change) => [
      [login, change(login)] as [string, string],
      [change(login), change(change(login))] as [string, string],
    ]),
  );
}

test("ID-15: logins are the same only when every character is", () => {
  const pairs = lookAlikes().filter(([one, other]) => one !== other);
  expect(pairs.length).toBeGreaterThanOrEqual(500);
  for (const [one, other] of pairs) {
    const mapWith = (login: string): NetworkMap => ({
      ...mapOf(node(2, "k", "100.64.0.2")),
      users: new Map([[2, { ID: 2, LoginName: login }]]),
    });
    const callers = callersOf(mapWith(one));
    const kept = callers.revoked(proof("k", "100.64.0.2"));
    callers.setMap(mapWith(one));
    expect(kept.aborted).toBe(false);
    callers.setMap(mapWith(other));
    expect([one, other, kept.aborted]).toEqual([one, other, true]);
    expect(encodeHeaderValue(one)).not.toBe(encodeHeaderValue(other));
  }
});

test.each([
  ["the profile of what belongs to nobody", { ID: 2, LoginName: "tagged-devices", DisplayName: "Tagged Devices" }],
  ["an empty login", { ID: 2, LoginName: "" }],
  ["another user's number", { ID: 5, LoginName: "a@x" }],
])("ID-16: %s never becomes a user", (_, profile) => {
  const map = { ...mapOf(node(2, "k", "100.64.0.2")), users: new Map([[profile.ID, profile]]) };
  const caller = callersOf(map).of(proof("k", "100.64.0.2"), 0);
  expect(caller).toMatchObject({ code: "IDENTITY_UNKNOWN_USER" });
});

test("ID-16: a tagged node has no user fields at all, not even empty ones", () => {
  const map = mapOf(node(2, "k", "100.64.0.2", { Tags: ["tag:ci"] }));
  const caller = callersOf(map).of(proof("k", "100.64.0.2"), 0);
  if (caller instanceof Fault) throw caller;
  const pairs = identityHeaders({
    caller,
    capabilities: "{}",
    isFunnel: false,
    isTls: true,
    host: "gw",
    assertion: undefined,
    hops: 0,
  });
  expect(pairs.map(([name]) => name)).toEqual([
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "Tailscale-App-Capabilities",
    "Sallyport-Caller-Kind",
    "Sallyport-Hops",
  ]);
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
