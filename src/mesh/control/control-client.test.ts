import { afterEach, describe, expect, test } from "vitest";
import { seededRandom } from "../../base/random.ts";
import type { RegisterRequest } from "../../wire/tailcfg.ts";
import { Backoff } from "./backoff.ts";
import type { ControlClientOptions } from "./control-client.ts";
import { setDnsRequest } from "./node-requests.ts";
import { retryAfterMs } from "./requests.ts";
import { ScriptedSide, until } from "./scripted-side.ts";

const HOUR = 3_600_000;

const sides: ScriptedSide[] = [];
afterEach(async () => {
  for (const side of sides.splice(0)) await side.close();
});

function setUp(overrides?: Partial<ControlClientOptions>): ScriptedSide {
  const side = new ScriptedSide(overrides);
  sides.push(side);
  return side;
}

test("AC-11 a challenge is asked for under our own key; a refusal is told in the server's words", async () => {
  const side = setUp();
  await side.join();
  const signal = new AbortController().signal;
  await side.client.post(setDnsRequest("_acme-challenge.gate.tail.test", "v"), signal);
  const { method, path, body } = side.server.others.at(-1)!;
  expect([method, path]).toEqual(["POST", "/machine/set-dns"]);
  expect(JSON.parse(body)).toMatchObject({
    ...{ NodeKey: side.keyText, Name: "_acme-challenge.gate.tail.test", Type: "TXT", Value: "v" },
  });
  side.server.otherStatus = 403;
  await expect(side.client.post(setDnsRequest("_acme-challenge.x.tail.test", "v"), signal)).rejects.toMatchObject({
    ...{ code: "CONTROL_STATUS", hint: "The server says: not yours" },
  });
  side.server.isReachable = false;
  side.server.cut();
  await until(() => side.kind === "backing-off");
  await expect(side.client.post(setDnsRequest("_acme-challenge.gate.tail.test", "v"), signal)).rejects.toMatchObject({
    code: "CONTROL_BROKEN",
  });
});

describe("the map poll", () => {
  test("CC-3 with no frame for 120 s is dead: it begins anew on a new connection, and the map stays", async () => {
    const side = setUp();
    await side.join();
    const dials = side.server.dials;
    await side.pass(119_999);
    expect([side.server.polls.length, side.kind]).toEqual([1, "running"]);
    await side.pass(1);
    expect(side.client.state).toMatchObject({ kind: "backing-off", fault: { code: "CONTROL_SILENT" } });
    await side.pass(20);
    await until(() => side.server.polls.length === 2);
    expect([side.server.dials, side.server.registers.length, side.maps.length]).toEqual([dials + 1, 1, 1]);
  });

  test("CC-3 lives on keep-alives alone", async () => {
    const side = setUp();
    await side.join();
    await side.stay(10 * 60_000);
    expect([side.server.polls.length, side.kind, side.maps.length]).toEqual([1, "running", 1]);
  });

  test("CC-8 a day without the server: the map stays, dials back off to twice a minute, and on its return all is well", async () => {
    const side = setUp();
    await side.join();
    side.server.isReachable = false;
    side.server.cut();
    await until(() => side.kind === "backing-off");
    await side.pass(10 * 60_000);
    const before = side.server.dials;
    await side.pass(24 * HOUR);
    const perHour = (side.server.dials - before) / 24;
    // Two loops, for map and updates; each waits 15 to 45 s.
    expect(perHour).toBeGreaterThan(120);
    expect(perHour).toBeLessThan(300);
    expect([side.kind, side.maps.length, side.maps[0]?.peers.size]).toEqual(["backing-off", 1, 1]);
    side.server.isReachable = true;
    await side.pass(60_000);
    side.server.send({ Node: side.self() });
    await until(() => side.kind === "running");
    expect(side.server.registers.length).toBe(1);
  });
});

describe("back-off", () => {
  test("the nth failure waits n² × 10 ms up to 30 s, times 0.5 to 1.5, and forgets at success", () => {
    const backoff = new Backoff(seededRandom(5));
    for (let n = 1; n <= 80; n++) {
      const base = Math.min(n * n * 10, 30_000);
      const wait = backoff.next();
      expect(wait).toBeGreaterThanOrEqual(base * 0.5);
      expect(wait).toBeLessThan(base * 1.5);
    }
    backoff.reset();
    expect(backoff.next()).toBeLessThan(15);
  });

  test.each([
    ["30", 30_000],
    ["3600", 3_600_000],
    ["Thu, 01 Jan 2026 00:01:00 GMT", 60_000],
    ["0", 7500],
    ["-5", 7500],
    ["3601", 7500],
    ["soon", 7500],
    ["Wed, 31 Dec 2025 23:00:00 GMT", 7500],
    [undefined, 7500],
  ])("Retry-After %s: %i ms", (header, wanted) => {
    expect(retryAfterMs(header, Date.UTC(2026, 0, 1), 0.5)).toBe(wanted);
  });

  test("a server that is busy is asked again when it said, not before", async () => {
    const side = setUp();
    side.server.answerRegister = () => ({ status: 429, retryAfter: "30" });
    side.client.start();
    await until(() => side.kind === "backing-off");
    expect(side.client.state).toMatchObject({ fault: { code: "CONTROL_BUSY" } });
    await side.pass(29_999);
    expect(side.server.registers.length).toBe(1);
    side.server.answerRegister = () => ({});
    await side.pass(2);
    await until(() => side.server.polls.length === 1);
    expect(side.server.registers.length).toBe(2);
  });
});

describe("CC-9 key expiry", () => {
  test("is noticed at its very instant, without a word from the server", async () => {
    const side = setUp();
    await side.join({ KeyExpiry: side.at(HOUR) });
    await side.stay(HOUR - 1);
    expect(side.kind).not.toBe("expired");
    await side.pass(1);
    expect(side.kind).toBe("expired");
  });

  test.each([
    ["two hours ahead of us", 2 * HOUR, 1.5 * HOUR, "expired"],
    ["two hours behind us", -2 * HOUR, -0.5 * HOUR, "running"],
    ["half a minute ahead, which is the network's", 30_000, 20_000, "running"],
    ["half a minute behind", -30_000, -20_000, "expired"],
  ] as const)("goes by the server's clock, which is %s", async (_, skew, expiry, wanted) => {
    const side = setUp();
    side.client.start();
    await until(() => side.server.polls.length === 1);
    side.server.send({ Node: side.self({ KeyExpiry: side.at(expiry) }), ControlTime: side.at(skew) });
    await until(() => side.maps.length === 1);
    expect(side.kind).toBe(wanted);
    expect(side.client.wall() - side.clock.wall()).toBe(Math.abs(skew) > 60_000 ? skew : 0);
  });

  test("without an auth key waits for a person, who gets a URL; the old key stays in force until the server took the new one", async () => {
    const side = setUp();
    await side.join({ KeyExpiry: side.at(HOUR) });
    await side.stay(HOUR);
    expect([side.kind, side.server.registers.length]).toEqual(["expired", 1]);
    const before = side.keyText;
    side.server.answerRegister = ({ Followup }) =>
      Followup === "" ? { AuthURL: "https://control.test/register/1" } : { status: 503 };
    side.client.login();
    await until(() => side.server.registers.length === 3);
    expect(side.urls).toEqual(["https://control.test/register/1"]);
    expect(side.client.state).toMatchObject({ kind: "needs-login", url: "https://control.test/register/1" });
    const [, second, third] = side.server.registers as [RegisterRequest, RegisterRequest, RegisterRequest];
    expect([second.OldNodeKey, third.OldNodeKey, third.NodeKey === second.NodeKey]).toEqual([before, before, true]);
    expect([second.NodeKey === before, side.keyText]).toEqual([false, before]);
    side.server.answerRegister = () => ({});
    await side.passUntil(() => side.server.polls.length === 2);
    expect([side.keyText, side.server.polls[1]?.request.NodeKey]).toEqual([second.NodeKey, second.NodeKey]);
    side.server.send({ Node: side.self() });
    await until(() => side.kind === "running");
  });

  test("with an auth key the same key is renewed, once", async () => {
    const side = setUp({ authKey: "key-1" });
    await side.join({ KeyExpiry: side.at(HOUR) });
    await side.stay(HOUR);
    await until(() => side.server.polls.length === 2);
    expect(side.server.registers.map(({ NodeKey, Auth }) => [NodeKey, Auth?.AuthKey])).toEqual([
      [side.keyText, "key-1"],
      [side.keyText, "key-1"],
    ]);
    side.server.send({ Node: side.self({ KeyExpiry: side.at(-1) }) });
    await until(() => side.kind === "expired");
    await side.pass(60_000);
    expect(side.server.registers.length).toBeLessThanOrEqual(3);
  });

  test("a new key that a person wants is taken with an auth key, and nobody is asked", async () => {
    const side = setUp();
    await side.join();
    const before = side.keyText;
    side.client.login({ authKey: "key-2", isRenewal: true });
    await until(() => side.keyText !== before);
    const { Auth, OldNodeKey, NodeKey } = side.server.registers.at(-1)!;
    expect([Auth, OldNodeKey, NodeKey]).toEqual([{ AuthKey: "key-2" }, before, side.keyText]);
    expect(side.urls).toEqual([]);
  });

  test("a key that the server cut short is not renewed by itself: that was somebody's decision", async () => {
    const side = setUp({ authKey: "key-1" });
    await side.join({ KeyExpiry: side.at(100 * HOUR) });
    side.server.send({ Node: side.self({ KeyExpiry: side.at(-1000) }) });
    await until(() => side.kind === "expired");
    await side.stay(HOUR);
    expect([side.kind, side.server.registers.length]).toEqual(["expired", 1]);
  });
});

describe("a node that was deleted", () => {
  test("learns it within 30 s although the server keeps its stream alive, and does not join again by itself", async () => {
    const side = setUp({ authKey: "key-1" });
    await side.join();
    await until(() => side.server.updates.length > 0);
    side.server.mapStatus = 404; // as Headscale: the stream of before stays open
    await side.pass(40_000);
    expect([side.kind, side.server.registers.length]).toEqual(["removed", 1]);
    await side.stay(HOUR);
    expect([side.kind, side.server.registers.length]).toEqual(["removed", 1]);
  });

  test("CC-4 learns it from its own removal", async () => {
    const side = setUp();
    await side.join();
    side.server.send({ PeersRemoved: [1] });
    await until(() => side.kind === "removed");
    expect(side.maps.length).toBe(1);
  });

  test("is told so by our server: its key ends, then the stream, then it is unknown; its auth key does not bring it back", async () => {
    const side = setUp({ authKey: "key-1" });
    await side.join();
    side.server.mapStatus = 404;
    side.server.send({ Node: side.self({ KeyExpiry: side.at(-1), Expired: true }) });
    side.server.polls.at(-1)!.stream.end();
    await until(() => side.kind === "expired");
    await side.passUntil(() => side.kind === "removed");
    await side.pass(HOUR);
    expect([side.kind, side.server.registers.length]).toEqual(["removed", 1]);
  });

  test("one 404 of a server that has only begun means nothing", async () => {
    const side = setUp();
    await side.join();
    side.server.mapStatus = 404;
    side.server.cut();
    await side.pass(1000);
    side.server.mapStatus = 200;
    await side.pass(5000);
    side.server.send({ Node: side.self() });
    await until(() => side.kind === "running");
    expect(side.states.map(({ kind }) => kind)).not.toContain("removed");
  });
});

describe("CC-1 the server's key", () => {
  test("is told to be remembered; another one at the same URL is refused while we run, until we log out", async () => {
    const told: string[] = [];
    const side = setUp({ onServerKey: (key) => told.push(key) });
    await side.join();
    expect(told).toEqual([side.server.key]);
    side.server.changeKey(1);
    side.server.cut();
    await side.passUntil(() => side.faultCode === "CONTROL_KEY_CHANGED");
    expect([side.server.polls.length, side.maps.length]).toEqual([1, 1]);
    await side.client.logout();
    side.client.login({ authKey: "key-2" });
    await until(() => side.server.registers.length === 2);
    expect(side.server.registers[1]?.Auth?.AuthKey).toBe("key-2");
  });

  test("that is not the remembered one is refused at the start, before anything is said", async () => {
    const side = setUp({ knownServerKey: `mkey:${"a".repeat(64)}` });
    side.client.start();
    await until(() => side.kind === "backing-off");
    expect(side.client.state).toMatchObject({ fault: { code: "CONTROL_KEY_CHANGED" } });
    await side.pass(60_000);
    expect(side.server.registers).toEqual([]);
  });
});
