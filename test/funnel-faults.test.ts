import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import net, { type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { Readable } from "node:stream";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { silentLog } from "../src/base/log.ts";
import { memoryStore } from "../src/base/store.ts";
import { LocalClient } from "../src/cli/local-client.ts";
import { main } from "../src/cli/main.ts";
import { remember, visitorsWay } from "../src/cli/serve/funnel-proof.ts";
import { MemoryCoordinationStore } from "../src/coordination/store/memory-store.ts";
import type { Finding } from "../src/funnel/probe.ts";
import { GatewayAdmin } from "../src/gateway/admin.ts";
import { Gateway } from "../src/gateway/gateway.ts";
import { openLocalApi } from "../src/gateway/localapi/index.ts";
import { Relay } from "../src/server/relay.ts";
import { Server } from "../src/server/server.ts";
import { freePorts } from "./suites/free-ports.ts";

const WAIT = { timeout: 30_000, interval: 10 };
const NAME = "web.tail.test";
const policy = (ingress: string): string => `{
  "tagOwners": { "tag:relay": [], "tag:web": [] },
  "acls": [{ "action": "accept", "src": ["*"], "dst": ["*:*"] }],
  "nodeAttrs": [
    { "target": ["tag:relay"], "attr": [${ingress}] },
    { "target": ["tag:web"], "attr": ["funnel", "https"] },
  ],
}`;
const POLICY = policy('"sallyport.dev/ingress"');

const closers: (() => unknown)[] = [];
const folder = mkdtempSync(path.join(tmpdir(), "sallyport-faults-"));
const socketPath = path.join(folder, "gate.sock");
let server: Server;
let relay: Relay;
let gateway: Gateway;
/** Where visitors come in: the port that they ask for is the one that the relay has. */
let port: number;
let backend: number;

beforeAll(async () => {
  const http = createServer((_request, response) => response.end("here")).listen(0, "127.0.0.1");
  await once(http, "listening");
  closers.push(() => http.close());
  backend = (http.address() as AddressInfo).port;
  [port = 0] = await freePorts(1);
  server = await Server.open({
    store: new MemoryCoordinationStore(),
    state: memoryStore(),
    baseDomain: "tail.test",
    policy: POLICY,
    funnelPorts: [port],
    relayAddresses: ["127.0.0.1"],
  });
  closers.push(() => server.close());
  const common = { controlUrl: server.url, localAddresses: () => ["127.0.0.1"], log: silentLog };
  const key = async (tag: string) => (await server.coordinator.createAuthKey({ tags: [tag] }, "test")).key;
  relay = await Relay.open({
    ...common,
    authKey: await key("tag:relay"),
    hostname: "relay",
    store: memoryStore(),
    listeners: [{ address: "127.0.0.1", port }],
  });
  closers.push(() => relay.close());
  gateway = await Gateway.open({
    ...common,
    authKey: await key("tag:web"),
    hostname: "web",
    store: memoryStore(),
    allowsLoopbackVisitors: true,
  });
  closers.push(() => gateway.close());
  await Promise.all([relay.node.ready(), gateway.node.ready()]);
  const api = await openLocalApi({ socketPath, backend: new GatewayAdmin(gateway), log: silentLog });
  closers.push(() => api.close());
  writeFileSync(`${folder}/ca.pem`, await gateway.certificates.authority());
}, 60_000);

afterAll(async () => {
  for (const close of closers.reverse()) await close();
  rmSync(folder, { recursive: true });
});

async function funnel(...words: readonly string[]): Promise<{ code: number; told: string }> {
  let told = "";
  const code = await main(["--socket", socketPath, "funnel", ...words], {
    stdout: (text) => {
      told += text;
    },
    stderr: () => undefined,
    stdin: Readable.from([]),
    isTerminal: false,
    env: {},
    signal: new AbortController().signal,
  });
  return { code, told };
}

async function publish(name: string = NAME, target: number = backend): Promise<void> {
  await gateway.setServeConfig({
    TCP: { [port]: { HTTPS: true } },
    Web: { [`${name}:${port}`]: { Handlers: { "/": { Proxy: `http://127.0.0.1:${target}` } } } },
    AllowFunnel: { [`${name}:${port}`]: true },
  });
  await expect.poll(() => relay.names.find(NAME, port)?.peerApi !== undefined, WAIT).toBe(true);
}

const CHECK = ["check", "--address", "127.0.0.1"];
const TRUSTING = ["--ca", `${folder}/ca.pem`];

/** What `check` ends with, and `status` says of it afterwards. */
async function faultOf(words: readonly string[] = [...CHECK, ...TRUSTING]): Promise<{ code: number; last: string }> {
  const { code, told } = await funnel(...words);
  const last = told.trimEnd().split("\n").at(-1)!.trim().replace(/ +/g, " ");
  const seen = (await funnel("status")).told;
  const hop = /✗ (\w+)/.exec(last)?.[1];
  expect(seen).toMatch(hop === undefined ? /: visitors get through, seen / : new RegExp(`: ✗ ${hop}: .*, seen `));
  return { code, last };
}

beforeEach(async () => {
  await publish();
  await expect.poll(async () => (await faultOf()).last, WAIT).toBe("✓ backend status 200");
}, 60_000);

test("FN-9 DNS leads elsewhere: nobody there is asked anything", async () => {
  const asked: net.Socket[] = [];
  const stranger = net.createServer((socket) => asked.push(socket)).listen(port, "127.0.0.9");
  await once(stranger, "listening");
  closers.push(() => stranger.close());
  const client = new LocalClient(socketPath, new AbortController().signal);
  const target = { name: NAME, port, isHttp: true };
  const findings: Finding[] = [];
  const look = visitorsWay(client, { resolve: async () => ["127.0.0.1", "127.0.0.9"] });
  for await (const one of look(target, AbortSignal.timeout(30_000))) findings.push(one);
  expect(findings).toEqual([
    { hop: "dns", isGood: false, found: "127.0.0.9 is no ingress of this network, wanted 127.0.0.1" },
  ]);
  expect(asked).toEqual([]);
  await remember(target, findings, client);
  expect((await funnel("status")).told).toContain(`${NAME}:${port}: ✗ dns: 127.0.0.9 is no ingress`);
});

test("FN-9 the backend does not answer", async () => {
  await publish(NAME, (await freePorts(1))[0]);
  expect(await faultOf()).toEqual({ code: 1, last: "✗ backend status 502" });
});

test("FN-9 the certificate is of a CA that nobody knows", async () => {
  expect(await faultOf(CHECK)).toEqual({ code: 1, last: expect.stringMatching(/^✗ certificate /) });
});

test("FN-9 the node takes nothing from the relay any more", async () => {
  await server.setPolicy(policy(""), "test");
  await expect
    .poll(async () => (await faultOf()).last, WAIT)
    .toBe("✗ name the ingress does not know the name, or not on this port");
  await server.setPolicy(POLICY, "test");
});

test("FN-9 the policy does not give the name to this node", async () => {
  await publish("shop.example.org");
  await expect
    .poll(async () => (await faultOf()).last, WAIT)
    .toMatch(/^✗ policy shop\.example\.org is not this node's: the network's policy does not give it/);
});

test("FN-9 the relay is down", async () => {
  await relay.close();
  expect(await faultOf()).toEqual({
    code: 1,
    last: expect.stringMatching(/^✗ ingress 127\.0\.0\.1 port \d+: .*ECONNREFUSED/),
  });
});
