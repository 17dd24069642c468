import { describe, expect, test } from "vitest";
import { hex, mkey, nodeKey, Recorder, start } from "../../test/suites/coordination-rig.ts";
import type { MapRequest } from "../wire/tailcfg.ts";
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
