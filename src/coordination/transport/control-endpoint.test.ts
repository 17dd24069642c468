import { createServer, type Server } from "node:http";
import { type Duplex, duplexPair } from "node:stream";
import { afterEach, expect, test } from "vitest";
import { systemClock } from "../../base/clock.ts";
import { Fault } from "../../base/fault.ts";
import { silentLog } from "../../base/log.ts";
import { systemRandom } from "../../base/random.ts";
import { formatKey, generatePrivateKey, publicKeyOf } from "../../crypto/keys.ts";
import { Connector } from "../../mesh/control/connector.ts";
import { ControlClient, type ControlClientOptions, type ControlState } from "../../mesh/control/control-client.ts";
import type { NetworkMap } from "../../wire/network-map.ts";
import type { MapRequest, Node, RegisterRequest } from "../../wire/tailcfg.ts";
import type { ControlHandler, MapSink } from "../control-handler.ts";
import { ControlEndpoint } from "./control-endpoint.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

function setUp(handler: Partial<ControlHandler>, overrides: Partial<ControlClientOptions> = {}) {
  const serverKey = generatePrivateKey(systemRandom);
  const machineKey = generatePrivateKey(systemRandom);
  let nodeKey: { private: Uint8Array; old?: Uint8Array } = { private: generatePrivateKey(systemRandom) };
  const endpoint = new ControlEndpoint({
    privateKey: serverKey,
    handler: {
      register: async () => ({ MachineAuthorized: true }),
      map: async () => {},
      other: async () => ({ status: 404, body: "unknown" }),
      ...handler,
    },
    log: silentLog,
    clock: systemClock,
    random: systemRandom,
  });
  const server: Server = createServer();
  endpoint.attach(server);
  const maps: NetworkMap[] = [];
  const states: ControlState[] = [];
  const urls: string[] = [];
  const streams: Duplex[] = [];
  const options: ControlClientOptions = {
    serverUrl: "http://control.test",
    machineKey,
    clock: systemClock,
    random: systemRandom,
    log: silentLog,
    connect: async () => {
      const [ours, theirs] = duplexPair();
      streams.push(ours);
      server.emit("connection", theirs);
      return ours;
    },
    hostinfo: () => ({ Hostname: "gate", BackendLogID: "00" }),
    nodeKey: () => nodeKey,
    adoptNodeKey: async (key) => {
      nodeKey = { private: key, old: nodeKey.private };
    },
    discoKey: publicKeyOf(generatePrivateKey(systemRandom)),
    endpoints: () => [{ endpoint: "192.0.2.1:41641", type: 1 }],
    onAuthUrl: (url) => urls.push(url),
    onMap: (map) => maps.push(map),
    onState: (state) => states.push(state),
    ...overrides,
  };
  const client = new ControlClient(options);
  closers.push(
    () => endpoint.close(),
    () => client.close(),
  );
  const keyText = () => formatKey("nodekey", publicKeyOf(nodeKey.private));
  return { client, options, endpoint, server, maps, states, urls, streams, machineKey, keyText };
}

function selfNode(key: string): Node {
  return { ID: 1, StableID: "n1", Name: "gate.tail.test.", User: 1, Key: key, Addresses: ["100.64.0.1/32"] };
}

const until = (check: () => unknown) => expect.poll(check, { timeout: 4000, interval: 5 });

test("client and server: register, first map, delta, lite update", async () => {
  const registers: [string, RegisterRequest][] = [];
  const updates: MapRequest[] = [];
  let out: MapSink | undefined;
  const side = setUp({
    register: async (machineKey, request) => {
      registers.push([machineKey, request]);
      return { MachineAuthorized: true };
    },
    map: async (_machineKey, request, sink) => {
      if (request.Stream !== true) {
        updates.push(request);
        return;
      }
      out = sink;
      sink.send({ Node: selfNode(request.NodeKey), Domain: "tail.test", Peers: [{ ...selfNode("nodekey:b"), ID: 2 }] });
      await new Promise((resolve) => sink.closed.addEventListener("abort", resolve));
    },
  });
  side.client.start();
  await until(() => side.maps.length).toBe(1);
  expect(side.maps[0]?.self.Key).toBe(side.keyText());
  expect(registers).toHaveLength(1);
  expect(registers[0]?.[0]).toBe(formatKey("mkey", publicKeyOf(side.machineKey)));
  expect(side.states.at(-1)).toEqual({ kind: "running" });
  await until(() => updates.length).toBe(1);
  expect(updates[0]).toMatchObject({ OmitPeers: true, Endpoints: ["192.0.2.1:41641"], EndpointTypes: [1] });
  out?.send({ PeersChangedPatch: [{ NodeID: 2, Online: true }] });
  await until(() => side.maps.length).toBe(2);
  expect(side.maps[1]?.peers.get(2)?.Online).toBe(true);
  side.client.update();
  side.client.update();
  await until(() => updates.length).toBe(2);
  expect(side.streams).toHaveLength(2); // /key and one channel
});

/** A map handler that serves one self node, and keeps polls open. */
function mapOf(polls: MapRequest[] = [], sinks: MapSink[] = []): Pick<ControlHandler, "map"> {
  return {
    map: async (_machineKey, request, sink) => {
      if (request.Stream !== true) return;
      polls.push(request);
      sinks.push(sink);
      sink.send({ Node: selfNode(request.NodeKey) });
      await new Promise((resolve) => sink.closed.addEventListener("abort", resolve));
    },
  };
}

test("a machine gives a sign of life while it can be reached, and none when it fell silent", async () => {
  const sinks: MapSink[] = [];
  const side = setUp(mapOf([], sinks));
  side.client.start();
  await until(() => side.maps.length).toBe(1);
  let heard = 0;
  const ask = (): boolean => sinks[0]!.echo!(() => void heard++);
  expect(ask()).toBe(true);
  await until(() => heard).toBe(1);
  const channel = side.streams.at(-1)!;
  channel.pause(); // nothing is read there any more
  channel.removeAllListeners("data");
  channel.removeAllListeners("readable");
  expect(ask()).toBe(true);
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
  expect(heard).toBe(1);
  await side.client.close();
  side.endpoint.close();
  expect(ask()).toBe(false);
});

test("an expired key is replaced once, then a person logs in: flows D and C", async () => {
  const registers: RegisterRequest[] = [];
  const side = setUp({
    register: async (_machineKey, request) => {
      registers.push(request);
      if (registers.length === 1) return { NodeKeyExpired: true };
      if (request.Followup === "") return { AuthURL: "https://control.test/register/abc" };
      return { MachineAuthorized: true };
    },
    ...mapOf(),
  });
  const before = side.keyText();
  side.client.start();
  await until(() => side.maps.length).toBe(1);
  expect(side.urls).toEqual(["https://control.test/register/abc"]);
  expect(registers.map(({ Followup }) => Followup)).toEqual(["", "", "https://control.test/register/abc"]);
  expect(registers.slice(1).map(({ OldNodeKey }) => OldNodeKey)).toEqual([before, before]);
  expect(side.keyText()).not.toBe(before);
  expect(side.states.map(({ kind }) => kind)).toContain("needs-login");
});

test("flows B and E: the auth key goes along with every register, and with the logout", async () => {
  const registers: RegisterRequest[] = [];
  const side = setUp(
    {
      register: async (_machineKey, request) => {
        registers.push(request);
        return {};
      },
      ...mapOf(),
    },
    { authKey: "key-1" },
  );
  side.client.start();
  await until(() => side.maps.length).toBe(1);
  await side.client.logout();
  expect(registers.map(({ Auth, Expiry }) => [Auth?.AuthKey, Expiry])).toEqual([
    ["key-1", "0001-01-01T00:00:00Z"],
    ["key-1", "1970-01-01T00:02:03Z"],
  ]);
  expect(side.client.state.kind).toBe("logged-out");
});

test("flow G: a key whose time is over is renewed once with the auth key, on the same node key", async () => {
  const registers: RegisterRequest[] = [];
  const sinks: MapSink[] = [];
  const side = setUp(
    {
      register: async (_machineKey, request) => {
        registers.push(request);
        return {};
      },
      ...mapOf([], sinks),
    },
    { authKey: "key-1" },
  );
  side.client.start();
  await until(() => side.maps.length).toBe(1);
  const soon = new Date(Date.now() + 100).toISOString();
  sinks[0]?.send({ Node: { ...selfNode(side.keyText()), KeyExpiry: soon } });
  await until(() => registers.length).toBe(2);
  expect(registers[1]?.NodeKey).toBe(registers[0]?.NodeKey);
  await until(() => side.client.state.kind).toBe("running");
  expect(side.states.map(({ kind }) => kind)).toContain("expired");
});

test("CC-8: a broken connection is dialled anew, without a register and with the map kept", async () => {
  const polls: MapRequest[] = [];
  let registers = 0;
  const side = setUp({
    register: async () => {
      registers++;
      return {};
    },
    ...mapOf(polls),
  });
  side.client.start();
  await until(() => polls.length).toBe(1);
  for (const stream of side.streams) stream.destroy();
  await until(() => polls.length).toBe(2);
  await until(() => side.client.state.kind).toBe("running");
  expect(registers).toBe(1);
});

test("an unknown node gets 404 and asks again on the same channel", async () => {
  let polls = 0;
  const side = setUp({
    map: async (_machineKey, request) => {
      if (request.Stream === true) polls++;
      throw new Fault("COORDINATION_NODE_UNKNOWN", "no such node");
    },
  });
  side.client.start();
  await until(() => polls).toBeGreaterThan(2);
  const state = side.states.findLast(({ kind }) => kind === "backing-off");
  expect(state).toMatchObject({ fault: { code: "CONTROL_STATUS" } });
  expect(side.streams).toHaveLength(2);
});

test("CC-1: another server key than the remembered one is refused", async () => {
  const side = setUp({}, { knownServerKey: formatKey("mkey", publicKeyOf(generatePrivateKey(systemRandom))) });
  side.client.start();
  await until(() => side.client.state).toMatchObject({ kind: "backing-off", fault: { code: "CONTROL_KEY_CHANGED" } });
  expect(side.maps).toEqual([]);
});

test("CC-10, c2n: echo is answered inside the channel; foreign URLs are not asked", async () => {
  const answers: [string, unknown][] = [];
  const sinks: MapSink[] = [];
  const side = setUp({
    ...mapOf([], sinks),
    other: async (_machineKey, method, path) => {
      answers.push([method, path]);
      return { status: 200 };
    },
  });
  side.client.start();
  await until(() => side.maps.length).toBe(1);
  const payload = Buffer.from("POST /echo HTTP/1.1\r\nHost: c2n\r\nContent-Length: 2\r\n\r\nhi").toString("base64");
  for (const URL of ["http://169.254.169.254/latest", "http://127.0.0.1/", "file:///etc/passwd", "http://[::1]:80/x"]) {
    sinks[0]?.send({ PingRequest: { URL } });
    sinks[0]?.send({ PingRequest: { URL: `${URL}2`, URLIsNoise: true, Types: "c2n", Payload: payload } });
  }
  const URL = "https://control.test/machine/c2n-reply/1";
  sinks[0]?.send({ PingRequest: { URL, URLIsNoise: true, Types: "c2n", Payload: payload } });
  await until(() => answers.length).toBe(1);
  expect(answers).toEqual([["POST", "/machine/c2n-reply/1"]]);
  expect(side.streams).toHaveLength(2);
});

test("CS-7: an old client and a long body are refused", async () => {
  const side = setUp({});
  const connector = new Connector(side.options);
  closers.push(() => connector.close());
  const { signal } = new AbortController();
  const channel = await connector.channel(signal);
  const ask = async (body: string, path = "/machine/register") =>
    (await channel.ask({ method: "POST", path, body, signal })).status;
  const key = side.keyText();
  expect(await ask(JSON.stringify({ Version: 112, NodeKey: key }))).toBe(400);
  expect(await ask(JSON.stringify({ Version: 113, NodeKey: key }))).toBe(200);
  expect(await ask("{")).toBe(400);
  expect(await ask("[]")).toBe(400);
  expect(await ask(JSON.stringify({ Version: 113, NodeKey: "nodekey:1" }))).toBe(400);
  expect(await ask(" ".repeat(1024 * 1024 + 1))).toBe(413);
  expect(await ask("", "/elsewhere")).toBe(404);
});
