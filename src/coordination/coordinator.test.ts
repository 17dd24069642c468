import { describe, expect, test } from "vitest";
import {
  hex,
  mkey,
  never,
  nodeKey,
  open,
  ownOnly,
  peersOf,
  Recorder,
  start,
  wireGuardRequest,
} from "../../test/suites/coordination-rig.ts";
import { FakeClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { seededRandom } from "../base/random.ts";
import type { MapRequest, MapResponse } from "../wire/tailcfg.ts";
import { Coordinator } from "./coordinator.ts";
import { compilePolicy } from "./policy/policy.ts";
import type { PolicyEngine } from "./policy-engine.ts";
import { MemoryCoordinationStore } from "./store/memory-store.ts";

describe("registration", () => {
  test("B, A: an auth key lets in, a restart is the same node and uses nothing", async () => {
    const { coordinator, ask } = await start();
    const { key } = await coordinator.createAuthKey({ user: "ada@example.com" }, "root");
    const first = await ask(1, { Auth: { AuthKey: key } });
    expect(first).toMatchObject({ Login: { LoginName: "ada@example.com" }, NodeKeyExpired: false, AuthURL: "" });
    expect(await ask(1, { Auth: { AuthKey: key } })).toEqual(first);
    expect(await ask(1)).toEqual(first);
    expect(coordinator.nodes()).toMatchObject([
      { id: 1, ipv4: "100.64.0.1", ipv6: "fd7a:115c:a1e0::1", name: "host-1" },
    ]);
    expect(coordinator.authKeys()).toMatchObject([{ uses: 1 }]);
  });

  test("CS-1 100 parallel registrations with a one-time key: one node", async () => {
    const { coordinator, ask } = await start();
    const { key } = await coordinator.createAuthKey({ user: "ada@example.com" }, "root");
    const answers = await Promise.all(Array.from({ length: 100 }, (_, i) => ask(i + 1, { Auth: { AuthKey: key } })));
    expect(answers.filter((answer) => answer.Error === "")).toHaveLength(1);
    expect(answers.filter((answer) => answer.Error === "authkey already used")).toHaveLength(99);
    expect(coordinator.nodes()).toHaveLength(1);
  });

  test("CS-2 addresses are unique, the pool says when it is empty, and a released one rests a day", async () => {
    const { clock, coordinator, ask } = await start({ addressPoolSize: 11 });
    const { key } = await coordinator.createAuthKey({ tags: ["tag:x"], reusable: true }, "root");
    const answers = await Promise.all(Array.from({ length: 12 }, (_, i) => ask(i + 1, { Auth: { AuthKey: key } })));
    expect(answers.filter(({ MachineAuthorized }) => MachineAuthorized)).toHaveLength(10);
    expect(answers.at(-1)).toMatchObject({ Error: "no address is free" });
    expect(new Set(coordinator.nodes().map(({ ipv4 }) => ipv4)).size).toBe(10);
    await coordinator.deleteNode(3, "root");
    expect(await ask(20, { Auth: { AuthKey: key } })).toMatchObject({ Error: "no address is free" });
    clock.advance(86_400_001);
    await ask(20, { Auth: { AuthKey: key } });
    expect(coordinator.nodes().at(-1)).toMatchObject({ ipv4: "100.64.0.3" });
    expect(coordinator.nodes().at(-1)!.id).toBe(11);
  });

  test("CS-3 a node key serves its own machine only", async () => {
    const { coordinator, ask, join } = await start();
    await join(1, "ada@example.com");
    await expect(ask(1, {}, 99)).rejects.toMatchObject({ code: "COORDINATION_KEY_FOREIGN" });
    await expect(ask(1, { Expiry: "1970-01-01T00:02:03Z" }, 99)).rejects.toMatchObject({
      code: "COORDINATION_KEY_FOREIGN",
    });
    const sink = new Recorder();
    const request = { Version: 142, NodeKey: nodeKey(1), Stream: true };
    await expect(coordinator.map(mkey(99), request, sink)).rejects.toMatchObject({ code: "COORDINATION_KEY_FOREIGN" });
    expect(sink.messages).toEqual([]);
    // An OldNodeKey of another machine proves nothing: a new node, not that one.
    const { key } = await coordinator.createAuthKey({ user: "ada@example.com" }, "root");
    await ask(2, { OldNodeKey: nodeKey(1), Auth: { AuthKey: key } });
    expect(coordinator.nodes().map(({ id }) => id)).toEqual([1, 2]);
  });

  test("CS-4 the store holds no usable key; expired, revoked and made-up keys are refused", async () => {
    const store = new MemoryCoordinationStore();
    const { clock, coordinator, ask } = await start({ store });
    const revoked = await coordinator.createAuthKey({ user: "ada@example.com" }, "root");
    const short = await coordinator.createAuthKey({ user: "ada@example.com", expiryMs: 1000 }, "root");
    const dump = JSON.stringify(await store.load());
    for (const { key } of [revoked, short]) expect(dump).not.toContain(key.split("-").at(-1));
    await coordinator.expireAuthKey(revoked.id, "root");
    clock.advance(1000);
    expect(await ask(1, { Auth: { AuthKey: revoked.key } })).toMatchObject({ Error: "authkey revoked" });
    expect(await ask(1, { Auth: { AuthKey: short.key } })).toMatchObject({ Error: "authkey expired" });
    const forged = short.key.replace(/.$/, (last) => (last === "0" ? "1" : "0"));
    for (const text of [forged, "x", "sp-auth-__proto__-", "tskey-auth-1-2"]) {
      expect(await ask(1, { Auth: { AuthKey: text } })).toMatchObject({ Error: "invalid pre auth key" });
    }
    expect(coordinator.nodes()).toEqual([]);
  });

  test("C: a person approves, and the held follow-up ends", async () => {
    const { coordinator, ask } = await start();
    const { AuthURL } = await ask(1);
    expect(AuthURL).toMatch(/^https:\/\/control\.example\/register\/[0-9a-f]{48}$/);
    expect((await ask(1)).AuthURL).toBe(AuthURL);
    const held = ask(1, { Followup: AuthURL! });
    const id = AuthURL!.split("/").at(-1)!;
    expect(coordinator.pendingLogin(id)).toMatchObject({ hostinfo: { Hostname: "host-1" } });
    await coordinator.approveRegistration(id, "bob@example.com", "root");
    expect(await held).toMatchObject({ Login: { LoginName: "bob@example.com" }, MachineAuthorized: true });
    await expect(coordinator.approveRegistration(id, "ada@example.com", "root")).rejects.toMatchObject({
      code: "COORDINATION_LOGIN_UNKNOWN",
    });
    const unknown = await ask(2, { Followup: `https://control.example/register/${hex(1)}` });
    expect(unknown.AuthURL).toMatch(/register/);
    // Somebody else's follow-up learns nothing.
    const foreign = await ask(3, { Followup: AuthURL! });
    expect(foreign.AuthURL).not.toBe(AuthURL);
  });

  test("CS-7 logins wait 15 minutes, 1024 at most, and a cancelled follow-up answers", async () => {
    const { clock, coordinator, ask } = await start();
    const first = (await ask(1)).AuthURL!.split("/").at(-1)!;
    const abort = new AbortController();
    const request = { Version: 142, NodeKey: nodeKey(1), Followup: `https://control.example/register/${first}` };
    const held = coordinator.register(mkey(1), request, abort.signal);
    abort.abort();
    expect(await held).toMatchObject({ Error: "registration timed out" });
    for (let seed = 2; seed < 1100; seed++) await ask(seed);
    expect(coordinator.pendingLogins()).toHaveLength(1024);
    expect(coordinator.pendingLogin(first)).toBeUndefined();
    clock.advance(15 * 60_000);
    expect(coordinator.pendingLogins()).toHaveLength(0);
  });

  test("D, F, G: expiry asks for a new login; rotation keeps the node; the same key comes back to life", async () => {
    const { clock, coordinator, ask, join } = await start();
    const node = await join(1, "ada@example.com");
    clock.advance(180 * 86_400_000);
    expect(await ask(1)).toMatchObject({ NodeKeyExpired: true, MachineAuthorized: false });
    const { key } = await coordinator.createAuthKey({ user: "ada@example.com", reusable: true }, "root");
    expect(await ask(1, { Auth: { AuthKey: key } })).toMatchObject({ NodeKeyExpired: false, MachineAuthorized: true });
    expect(await ask(2, { OldNodeKey: nodeKey(1), Auth: { AuthKey: key } }, 1)).toMatchObject({ Error: "" });
    expect(coordinator.nodes()).toMatchObject([{ id: node.id, ipv4: node.ipv4, name: "host-2", nodeKey: nodeKey(2) }]);
    expect(coordinator.isKnownNodeKey(hex(1))).toBe(false);
    expect(coordinator.isKnownNodeKey(hex(2))).toBe(true);
  });

  test("E: a logout wins over the auth key beside it, and deletes an ephemeral node", async () => {
    const { coordinator, ask } = await start();
    const { key } = await coordinator.createAuthKey({ user: "ada@example.com", reusable: true }, "root");
    await ask(1, { Auth: { AuthKey: key } });
    const out = await ask(1, { Auth: { AuthKey: key }, Expiry: "1970-01-01T01:02:03+01:00" });
    expect(out).toMatchObject({ NodeKeyExpired: true, Login: { LoginName: "ada@example.com" } });
    expect(coordinator.nodes()).toMatchObject([{ expired: true, expires: Date.UTC(2026, 0, 1) }]);
    const ephemeral = await coordinator.createAuthKey({ user: "ada@example.com", ephemeral: true }, "root");
    await ask(2, { Auth: { AuthKey: ephemeral.key } });
    await ask(2, { Expiry: "1970-01-01T00:02:03Z" });
    expect(coordinator.nodes()).toHaveLength(1);
  });

  test("CS-15 no member of a request gives tags, life or routes", async () => {
    const { coordinator, ask, join, lite } = await start();
    const { key } = await coordinator.createAuthKey({ user: "bob@example.com", reusable: true }, "root");
    const tagged = { Hostname: "x", RequestTags: ["tag:web"] };
    expect(await ask(1, { Auth: { AuthKey: key }, Hostinfo: tagged })).toMatchObject({
      Error: "requested tags [tag:web] are invalid or not permitted",
    });
    const node = await join(2, "bob@example.com", { Expiry: "2999-01-01T00:00:00Z" });
    expect(node.expires).toBe(Date.UTC(2026, 0, 1) + 180 * 86_400_000);
    expect(await ask(2, { Expiry: "2999-01-01T00:00:00Z" })).toMatchObject({ Error: "extending key is not allowed" });
    const forged = {
      Hostinfo: { Hostname: "x", RoutableIPs: ["10.1.0.0/16", "10.9.0.0/16", "10.1.2.3/8"] },
      User: 1,
      Tags: ["tag:web"],
    };
    await lite(2, forged as Partial<MapRequest>);
    expect(coordinator.nodes()).toMatchObject([
      { tags: [], approvedRoutes: ["10.9.0.0/16"], advertisedRoutes: ["10.1.0.0/16", "10.9.0.0/16"] },
    ]);
  });

  test("tags come from the key, or from a user who owns them", async () => {
    const { coordinator, ask } = await start();
    const { key } = await coordinator.createAuthKey({ tags: ["tag:ci"] }, "root");
    expect(await ask(1, { Auth: { AuthKey: key } })).toMatchObject({ User: { ID: 2147455555 } });
    const { AuthURL } = await ask(2, { Hostinfo: { RequestTags: ["tag:web"] } });
    await coordinator.approveRegistration(AuthURL!.split("/").at(-1)!, "ada@example.com", "root");
    expect(coordinator.nodes().map(({ tags, expires }) => [tags, expires])).toEqual([
      [["tag:ci"], undefined],
      [["tag:web"], undefined],
    ]);
  });
});

describe("maps", () => {
  test("a joiner gets everything, the others a delta, each within a round", async () => {
    const { coordinator, join, poll, settle, lite } = await start();
    await join(1, "ada@example.com");
    const one = await poll(1);
    const [full] = one.take();
    expect(Object.keys(full!)).toEqual([
      "Node",
      "DERPMap",
      "DNSConfig",
      "Domain",
      "PacketFilters",
      "UserProfiles",
      "ControlTime",
    ]);
    expect(full).toMatchObject({
      Node: { ID: 1, Name: "host-1.tail.test.", Addresses: ["100.64.0.1/32", "fd7a:115c:a1e0::1/128"], Online: true },
      DNSConfig: { Proxied: true, Domains: ["tail.test"] },
    });
    await join(2, "bob@example.com");
    await settle(250);
    expect(one.take()).toMatchObject([
      { PeersChanged: [{ ID: 2, Online: false }], UserProfiles: [{ LoginName: "bob@example.com" }] },
    ]);
    const two = await poll(2);
    expect(peersOf(two.take())).toMatchObject([{ ID: 1, Online: true }]);
    expect(one.take().flatMap(({ PeersChangedPatch }) => PeersChangedPatch ?? [])).toMatchObject([
      { NodeID: 2, Online: true },
    ]);
    await lite(2, {
      DiscoKey: `discokey:${hex(5)}`,
      Endpoints: ["192.0.2.1:41641", "[fe80::1]:41641", "junk", "192.0.2.1:41641"],
      Hostinfo: { Hostname: "host-2", NetInfo: { PreferredDERP: 900 } },
    });
    await settle(250);
    // The first disco key, endpoints and home are one patch: nothing else of the node changed.
    expect(one.take()).toMatchObject([
      {
        PeersChangedPatch: [
          { NodeID: 2, DERPRegion: 900, Endpoints: ["192.0.2.1:41641"], DiscoKey: `discokey:${hex(5)}` },
        ],
      },
    ]);
    expect(two.take()).toMatchObject([{ Node: { HomeDERP: 900 } }]);
    await lite(2, { Hostinfo: { Hostname: "host-2" } });
    await settle(250);
    expect(one.take()).toEqual([]);
    expect(coordinator.node(2)).toMatchObject({ homeDerp: 900, hostinfo: { NetInfo: { PreferredDERP: 900 } } });
  });

  test("rename, routes, tags, deletion and policy reach those who may see", async () => {
    const { coordinator, join, poll, settle, lite } = await start();
    await join(1, "ada@example.com");
    await join(2, "bob@example.com");
    const one = await poll(1);
    const two = await poll(2);
    await settle(300);
    one.take();
    two.take();
    await coordinator.renameNode(2, "printer", "root");
    await settle(250);
    expect(one.take()).toMatchObject([{ PeersChanged: [{ Name: "printer.tail.test." }] }]);
    expect(two.take()).toMatchObject([{ Node: { Name: "printer.tail.test." } }]);
    await lite(2, { Hostinfo: { Hostname: "other", RoutableIPs: ["0.0.0.0/0", "10.1.0.0/24"] } });
    await coordinator.setRoutes(2, ["10.1.0.0/24", "0.0.0.0/0"], "root");
    await settle(250);
    const routed = peersOf(one.take()).at(-1)!;
    expect(routed).toMatchObject({ Name: "printer.tail.test.", PrimaryRoutes: ["10.1.0.0/24"] });
    expect(routed.AllowedIPs).toEqual(["100.64.0.2/32", "fd7a:115c:a1e0::2/128", "10.1.0.0/24", "0.0.0.0/0"]);
    two.take();
    await coordinator.setPolicy(ownOnly, "{}", "root");
    await settle(250);
    expect(one.take()).toMatchObject([{ PeersRemoved: [2], PacketFilters: { base: [] } }]);
    await coordinator.setPolicy(open, "{ }", "root");
    await settle(250);
    expect(one.take()).toMatchObject([{ PeersChanged: [{ ID: 2 }], PacketFilters: { base: [{}] } }]);
    await coordinator.tagNode(2, ["tag:web"], "root");
    await settle(250);
    expect(one.take()).toMatchObject([
      { PeersChanged: [{ Tags: ["tag:web"], User: 2147455555 }], UserProfiles: [{ LoginName: "tagged-devices" }] },
    ]);
    await coordinator.deleteNode(2, "root");
    await settle(250);
    expect(one.take()).toMatchObject([{ PeersRemoved: [2] }]);
    // A stock client that is only answered 404 from now on would go on as if it were logged in.
    expect(two.take().at(-1)).toMatchObject({ Node: { ID: 2, Expired: true } });
    expect(two.ended).toBe(true);
    expect(coordinator.policySource()).toBe("{ }");
    expect((await coordinator.adminLog()).map(({ action }) => action).slice(0, 4)).toEqual([
      "node.delete",
      "node.tag",
      "policy.set",
      "policy.set",
    ]);
  });

  test("expiry is pushed to the node and its peers, on time and on order", async () => {
    const { coordinator, clock, join, poll, settle } = await start();
    await join(1, "ada@example.com", { Expiry: "2026-01-01T01:30:00Z" });
    await join(2, "bob@example.com");
    const one = await poll(1);
    const two = await poll(2);
    one.take();
    two.take();
    clock.advance(2 * 3_600_000);
    await settle(300);
    expect(one.take().filter(({ Node }) => Node?.Expired)).toHaveLength(1);
    expect(peersOf(two.take())).toMatchObject([{ ID: 1, Expired: true }]);
    expect(one.ended).toBe(false);
    await coordinator.expireNode(2, "root");
    await settle(300);
    expect(two.take()).toMatchObject([{ Node: { Expired: true } }]);
  });

  test("a key is retired the moment its node expires, logs out, rotates, is deleted or loses its user", async () => {
    const retired: string[] = [];
    const { coordinator, clock, ask, join, settle } = await start({ onKeyRetired: (key) => retired.push(key) });
    await join(1, "ada@example.com", { Expiry: "2026-01-01T01:30:00Z" });
    for (const seed of [2, 3, 4]) await join(seed, "ada@example.com");
    await join(5, "bob@example.com");
    const member = await coordinator.addWireGuardMember(wireGuardRequest("w", 1, [5]), "root");
    expect(retired).toEqual([]);
    const taken = () => retired.splice(0);
    clock.advance(2 * 3_600_000);
    await settle();
    expect(taken()).toEqual([nodeKey(1)]);
    await coordinator.expireNode(2, "root");
    expect(taken()).toEqual([nodeKey(2)]);
    await ask(3, { Expiry: "1970-01-01T00:02:03Z" });
    expect(taken()).toEqual([nodeKey(3)]);
    const { key } = await coordinator.createAuthKey({ user: "ada@example.com" }, "root");
    await ask(44, { OldNodeKey: nodeKey(4), Auth: { AuthKey: key } }, 4);
    expect(taken()).toEqual([nodeKey(4)]);
    await coordinator.removeWireGuardMember(member.node.id, "root");
    expect(taken()).toEqual([member.node.nodeKey]);
    await coordinator.deleteNode(5, "root");
    expect(taken()).toEqual([nodeKey(5)]);
    await coordinator.deleteUser("ada@example.com", "root");
    expect(taken().toSorted()).toEqual([nodeKey(1), nodeKey(2), nodeKey(3), nodeKey(44)]);
  });

  test("offline after ten seconds, not when a newer stream replaced it; ephemeral nodes vanish", async () => {
    const { coordinator, ask, join, poll, settle } = await start();
    await join(1, "ada@example.com");
    const { key } = await coordinator.createAuthKey({ user: "bob@example.com", ephemeral: true }, "root");
    await ask(2, { Auth: { AuthKey: key } });
    const one = await poll(1);
    const old = await poll(2);
    const two = await poll(2);
    expect([old.ended, two.ended]).toEqual([true, false]);
    one.take();
    old.hangUp();
    await settle(11_000);
    expect(one.take()).toEqual([]);
    two.hangUp();
    await two.done;
    await settle(10_000);
    await settle(250);
    expect(one.take().flatMap(({ PeersChangedPatch }) => PeersChangedPatch ?? [])).toMatchObject([
      { NodeID: 2, Online: false },
    ]);
    await settle(110_000);
    await settle(250);
    expect(one.take().some(({ PeersRemoved }) => PeersRemoved?.[0] === 2)).toBe(true);
  });

  test("keep-alives are exact and come within the watchdog; a slow receiver loses its stream", async () => {
    const { join, poll, settle, lite } = await start();
    await join(1, "ada@example.com");
    const one = await poll(1);
    one.take();
    await settle(58_000);
    expect(one.take()).toEqual([{ KeepAlive: true }]);
    one.full = true;
    await lite(1, { Hostinfo: { Hostname: "new" } });
    await settle(250);
    expect(one.ended).toBe(true);
  });

  test("PR-3 a long round lets others work between its parts, and everybody is told in the end", async () => {
    let worked = 0;
    const slow = new (class extends FakeClock {
      override now(): number {
        return super.now() + worked;
      }
    })();
    const { join, poll, settle, lite } = await start({ clock: slow });
    const sinks: Recorder[] = [];
    for (let seed = 1; seed <= 5; seed++) {
      await join(seed, "ada@example.com");
      sinks.push(await poll(seed));
    }
    for (const sink of sinks) {
      sink.take();
      sink.onSend = () => {
        worked += 15; // milliseconds of one delta
      };
    }
    await lite(1, { Endpoints: ["192.0.2.1:1"] });
    const told = () => sinks.filter(({ messages }) => messages.length > 0).length;
    await settle();
    expect(told()).toBe(2);
    await lite(2, { Endpoints: ["192.0.2.2:2"] });
    for (let part = 0; part < 10; part++) await settle(300);
    for (const sink of sinks) {
      const about = sink
        .take()
        .flatMap(({ Node, PeersChangedPatch }) => [
          ...(Node == null ? [] : [Node.ID]),
          ...(PeersChangedPatch ?? []).map(({ NodeID }) => NodeID),
        ]);
      expect(new Set(about)).toEqual(new Set([1, 2]));
    }
  });

  test("a subnet route moves to the router that is there", async () => {
    const { coordinator, join, poll, settle, lite } = await start();
    for (const seed of [1, 2, 3]) await join(seed, "ada@example.com");
    const three = await poll(3);
    await poll(1);
    const two = await poll(2);
    for (const seed of [1, 2]) {
      await lite(seed, { Hostinfo: { Hostname: `host-${seed}`, RoutableIPs: ["10.2.0.0/16"] } });
      await coordinator.setRoutes(seed, ["10.2.0.0/16"], "root");
    }
    await settle(250);
    const routers = () => new Map(peersOf(three.messages).map((peer) => [peer.ID, peer.PrimaryRoutes]));
    expect(routers().get(1)).toEqual(["10.2.0.0/16"]);
    expect(routers().get(2)).toBeUndefined();
    const one = await poll(1);
    one.hangUp();
    await one.done;
    await settle(10_000);
    await settle(250);
    expect(routers().get(2)).toEqual(["10.2.0.0/16"]);
    expect(routers().get(1)).toBeUndefined();
    two.hangUp();
  });

  test("CS-9 via sends each to their own router of one route, whoever carries it for the others", async () => {
    const policy = compilePolicy(`{"tagOwners": {"tag:a": [], "tag:b": []}, "grants": [
      {"src": ["ada@example.com"], "dst": ["10.2.0.0/16"], "ip": ["*"], "via": ["tag:a"]},
      {"src": ["bob@example.com"], "dst": ["10.2.0.0/16"], "ip": ["*"], "via": ["tag:b"]}]}`);
    const { coordinator, join, poll, settle, lite } = await start({ policy });
    await join(1, "ada@example.com");
    await join(2, "bob@example.com");
    for (const seed of [3, 4, 5]) await join(seed, "ada@example.com");
    const [ada, bob] = [await poll(1), await poll(2)];
    const routers = [await poll(3), await poll(4), await poll(5)];
    for (const [i, seed] of [3, 4, 5].entries()) {
      await coordinator.tagNode(seed, [i === 0 ? "tag:a" : "tag:b"], "root");
      await lite(seed, { Hostinfo: { Hostname: `host-${seed}`, RoutableIPs: ["10.2.0.0/16"] } });
      await coordinator.setRoutes(seed, ["10.2.0.0/16"], "root");
    }
    await settle(250);
    const shown = (sink: Recorder) => {
      const last = new Map(peersOf(sink.messages).map((peer) => [peer.ID, peer.PrimaryRoutes ?? []]));
      return [3, 4, 5].filter((id) => (last.get(id) ?? []).length > 0);
    };
    expect([shown(ada), shown(bob)]).toEqual([[3], [4]]);
    routers[1]!.hangUp();
    await routers[1]!.done;
    await settle(10_000);
    await settle(250);
    expect([shown(ada), shown(bob)]).toEqual([[3], [5]]);
  });

  test("CS-9 a route is shown to those whom the policy admits, also when only the router changes", async () => {
    const routes = (viewer: string): readonly string[] =>
      viewer === "ada@example.com" ? ["10.2.0.0/16", "0.0.0.0/0"] : ["10.2.0.0/16"];
    const policy: PolicyEngine = { ...open, routesFor: (viewer) => routes(viewer.user ?? "") };
    const { coordinator, join, poll, settle, lite } = await start({ policy });
    await join(1, "ada@example.com");
    await join(2, "bob@example.com");
    await join(3, "bob@example.com");
    const [one, two] = [await poll(1), await poll(2)];
    const RoutableIPs = ["10.2.0.0/16", "10.3.0.0/16", "0.0.0.0/0"];
    await lite(3, { Hostinfo: { Hostname: "host-3", RoutableIPs } });
    await coordinator.setRoutes(3, RoutableIPs, "root");
    await settle(250);
    const shown = (sink: Recorder) => {
      const { AllowedIPs, PrimaryRoutes } = peersOf(sink.messages).findLast(({ ID }) => ID === 3)!;
      return [AllowedIPs!.slice(2), PrimaryRoutes];
    };
    expect(shown(one)).toEqual([["10.2.0.0/16", "0.0.0.0/0"], ["10.2.0.0/16"]]);
    expect(shown(two)).toEqual([["10.2.0.0/16"], ["10.2.0.0/16"]]);
    await coordinator.renameNode(3, "router", "root");
    await settle(250);
    expect(shown(one)).toEqual([["10.2.0.0/16", "0.0.0.0/0"], ["10.2.0.0/16"]]);
    expect(shown(two)).toEqual([["10.2.0.0/16"], ["10.2.0.0/16"]]);
    await coordinator.setPolicy({ ...policy, routesFor: () => [] }, "{}", "root");
    await settle(250);
    expect(shown(one)).toEqual([[], undefined]);
  });

  test("approving an exit node for one family approves it for both; unasked routes are approved for later", async () => {
    const { coordinator, join, lite } = await start();
    await join(1, "ada@example.com");
    await lite(1, { Hostinfo: { Hostname: "host-1", RoutableIPs: ["0.0.0.0/0", "::/0", "10.1.0.0/16"] } });
    const { servedRoutes } = await coordinator.setRoutes("host-1", ["0.0.0.0/0", "10.2.0.0/16"], "root");
    expect(servedRoutes).toEqual(["0.0.0.0/0", "::/0"]);
    await lite(1, { Hostinfo: { Hostname: "host-1", RoutableIPs: ["10.2.0.0/16"] } });
    expect(coordinator.node(1)!.servedRoutes).toEqual(["10.2.0.0/16"]);
  });

  test("CS-11 names are sanitised and never taken from another node", async () => {
    const { coordinator, ask } = await start();
    const { key } = await coordinator.createAuthKey({ tags: ["tag:x"], reusable: true }, "root");
    const names = ["bad_name!", "Bad_Name", "", "!!!", "x".repeat(300), "a.local", "MacBook von Ada", "node-1"];
    for (const [i, Hostname] of names.entries()) await ask(i + 1, { Auth: { AuthKey: key }, Hostinfo: { Hostname } });
    expect(coordinator.nodes().map(({ name }) => name)).toEqual([
      "bad-name",
      "bad-name-1",
      "node",
      "node-1",
      "x".repeat(63),
      "a",
      "macbook-von-ada",
      "node-1-1",
    ]);
  });

  test("one node's wrong types never reach the maps of others", async () => {
    const { coordinator, join, poll, lite } = await start();
    await join(1, "ada@example.com");
    const hostile = {
      OS: 5,
      Services: "x",
      RoutableIPs: [1, "x"],
      NetInfo: [],
      Location: { City: {} },
      TPM: "x",
      Hostname: "h",
    };
    await lite(1, { Hostinfo: hostile as never, Endpoints: [1, {}] as never, DiscoKey: {} as never });
    expect(coordinator.node(1)!.hostinfo).toEqual({ RoutableIPs: [], Location: {}, Hostname: "h" });
    await join(2, "bob@example.com");
    expect(peersOf((await poll(2)).take())[0]).toMatchObject({ Hostinfo: { Hostname: "h" } });
  });

  test("WireGuard-only members are known to their gateways alone, until removed", async () => {
    const { coordinator, join, poll, settle } = await start();
    await join(1, "ada@example.com");
    await join(2, "ada@example.com");
    const one = await poll(1);
    const two = await poll(2);
    one.take();
    two.take();
    const member = await coordinator.addWireGuardMember(
      wireGuardRequest("phone", "bob@example.com", ["host-1"]),
      "root",
    );
    await settle(250);
    expect(peersOf(one.take())).toMatchObject([
      { Name: "phone.tail.test.", IsWireGuardOnly: true, AllowedIPs: ["100.64.0.3/32", "fd7a:115c:a1e0::3/128"] },
    ]);
    expect(peersOf(two.take())).toEqual([]);
    await coordinator.removeWireGuardMember(member.node.id, "root");
    await settle(250);
    expect(one.take()).toMatchObject([{ PeersRemoved: [3] }]);
  });
});

describe("SSH", () => {
  const withSsh = (action: string) =>
    compilePolicy(`{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}],
      "ssh": [{"action": "${action}", "src": ["autogroup:member"], "dst": ["autogroup:self"], "users": ["autogroup:nonroot"]}]}`);
  const capsOf = (messages: readonly MapResponse[]) => Object.keys(messages[0]!.Node!.CapMap!);

  test("a policy without `ssh` promises nothing, and says no policy", async () => {
    const { join, poll } = await start();
    await join(1, "ada@example.com");
    const first = (await poll(1)).take();
    expect(capsOf(first).filter((name) => name.includes("ssh"))).toEqual([]);
    expect(first[0]).not.toHaveProperty("SSHPolicy");
  });

  test("rules go to their destinations, and are taken back when the policy drops them", async () => {
    const { coordinator, join, poll, settle } = await start({ policy: withSsh("accept") });
    await join(1, "ada@example.com");
    await join(2, "ada@example.com");
    await join(3, "bob@example.com");
    const one = await poll(1);
    const [first] = one.take();
    expect(capsOf([first!])).toEqual(expect.arrayContaining(["https://tailscale.com/cap/ssh-rule-in"]));
    expect(first!.SSHPolicy!.rules).toMatchObject([
      {
        principals: ["100.64.0.1", "100.64.0.2", "fd7a:115c:a1e0::1", "fd7a:115c:a1e0::2"].map((nodeIP) => ({
          nodeIP,
        })),
        sshUsers: { root: "", "*": "=" },
        action: { accept: true },
      },
    ]);
    await coordinator.setPolicy(withSsh("check"), "check", "root");
    await settle(300);
    const checked = one.take()[0]!.SSHPolicy!.rules![0]!;
    expect(String(checked.action["holdAndDelegate"])).toMatch(/^https:\/\/unused\/machine\/ssh\/action\//);
    expect(
      await coordinator.other(mkey(1), "GET", "/machine/ssh/action/1/to/2?local_user=ada", undefined),
    ).toMatchObject({
      status: 200,
      body: { reject: true },
    });
    await coordinator.setPolicy(open, "none", "root");
    await settle(300);
    expect(one.take()).toMatchObject([{ SSHPolicy: { rules: [] } }]);
  });
});

describe("other requests", () => {
  const post = (coordinator: Coordinator, path: string, body: object, machine = 1) =>
    coordinator.other(mkey(machine), "POST", path, { NodeKey: nodeKey(1), ...body });

  test("CS-17 set-dns sets the node's own challenge and nothing else", async () => {
    const set: string[][] = [];
    const { coordinator, join } = await start({ setTxt: async (...record) => void set.push(record) });
    await join(1, "ada@example.com");
    const own = "_acme-challenge.host-1.tail.test";
    expect(await post(coordinator, "/machine/set-dns", { Name: own, Type: "TXT", Value: "v-1" })).toEqual({
      status: 200,
      body: {},
    });
    for (const Name of [
      `${own}.`,
      own.toUpperCase(),
      "tail.test",
      "_acme-challenge.tail.test",
      "_acme-challenge.host-2.tail.test",
      "*",
      "",
      5,
    ]) {
      expect((await post(coordinator, "/machine/set-dns", { Name, Type: "TXT", Value: "v" })).status).toBe(403);
    }
    for (const more of [{ Type: "A" }, { Value: "a b" }, { Value: "" }, { Value: 5 }]) {
      expect(
        (await post(coordinator, "/machine/set-dns", { Name: own, Type: "TXT", Value: "v", ...more })).status,
      ).toBe(403);
    }
    await expect(
      post(coordinator, "/machine/set-dns", { Name: own, Type: "TXT", Value: "v" }, 2),
    ).rejects.toMatchObject({ code: "COORDINATION_KEY_FOREIGN" });
    expect(set).toEqual([[own, "v-1"]]);
  });

  test("feature queries are answered from the attributes; paths that are none are 404 and 501", async () => {
    const { coordinator, join } = await start();
    await join(1, "ada@example.com");
    expect(await post(coordinator, "/machine/feature/query", { Feature: "serve" })).toEqual({
      status: 200,
      body: { Complete: true },
    });
    expect(await post(coordinator, "/machine/feature/query", { Feature: "funnel" })).toMatchObject({
      body: { Complete: false, Text: expect.stringContaining('"funnel"') },
    });
    const statuses = ["update-health", "whoami", "tka/init/begin", "set-dns", "nonsense", "__proto__"].map(
      async (path) => (await post(coordinator, `/machine/${path}`, {})).status,
    );
    expect(await Promise.all(statuses)).toEqual([204, 501, 501, 501, 404, 404]);
  });
});

test("CS-12 deleting a user takes that user's nodes and keys only", async () => {
  const { coordinator, join } = await start();
  await join(1, "ada@example.com");
  await join(2, "bob@example.com");
  await coordinator.deleteUser("ada@example.com", "root");
  expect(coordinator.nodes().map(({ id }) => id)).toEqual([2]);
  expect(coordinator.authKeys().map(({ userId }) => userId)).toEqual([2]);
  expect(coordinator.users().map(({ login }) => login)).toEqual(["bob@example.com"]);
});

test("everything is there again after a restart, and ids go on", async () => {
  const store = new MemoryCoordinationStore();
  const { coordinator, join, lite } = await start({ store });
  await join(1, "ada@example.com");
  await lite(1, { DiscoKey: `discokey:${hex(5)}`, Endpoints: ["192.0.2.1:1"], Hostinfo: { Hostname: "renamed" } });
  await coordinator.setPolicy(ownOnly, "{}", "root");
  const before = coordinator.nodes();
  const clock = new FakeClock();
  const options = {
    store,
    clock,
    random: seededRandom(1),
    log: silentLog,
    serverUrl: "https://c.example",
    baseDomain: "tail.test",
  };
  const again = await Coordinator.open({ ...options, derpMap: () => ({ Regions: {} }), policy: ownOnly });
  expect(again.nodes()).toEqual(before);
  expect(again.policySource()).toBe("{}");
  const known = await again.register(mkey(1), { Version: 142, NodeKey: nodeKey(1) }, never);
  expect(known).toMatchObject({ MachineAuthorized: true, User: { DisplayName: "Ada" } });
  expect(await again.createUser({ login: "eve" }, "root")).toMatchObject({ id: 3 });
});

test.each([
  ["user without a login", (c: Coordinator) => c.createUser({ login: "" }, "root")],
  ["user with a line break", (c: Coordinator) => c.createUser({ login: "a\nb" }, "root")],
  ["user that exists", (c: Coordinator) => c.createUser({ login: "ada@example.com" }, "root")],
  ["key for nobody", (c: Coordinator) => c.createAuthKey({}, "root")],
  ["key with a wrong tag", (c: Coordinator) => c.createAuthKey({ tags: ["web"] }, "root")],
  ["key that expired before", (c: Coordinator) => c.createAuthKey({ user: "ada@example.com", expiryMs: -1 }, "root")],
  ["name with a dot", (c: Coordinator) => c.renameNode(1, "a.b", "root")],
  ["route with host bits", (c: Coordinator) => c.setRoutes(1, ["10.0.0.1/8"], "root")],
  ["no tags", (c: Coordinator) => c.tagNode(1, [], "root")],
])("an administrator is told what is wrong: %s", async (_what, act) => {
  const { coordinator } = await start();
  await expect(act(coordinator)).rejects.toMatchObject({ code: "COORDINATION_ARGUMENT" });
});

test("ST-6 a disk that is full fails the change that it cannot keep, and nothing else; with room again all goes on", async () => {
  const store = new (class extends MemoryCoordinationStore {
    isFull = false;
    override commit(...args: Parameters<MemoryCoordinationStore["commit"]>): Promise<void> {
      return this.isFull ? Promise.reject(new Error("ENOSPC")) : super.commit(...args);
    }
  })();
  const { coordinator, ask, join, poll, lite, settle } = await start({ store });
  await join(1, "ada@example.com");
  await join(2, "ada@example.com");
  const { key } = await coordinator.createAuthKey({ user: "ada@example.com" }, "root");
  const one = await poll(1);
  one.take();
  store.isFull = true;
  await expect(ask(3, { Auth: { AuthKey: key } })).rejects.toThrow("ENOSPC");
  await expect(lite(2, { Endpoints: ["192.0.2.1:1"] })).rejects.toThrow("ENOSPC");
  await expect(coordinator.renameNode(2, "x", "root")).rejects.toThrow("ENOSPC");
  await expect(coordinator.deleteNode(2, "root")).rejects.toThrow("ENOSPC");
  await settle(300);
  expect(one.take(), "nobody hears of what was not kept").toEqual([]);
  expect([one.ended, coordinator.node(2)?.name]).toEqual([false, "host-2"]);
  expect(await ask(1)).toMatchObject({ MachineAuthorized: true });
  store.isFull = false;
  expect(await ask(3, { Auth: { AuthKey: key } })).toMatchObject({ MachineAuthorized: true });
  await coordinator.renameNode(2, "x", "root");
  await settle(300);
  expect(peersOf(one.take()).map(({ Name }) => Name)).toEqual(expect.arrayContaining(["x.tail.test."]));
});

test("ST-9 after a logout a copy of the node's keys is worth nothing", async () => {
  const { coordinator, ask, join, poll, settle } = await start();
  await join(1, "ada@example.com");
  await join(2, "ada@example.com");
  const peer = await poll(2);
  peer.take();
  await ask(1, { Expiry: "1970-01-01T00:02:03Z" });
  expect(coordinator.isKnownNodeKey(hex(1)), "the relay").toBe(false);
  expect(await ask(1), "a login with the copy").toMatchObject({ NodeKeyExpired: true, MachineAuthorized: false });
  await settle(300);
  expect(peersOf(peer.take()), "its peers").toMatchObject([{ ID: 1, Expired: true }]);
  const [map] = (await poll(1)).take();
  expect(map, "a map with the copy").toMatchObject({ Node: { Expired: true } });
  expect(map).not.toHaveProperty("Peers");
});
