import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FakeClock } from "../base/clock.ts";
import type { UdpIo } from "../base/packet.ts";
import { seededRandom } from "../base/random.ts";
import { memoryStore, type Store } from "../base/store.ts";
import { formatKey, generatePrivateKey, publicKeyOf } from "../crypto/keys.ts";
import type { Node } from "../wire/tailcfg.ts";
import { ScriptedServer } from "./control/scripted-server.ts";
import { MeshNode } from "./node.ts";

/** A socket that takes nothing and hears nothing: these tests are about what the server says. */
const deafUdp: UdpIo = {
  onWritable() {},
  port: 41641,
  start() {},
  claim: () => undefined,
  flush() {},
  async close() {},
};
const PEER_KEY = formatKey("nodekey", publicKeyOf(generatePrivateKey(seededRandom(2))));

let clock: FakeClock;
let server: ScriptedServer;
let store: Store;
let node: MeshNode;

const open = (more: Partial<Parameters<typeof MeshNode.open>[0]> = {}) =>
  MeshNode.open({
    controlUrl: "http://control.test",
    store,
    clock,
    random: seededRandom(7),
    connect: server.connect,
    openUdp: async () => deafUdp,
    localAddresses: () => ["192.0.2.1"],
    ...more,
  });

async function until(isSo: () => boolean): Promise<void> {
  for (let turns = 0; turns < 5000 && !isSo(); turns++) await new Promise((resolve) => setImmediate(resolve));
  expect(isSo()).toBe(true);
}

const self = (more: Partial<Node> = {}): Node => ({
  ID: 1,
  StableID: "1",
  Name: "gw.tail.test.",
  User: 1,
  Key: node.nodeKeyText,
  Addresses: ["100.64.0.1/32", "fd7a:115c:a1e0::1/128"],
  ...more,
});
const peer: Node = {
  ID: 2,
  StableID: "2",
  Name: "p.tail.test.",
  User: 1,
  Key: PEER_KEY,
  Addresses: ["100.64.0.2/32"],
  HomeDERP: 1,
};
const say = (more: Partial<Node> = {}) =>
  server.send({ Node: self(more), Peers: [peer], DNSConfig: { Domains: ["tail.test"] } });
const peers = () => node.peerStatus().map((status) => status.node.Name);

beforeEach(async () => {
  clock = new FakeClock();
  server = new ScriptedServer();
  store = memoryStore();
  node = await open();
  await until(() => server.polls.length === 1);
  say();
  await until(() => node.state.kind === "running");
});

afterEach(async () => {
  server.cut();
  await node.close();
});

describe("what the server says of us", () => {
  test("a member has its peers, addresses and names", () => {
    expect([peers(), node.addresses, node.resolve("p")]).toEqual([
      ["p.tail.test."],
      ["100.64.0.1", "fd7a:115c:a1e0::1"],
      "100.64.0.2",
    ]);
    expect(node.health).toEqual([]);
  });

  test("renamed and tagged: told to whoever listens", async () => {
    const names: string[] = [];
    node.onMap((map) => names.push(`${map.self.Name} ${map.self.Tags ?? ""}`));
    say({ Name: "porter.tail.test.", Tags: ["tag:ci"] });
    await until(() => names.length === 2);
    expect(names).toEqual(["gw.tail.test. ", "porter.tail.test. tag:ci"]);
  });

  test("whom visitors' rules keep out is told to a server that asks for them, and to no other", async () => {
    const rules = [{ sites: ["gw.tail.test:443"], deny: ["203.0.113.9"] }];
    const told = () => server.updates.map((update) => update["sallyport.dev/visitor-rules"]);
    const before = told().length;
    node.tell({ visitorRules: rules, ingress: "on" });
    // Updates of a moment share one request.
    const untilTold = (isSo: () => boolean) =>
      until(() => {
        clock.advance(100);
        return isSo();
      });
    await untilTold(() => server.updates.length > before);
    say({ CapMap: { funnel: null, "sallyport.dev/claims": [] } });
    await until(() => Object.hasOwn(node.map?.self.CapMap ?? {}, "funnel"));
    expect(new Set(told())).toEqual(new Set([undefined]));
    say({ CapMap: { funnel: null, "sallyport.dev/visitor-rules": null } });
    await untilTold(() => told().at(-1) !== undefined);
    expect(told().at(-1)).toEqual(rules);
    expect(server.polls[0]?.request["sallyport.dev/visitor-rules"]).toBeUndefined();
  });

  test("CC-9 expired: it has no peers, whatever else the server says, until its key is good again", async () => {
    say({ KeyExpiry: "2020-01-01T00:00:00Z" });
    await until(() => node.state.kind === "expired");
    expect([peers(), node.health[0]]).toEqual([[], expect.stringContaining("expired")]);
    server.send({ PeersChanged: [{ ...peer, ID: 3, Name: "q.tail.test.", Addresses: ["100.64.0.3/32"] }] });
    await until(() => node.map?.peers.has(3) === true);
    expect(peers()).toEqual([]);
    say();
    await until(() => node.state.kind === "running");
    expect(peers()).toEqual(["p.tail.test."]);
  });

  test("expired and logging in again: still no peers before the server has taken the new key", async () => {
    say({ Expired: true });
    await until(() => node.state.kind === "expired");
    server.answerRegister = ({ Followup }) =>
      Followup === "" ? { AuthURL: "https://control.test/a" } : { status: 503 };
    const before = node.nodeKeyText;
    node.login();
    await until(() => node.state.kind === "needs-login");
    server.send({ Node: self({ Expired: true }) });
    await until(() => server.registers.length >= 3);
    expect([peers(), node.nodeKeyText]).toEqual([[], before]);
    server.answerRegister = () => ({});
    for (let i = 0; i < 50 && server.polls.length < 2; i++) {
      clock.advance(100);
      for (let turns = 0; turns < 10; turns++) await new Promise((resolve) => setImmediate(resolve));
    }
    await until(() => server.polls.length === 2);
    say();
    await until(() => node.state.kind === "running");
    expect(node.nodeKeyText).not.toBe(before);
    expect(peers()).toEqual(["p.tail.test."]);
  });

  test("who is dialed and leaves: the dial ends at once, not by its own patience", async () => {
    const dial = node.dial({ address: "100.64.0.2", port: 80 });
    const ended = expect(dial).rejects.toMatchObject({ code: "TCPIP_UNREACHABLE" });
    server.send({ PeersRemoved: [2] });
    await until(() => peers().length === 0);
    await ended;
  });

  test("deleted: it has no peers, and says what happened", async () => {
    server.send({ PeersRemoved: [1] });
    await until(() => node.state.kind === "removed");
    expect([peers(), node.health[0]]).toEqual([[], expect.stringContaining("deleted")]);
  });

  test("a peer whose key runs out is cut without a word from the server", async () => {
    const soon = new Date(clock.wall() + 30_000).toISOString();
    server.send({ PeersChanged: [{ ...peer, KeyExpiry: soon }] });
    await until(() => node.map?.peers.get(2)?.KeyExpiry === soon);
    clock.advance(29_999);
    expect(peers()).toEqual(["p.tail.test."]);
    clock.advance(1);
    expect(peers()).toEqual([]);
  });
});

test("logged out it is another node, which has forgotten the server; it can log in anew", async () => {
  const before = node.nodeKeyText;
  await node.logout();
  expect([node.state.kind, peers(), node.addresses, node.map]).toEqual(["logged-out", [], [], undefined]);
  expect(node.nodeKeyText).not.toBe(before);
  expect(server.registers.at(-1)?.Expiry).toBe("1970-01-01T00:02:03Z");
  server.changeKey(5);
  node.login({ authKey: "key-1" });
  await until(() => server.polls.length === 2);
  say();
  await until(() => node.state.kind === "running");
  expect(peers()).toEqual(["p.tail.test."]);
});

test("a restart finds the same node, and refuses a server with another key", async () => {
  const before = node.nodeKeyText;
  await node.close();
  node = await open();
  await until(() => server.polls.length === 2);
  expect(node.nodeKeyText).toBe(before);
  await node.close();
  server.changeKey(6);
  node = await open();
  await until(() => node.state.kind === "backing-off");
  expect(node.state).toMatchObject({ fault: { code: "CONTROL_KEY_CHANGED" } });
});

test("other addresses of the machine: the server is asked anew, over a new connection", async () => {
  await node.close();
  let addresses = ["192.0.2.1"];
  node = await open({ localAddresses: () => addresses });
  await until(() => server.polls.length === 2);
  say();
  await until(() => node.state.kind === "running");
  const { dials } = server;
  addresses = ["198.51.100.1"];
  clock.advance(3000);
  await until(() => server.polls.length === 3);
  expect(server.dials).toBe(dials + 1);
  expect(server.polls[2]?.request.Endpoints).toEqual(["198.51.100.1:41641"]);
});
