import { describe, expect, test } from "vitest";
import {
  hex,
  nodeKey,
  open,
  ownOnly,
  peersOf,
  type Recorder,
  start,
  wireGuardRequest,
} from "../../test/suites/coordination-rig.ts";
import { FakeClock } from "../base/clock.ts";

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
