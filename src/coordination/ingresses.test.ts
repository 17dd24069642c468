import { expect, test } from "vitest";
import { mkey, nodeKey, peersOf, type Rig, start } from "../../test/suites/coordination-rig.ts";
import { parseAddress } from "../base/address.ts";
import { publicNamesOf } from "../funnel/mesh-names.ts";
import { NameTable } from "../funnel/public-names.ts";
import { AddressSet, parseRanges } from "../wire/address-set.ts";
import { capabilitiesOf } from "../wire/capabilities.ts";
import { claimServices, leasableServices } from "../wire/claims.ts";
import type { NetworkMap } from "../wire/network-map.ts";
import type { Hostinfo } from "../wire/tailcfg.ts";
import { compilePolicy } from "./policy/policy.ts";

const INGRESS = "https://tailscale.com/cap/ingress";
const PORTS = "https://tailscale.com/cap/funnel-ports?ports=443,8443,10000";
const NAMES = "sallyport.dev/public-names";

/** Everybody may reach everybody; `tag:relay` relays, Ada's nodes may be public. */
const POLICY = compilePolicy(`{
  "tagOwners": { "tag:relay": ["ada@example.com"] },
  "acls": [{ "action": "accept", "src": ["*"], "dst": ["*:*"] }],
  "nodeAttrs": [
    { "target": ["tag:relay"], "attr": ["sallyport.dev/ingress"] },
    { "target": ["ada@example.com"], "attr": ["funnel"] },
  ],
}`);

const RELAY = 1;
const WEB = 2;
const LAPTOP = 3;
const BOB = 4;
const online = ({ Services = [], ...hostinfo }: Hostinfo) => ({
  Hostname: "web",
  ...hostinfo,
  Services: [{ Proto: "peerapi4", Port: 40_000 }, ...Services],
});

/** What a node says that wants visitors under these names. */
const asking = (...claims: readonly string[]) => ({ IngressEnabled: true, Services: claimServices(claims) });

async function world(): Promise<Rig> {
  const rig = await start({ policy: POLICY });
  await rig.join(RELAY, "ada@example.com", { Hostinfo: { Hostname: "relay", RequestTags: ["tag:relay"] } });
  await rig.join(WEB, "ada@example.com", { Hostinfo: { Hostname: "web" } });
  await rig.join(LAPTOP, "ada@example.com", { Hostinfo: { Hostname: "laptop" } });
  await rig.join(BOB, "bob@example.com", { Hostinfo: { Hostname: "bob" } });
  expect(rig.coordinator.nodes().find(({ name }) => name === "relay")?.tags).toEqual(["tag:relay"]);
  return rig;
}

const namesOf = (map: NetworkMap): string[] =>
  [...map.peers.values()].map(({ Name }) => Name.split(".")[0]!).toSorted();
const named = (map: NetworkMap, name: string) =>
  [...map.peers.values()].find(({ Name }) => Name.startsWith(`${name}.`));

test("a relay and a node that wants visitors learn of each other, and nobody else of the relay", async () => {
  const rig = await world();
  const [relay, web, laptop, bob] = await Promise.all([RELAY, WEB, LAPTOP, BOB].map((seed) => rig.follow(seed)));
  expect(namesOf(await relay!())).toEqual([]);
  expect(namesOf(await web!())).toEqual(["bob", "laptop"]);

  await rig.lite(WEB, { Hostinfo: online({ IngressEnabled: true }) });
  const seen = await relay!();
  expect(namesOf(seen)).toEqual(["web"]);
  expect(named(seen, "web")).toMatchObject({
    CapMap: { [NAMES]: [{ name: "web.tail.test", ports: [443, 8443, 10000] }] },
    Hostinfo: { Services: [{ Proto: "peerapi4", Port: 40_000 }] },
  });
  const own = await web!();
  expect(namesOf(own)).toEqual(["bob", "laptop", "relay"]);
  expect(named(own, "relay")?.UnsignedPeerAPIOnly).toBe(true);
  expect(own.users.get(named(own, "relay")!.User)?.LoginName).toBe("tagged-devices");
  expect(namesOf(await laptop!())).toEqual(["bob", "web"]);
  expect(namesOf(await bob!())).toEqual(["laptop", "web"]);
  expect(JSON.stringify([(await laptop!()).peers.get(2), (await bob!()).peers.get(2)])).not.toContain(NAMES);
});

test("FN-10 what a node asks for its visitors is told to relays, and to nobody else", async () => {
  const rig = await world();
  const [relay, web, laptop, bob] = await Promise.all([RELAY, WEB, LAPTOP, BOB].map((seed) => rig.follow(seed)));
  const asked = { sites: ["web.tail.test:443"], deny: ["198.51.100.0/24"], limits: { connections: 5 } };
  const other = { sites: ["bob.tail.test:443"], allow: [] };
  const tell = (rules: unknown): Promise<unknown> =>
    rig.lite(WEB, { Hostinfo: online({ IngressEnabled: true }), "sallyport.dev/visitor-rules": rules } as object);
  const told = async (): Promise<unknown> =>
    (named(await relay!(), "web")!.CapMap![NAMES]![0] as { rules: unknown }).rules;
  await tell([asked, other]);
  expect(await told()).toEqual([asked]);
  for (const map of [await web!(), await laptop!(), await bob!()]) {
    expect(JSON.stringify([map.self, ...map.peers.values()])).not.toContain("198.51.100");
  }
  await tell([{ ...asked, deny: ["198.51.100.0/24", "192.0.2.1/32"] }]);
  expect(await told()).toEqual([{ ...asked, deny: ["198.51.100.0/24", "192.0.2.1/32"] }]);
  await tell([{ ...asked, deny: ["everybody"] }]);
  expect(await told()).toEqual([{ sites: ["web.tail.test:443"], allow: [] }]);
  await tell("nonsense");
  expect(await told()).toEqual([{ sites: ["*"], allow: [] }]);
  await tell(undefined);
  expect(await told()).toBeUndefined();
});

test("FN-11 all that a relay may do with a node is to deliver", async () => {
  const rig = await world();
  const web = await rig.follow(WEB);
  const relay = await rig.follow(RELAY);
  await rig.lite(WEB, { Hostinfo: online({ IngressEnabled: true }) });
  const map = await web();
  const addresses = (name: string): string[] => named(map, name)!.Addresses.map((text) => text.split("/")[0]!);
  const mine = map.self.Addresses.map((text) => text.split("/")[0]!);
  const reachesPorts = (address: string): boolean =>
    map.packetFilter.some(
      ({ DstPorts, SrcIPs }) =>
        (DstPorts ?? []).length > 0 &&
        SrcIPs.some((text) => new AddressSet(parseRanges(text) ?? []).has(parseAddress(address)!)),
    );
  for (const [i, address] of addresses("relay").entries()) {
    expect(reachesPorts(address)).toBe(false);
    expect(Object.keys(capabilitiesOf(map.packetFilter, address, mine[i]!))).toEqual([INGRESS]);
  }
  for (const [i, address] of addresses("laptop").entries()) {
    expect(reachesPorts(address)).toBe(true);
    expect(Object.keys(capabilitiesOf(map.packetFilter, address, mine[i]!))).toEqual([]);
  }
  expect((await relay()).packetFilter).toEqual([]);
});

test("off is told at once; a node that only may want visitors is known and has no name", async () => {
  const rig = await world();
  const relay = await rig.follow(RELAY);
  await rig.lite(WEB, { Hostinfo: online({ IngressEnabled: true }) });
  expect(named(await relay(), "web")?.CapMap?.[NAMES]).toHaveLength(1);
  await rig.lite(WEB, { Hostinfo: online({ WireIngress: true }) });
  expect(named(await relay(), "web")?.CapMap?.[NAMES]).toEqual([]);
  await rig.lite(WEB, { Hostinfo: online({}) });
  expect(namesOf(await relay())).toEqual([]);
});

test("FN-14 a node that the policy does not give `funnel` is not public, whatever it says", async () => {
  const rig = await world();
  const relay = await rig.follow(RELAY);
  const bob = await rig.follow(BOB);
  await rig.lite(BOB, { Hostinfo: { Hostname: "bob", IngressEnabled: true } });
  expect(namesOf(await relay())).toEqual([]);
  expect(Object.keys((await bob()).self.CapMap ?? {})).not.toContain(PORTS);
  await rig.coordinator.setPolicy(compilePolicy(""), "", "root"); // nobody relays, nobody is public
  await rig.lite(WEB, { Hostinfo: online({ IngressEnabled: true }) });
  expect(namesOf(await bob())).toEqual(["laptop", "relay", "web"]);
});

test("`funnel` comes with the ports that relays listen on", async () => {
  const rig = await world();
  const web = await rig.follow(WEB);
  const capMap = (await web()).self.CapMap ?? {};
  expect(capMap).toHaveProperty("funnel", null);
  expect(Object.keys(capMap)).toContain(PORTS);
});

test("a relay that comes later is told of everybody who waits for one", async () => {
  const rig = await start({ policy: POLICY });
  await rig.join(WEB, "ada@example.com", { Hostinfo: online({ IngressEnabled: true }) });
  const web = await rig.poll(WEB);
  expect(peersOf(web.take())).toEqual([]);
  await rig.join(RELAY, "ada@example.com", { Hostinfo: { Hostname: "relay", RequestTags: ["tag:relay"] } });
  await rig.settle(300);
  expect(peersOf(web.take()).map(({ Name }) => Name)).toEqual(["relay.tail.test."]);
  const relay = await rig.follow(RELAY);
  expect(namesOf(await relay())).toEqual(["web"]);
});

const DOMAINS = (grants: Readonly<Record<string, readonly string[]>>): string => `{
  "tagOwners": { "tag:relay": ["ada@example.com"] },
  "acls": [{ "action": "accept", "src": ["*"], "dst": ["*:*"] }],
  "nodeAttrs": [
    { "target": ["tag:relay"], "attr": ["sallyport.dev/ingress"] },
    { "target": ["*"], "attr": ["funnel"] },
    ${Object.entries(grants)
      .map(
        ([who, names]) =>
          `{ "target": ["${who}"], "app": { "sallyport.dev/domains": [{ "names": ${JSON.stringify(names)} }] } },`,
      )
      .join("\n    ")}
  ],
}`;

test("FN-14 an own domain that the policy grants to two has one holder, whatever comes after", async () => {
  const rig = await world();
  const grant = async (grants: Readonly<Record<string, readonly string[]>>): Promise<void> => {
    const source = DOMAINS(grants);
    await rig.coordinator.setPolicy(compilePolicy(source), source, "root");
  };
  const relay = await rig.follow(RELAY);
  const bob = await rig.follow(BOB);
  const web = await rig.follow(WEB);
  const own = async (name: string): Promise<string[]> => {
    const claims = (named(await relay(), name)?.CapMap?.[NAMES] ?? []) as { name: string }[];
    return claims.map((claim) => claim.name);
  };
  const both = {
    "ada@example.com": ["demo.example.org"],
    "bob@example.com": ["demo.example.org", "*.shop.example.org"],
  };
  await grant(both);
  await rig.lite(BOB, { Hostinfo: { Hostname: "bob", ...asking("demo.example.org", "*.shop.example.org") } });
  expect(await own("bob")).toEqual(["bob.tail.test", "demo.example.org", "*.shop.example.org"]);
  await rig.lite(WEB, { Hostinfo: online(asking("demo.example.org")) }); // an older node, but bob was first
  expect(await own("web")).toEqual(["web.tail.test"]);
  expect((await web()).self.CapMap?.[NAMES]).toEqual([{ name: "web.tail.test", ports: [443, 8443, 10000] }]);
  expect((await bob()).self.CapMap?.[NAMES]).toHaveLength(3);
  for (let i = 0; i < 20; i++) {
    await rig.lite(LAPTOP, { Hostinfo: { Hostname: "laptop", IngressEnabled: i % 2 === 0 } });
    await grant(i % 3 === 0 ? both : { ...both, "tag:relay": ["x.example.org"] });
    expect(await own("bob")).toContain("demo.example.org");
    expect(await own("web")).toEqual(["web.tail.test"]);
  }
  await grant({ "ada@example.com": ["demo.example.org"] });
  expect(await own("bob")).toEqual(["bob.tail.test"]);
  expect(await own("web")).toEqual(["web.tail.test", "demo.example.org"]);
});

test("FN-14 a name whose holder's key ran out went to the holder of the wildcard above it", async () => {
  const rig = await world();
  const source = DOMAINS({ "ada@example.com": ["a.example.org"], "bob@example.com": ["*.example.org"] });
  await rig.coordinator.setPolicy(compilePolicy(source), source, "root");
  const relay = await rig.follow(RELAY);
  await rig.lite(WEB, { Hostinfo: online(asking("a.example.org")) });
  await rig.lite(BOB, { Hostinfo: online({ ...asking("*.example.org"), Hostname: "bob" }) });
  let table = new NameTable([]);
  const owners = async (): Promise<unknown> => {
    table = new NameTable(publicNamesOf(await relay()), table);
    return ["a.example.org", "b.example.org"].map((name) => table.find(name, 443)?.owner);
  };
  const idOf = (wanted: string) => rig.coordinator.nodes().find(({ name }) => name === wanted)!.id;
  const [web, bob] = (await owners()) as [string, string];
  expect([web, bob]).toEqual([named(await relay(), "web")?.StableID, named(await relay(), "bob")?.StableID]);
  await rig.coordinator.expireNode(idOf("web"), "root");
  expect(await owners()).toEqual([undefined, bob]);
  await rig.coordinator.deleteNode(idOf("web"), "root");
  expect(await owners()).toEqual([bob, bob]); // nobody holds it by itself any more
});

test("a stock client was renamed: DNS kept its former name and never learned the new one; its host name or an administrator says it", async () => {
  const rig = await world();
  await rig.lite(WEB, { Hostinfo: online({ IngressEnabled: true }) });
  const web = await rig.follow(WEB);
  const inDns = (): readonly string[] =>
    ["web", "shop", "blog"].filter((name) => rig.coordinator.publicPlace(`${name}.tail.test`) === "name");
  const named = async (): Promise<unknown> => (await web()).self.CapMap?.[NAMES];
  expect(inDns()).toEqual(["web"]);
  await rig.lite(WEB, { Hostinfo: { ...online({ IngressEnabled: true }), Hostname: "shop" } });
  expect(inDns()).toEqual(["shop"]);
  expect(await named()).toMatchObject([{ name: "shop.tail.test" }]);
  await rig.coordinator.renameNode("shop", "blog", "root");
  expect(inDns()).toEqual(["blog"]);
  expect(await named()).toMatchObject([{ name: "blog.tail.test" }]);
});

test("an own domain's CNAME had no name to lead to: its node has none in DNS that is not public by itself, and the ingress had none", async () => {
  const rig = await world();
  const place = (name: string): unknown => rig.coordinator.publicPlace(`${name}.tail.test`);
  expect([place("relay"), place("web"), place("a.relay")]).toEqual(["name", undefined, undefined]);
  await rig.coordinator.renameNode("relay", "ingress", "root");
  expect([place("relay"), place("ingress")]).toEqual([undefined, "name"]);
  await rig.coordinator.expireNode("ingress", "root");
  expect(place("ingress")).toBeUndefined();
});

test("a node that logged out stayed in DNS, and its visitors were told that it is away", async () => {
  const rig = await world();
  await rig.lite(WEB, { Hostinfo: online({ IngressEnabled: true }) });
  const relay = await rig.follow(RELAY);
  expect(namesOf(await relay())).toEqual(["web"]);
  await rig.ask(WEB, { Expiry: "1970-01-01T00:00:00Z" });
  expect(rig.coordinator.publicPlace("web.tail.test")).toBeUndefined();
  expect(namesOf(await relay())).toEqual([]);
  const { key } = await rig.coordinator.createAuthKey({ user: "ada@example.com" }, "root");
  await rig.ask(
    LAPTOP + 20,
    { OldNodeKey: nodeKey(WEB), Auth: { AuthKey: key }, Hostinfo: online({ IngressEnabled: true }) },
    WEB,
  );
  expect(rig.coordinator.publicPlace("web.tail.test")).toBe("name");
  expect(namesOf(await relay())).toEqual(["web"]);
});

test("FN-3 what a gateway does not say is public has no name at the relays and none in DNS; its raw ports have its own", async () => {
  const rig = await world();
  const source = DOMAINS({ "ada@example.com": ["shop.example.org", "*.example.net"] }).replace(
    `"app": {`,
    `"app": { "sallyport.dev/ports": [{ "ports": ["2222"] }],`,
  );
  await rig.coordinator.setPolicy(compilePolicy(source), source, "root");
  const relay = await rig.follow(RELAY);
  const web = await rig.follow(WEB);
  await rig.lite(RELAY, { Hostinfo: { Hostname: "relay", Services: leasableServices([{ first: 2222, last: 2222 }]) } });
  const tell = (sites: unknown, ...claims: readonly string[]): Promise<unknown> =>
    rig.lite(WEB, { Hostinfo: online(asking(...claims)), "sallyport.dev/public-sites": sites } as object);
  const told = async (): Promise<unknown> =>
    (named(await relay(), "web")!.CapMap![NAMES] as { name: string; ports: number[] }[]).map(
      ({ name, ports }) => `${name} ${ports}`,
    );
  const inDns = () =>
    ["web.tail.test", "shop.example.org", "*.example.net"].filter(
      (name) => rig.coordinator.publicPlace(name) === "name",
    );

  await tell(["shop.example.org:443"], "shop.example.org");
  expect(await told()).toEqual(["shop.example.org 443"]);
  expect(inDns()).toEqual(["shop.example.org"]);
  expect((await web()).self.CapMap![NAMES]).toHaveLength(2); // what would lead here, if it were public
  await tell(["*.example.net:8443", "web.tail.test:443"], "*.example.net");
  expect(await told()).toEqual(["web.tail.test 443", "*.example.net 8443"]);
  expect(inDns()).toEqual(["web.tail.test", "*.example.net"]);
  await tell([], "2222");
  expect(await told()).toEqual(["web.tail.test "]);
  expect(inDns()).toEqual(["web.tail.test"]); // ssh -p 2222 web.tail.test
  for (const nonsense of [["web.tail.test"], ["WEB.tail.test:443"], "web.tail.test:443", 5, [5]]) {
    await tell(nonsense);
    expect(await told()).toEqual([]);
  }
  await tell(undefined, "shop.example.org"); // as a stock client, which says nothing of it
  expect(await told()).toEqual(["web.tail.test 443,8443,10000", "shop.example.org 443,8443,10000"]);
});

test("FN-14 no grant makes a name of the mesh somebody else's", async () => {
  const rig = await world();
  const source = DOMAINS({
    "bob@example.com": ["web.tail.test", "*.tail.test", "tail.test", "x.web.tail.test"],
  });
  expect(() => compilePolicy(source.replace("x.web.tail.test", "10.0.0.1"))).toThrow('found "10.0.0.1", wanted');
  await rig.coordinator.setPolicy(compilePolicy(source), source, "root");
  const relay = await rig.follow(RELAY);
  const bob = await rig.follow(BOB);
  const names = ["web.tail.test", "*.tail.test", "tail.test", "x.web.tail.test"];
  await rig.lite(BOB, { Hostinfo: { Hostname: "bob", ...asking(...names) } });
  expect((await bob()).self.CapMap?.["sallyport.dev/claims"]).toEqual(
    names.map((claim) => ({ claim, state: "ungranted" })),
  );
  expect(named(await relay(), "bob")?.CapMap?.[NAMES]).toEqual([{ name: "bob.tail.test", ports: [443, 8443, 10000] }]);
});

/** What the policy says when it gives Ada's nodes `funnel`, and wants doors. */
const DOORS = `{
  "tagOwners": { "tag:relay": ["ada@example.com"] },
  "acls": [{ "action": "accept", "src": ["*"], "dst": ["*:*"] }],
  "nodeAttrs": [
    { "target": ["tag:relay"], "attr": ["sallyport.dev/ingress"] },
    { "target": ["ada@example.com"], "attr": ["funnel", "sallyport.dev/door-required"] },
  ],
}`;

test("FN-14 where the policy demands doors, a client that knows none is not public, and is told why", async () => {
  const rig = await world();
  const relay = await rig.follow(RELAY);
  const web = await rig.follow(WEB);
  const body = { Feature: "funnel", NodeKey: nodeKey(WEB), Version: 100 };
  const asked = (): Promise<unknown> => rig.coordinator.other(mkey(WEB), "POST", "/machine/feature/query", body);
  await rig.lite(WEB, { Hostinfo: online({ IngressEnabled: true }) });
  expect(named(await relay(), "web")?.CapMap?.[NAMES]).toHaveLength(1);
  await rig.coordinator.setPolicy(compilePolicy(DOORS), DOORS, "root");
  expect(namesOf(await relay())).toEqual([]);
  expect(Object.keys((await web()).self.CapMap ?? {}).filter((name) => /funnel|door/.test(name))).toEqual([
    "sallyport.dev/door-required",
  ]);
  expect(JSON.stringify(await asked())).toContain("demands a door before whatever is public");

  await rig.lite(WEB, { Hostinfo: online({ IngressEnabled: true, SallyportDoors: true }) }); // a gateway in its place
  expect(named(await relay(), "web")?.CapMap?.[NAMES]).toHaveLength(1);
  expect((await web()).self.CapMap).toMatchObject({ funnel: null, [PORTS]: null });
});

test("FN-13 the zone names relays that are here and take visitors, and no other", async () => {
  const rig = await world();
  const second = LAPTOP + 10;
  await rig.join(second, "ada@example.com", { Hostinfo: { Hostname: "relay2", RequestTags: ["tag:relay"] } });
  const place = (seed: number, address: string, more: object = {}): Promise<void> =>
    rig.lite(seed, { Hostinfo: { Hostname: "relay" }, Endpoints: [`${address}:41641`], ...more } as object);
  const named = (): readonly string[] => rig.coordinator.relayAddresses().toSorted();
  const first = await rig.poll(RELAY);
  await rig.poll(second);
  await place(RELAY, "203.0.113.5");
  await place(second, "203.0.113.6");
  expect(named()).toEqual(["203.0.113.5", "203.0.113.6"]);
  await place(second, "203.0.113.6", { "sallyport.dev/draining": true });
  expect(named()).toEqual(["203.0.113.5"]);
  await place(second, "203.0.113.7"); // the one that takes its place
  expect(named()).toEqual(["203.0.113.5", "203.0.113.7"]);
  first.hangUp();
  await rig.settle();
  expect(named()).toEqual(["203.0.113.7"]);
  const again = await rig.poll(RELAY);
  expect(named()).toEqual(["203.0.113.5", "203.0.113.7"]);
  // While one drains, the other's network changes, so that its stream begins anew: the one that drains was named for that moment.
  await place(second, "203.0.113.7", { "sallyport.dev/draining": true });
  again.hangUp();
  await rig.settle();
  expect(named()).toEqual(["203.0.113.5"]);
  rig.clock.advance(10_000);
  await rig.settle();
  expect(named()).toEqual([]);
});

test("FN-13 two relays on one machine: the zone went on naming the address of the one that drained, and one where nobody listened", async () => {
  const rig = await start({ policy: POLICY, relayAddresses: ["203.0.113.5", "203.0.113.6", "2001:db8::5"] });
  const all = ["203.0.113.5:41641", "203.0.113.6:41641", "[2001:db8::5]:41641"];
  const place = (seed: number, visitedAt: unknown, more: object = {}): Promise<void> =>
    rig.lite(seed, {
      ...{ Hostinfo: { Hostname: "relay" }, Endpoints: all, "sallyport.dev/visited-at": visitedAt },
      ...more,
    } as object);
  const named = (): readonly string[] => rig.coordinator.relayAddresses().toSorted();
  for (const seed of [RELAY, WEB]) {
    await rig.join(seed, "ada@example.com", { Hostinfo: { Hostname: "relay", RequestTags: ["tag:relay"] } });
    await rig.poll(seed);
  }
  await place(RELAY, ["203.0.113.5"]);
  await place(WEB, ["203.0.113.6"]);
  expect(named()).toEqual(["203.0.113.5", "203.0.113.6"]);
  await place(RELAY, ["203.0.113.5"], { "sallyport.dev/draining": true });
  expect(named()).toEqual(["203.0.113.6"]);
  for (const anywhere of [undefined, ["10.0.0.6"], "nonsense", [5]]) {
    await place(WEB, anywhere); // behind a translator, or at every address
    expect(named()).toEqual(["2001:db8::5", "203.0.113.5", "203.0.113.6"]);
  }
});

test("FN-13 a relay whose machine lost its power is named no more within 15 s, and offline 10 s later", async () => {
  const rig = await world();
  const relay = await rig.poll(RELAY);
  const laptop = await rig.poll(LAPTOP);
  await rig.lite(RELAY, { Hostinfo: { Hostname: "relay" }, Endpoints: ["203.0.113.5:41641"] });
  let isDead = false;
  let asked = 0;
  const alive = {
    echo: (heard: () => void): boolean => {
      asked++;
      if (!isDead) heard();
      return true;
    },
  };
  Object.assign(relay, alive);
  Object.assign(laptop, alive);
  await rig.poll(BOB); // any arrival begins it
  const state = (): unknown => [
    rig.coordinator.relayAddresses(),
    rig.coordinator.nodes().find(({ name }) => name === "relay")?.online,
  ];
  const pass = async (ms: number): Promise<void> => {
    for (let i = 0; i < ms; i += 1000) await rig.settle(1000);
  };
  await pass(60_000);
  expect(state()).toEqual([["203.0.113.5"], true]);
  expect(asked).toBeGreaterThanOrEqual(12);
  expect(asked).toBeLessThanOrEqual(14); // the relay alone, every 5 s
  isDead = true;
  await pass(16_000);
  expect(state()).toEqual([[], true]);
  await pass(11_000);
  expect(state()).toEqual([[], false]);
  expect(laptop.ended).toBe(false);
});
