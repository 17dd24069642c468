import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import net from "node:net";
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { LocalClient } from "../src/cli/local-client.ts";
import { remember, visitorsWay } from "../src/cli/serve/funnel-proof.ts";
import type { Finding } from "../src/funnel/probe.ts";
import { GatewayAdmin } from "../src/gateway/admin.ts";
import { openDoors } from "../src/gateway/doors/doors.ts";
import type { Gateway } from "../src/gateway/gateway.ts";
import type { Relay } from "../src/server/relay.ts";
import type { Server } from "../src/server/server.ts";
import { freePorts } from "./suites/free-ports.ts";
import { brings, FunnelMesh, funnelPolicy } from "./suites/funnel-mesh.ts";
import { type LocalSocket, openLocalSocket } from "./suites/local-gateway.ts";
import { scratchFolder } from "./suites/scratch.ts";
import { type Typed, typedAt } from "./suites/typed-command.ts";

const WAIT = { timeout: 30_000, interval: 10 };
const NAME = "web.tail.test";
const WEB = '"attr": ["funnel", "https"]';

let mesh: FunnelMesh;
const folder = scratchFolder();
let socket: LocalSocket;
let server: Server;
let relay: Relay;
let gateway: Gateway;
/** Where visitors come in: the port that they ask for is the one that the relay has. */
let port: number;
let backend: number;

beforeAll(async () => {
  [port = 0] = await freePorts(1);
  const policy = funnelPolicy(WEB);
  mesh = await FunnelMesh.open({ policy, funnelPorts: [port], relayAddresses: ["127.0.0.1"] });
  ({ server } = mesh);
  backend = await mesh.listen(createServer((_request, response) => response.end("here")));
  relay = await mesh.relay({ listeners: [{ address: "127.0.0.1", port }] });
  gateway = await mesh.gateway();
  socket = await openLocalSocket(new GatewayAdmin(gateway));
  mesh.defer(() => socket.close());
  writeFileSync(`${folder}/ca.pem`, await gateway.certificates.authority());
}, 60_000);

afterAll(async () => {
  await mesh.close();
});

const funnel = (...words: readonly string[]): Promise<Typed> => typedAt(socket.path, ["funnel", ...words]);

async function publish(name: string = NAME, target: number = backend): Promise<void> {
  await gateway.setServeConfig({
    TCP: { [port]: { HTTPS: true } },
    Web: { [`${name}:${port}`]: { Handlers: { "/": { Proxy: `http://127.0.0.1:${target}` } } } },
    AllowFunnel: { [`${name}:${port}`]: true },
  });
  await expect.poll(() => brings(relay, NAME, port), WAIT).toBe(true);
}

const CHECK = ["check", "--address", "127.0.0.1"];
const TRUSTING = ["--ca", `${folder}/ca.pem`];

/** What `check` ends with, and `status` says of it afterwards. */
async function faultOf(words: readonly string[] = [...CHECK, ...TRUSTING]): Promise<{ code: number; last: string }> {
  const { code, stdout, stderr } = await funnel(...words);
  expect(stderr !== "", stderr).toBe(code !== 0); // what to do
  const last = stdout.trimEnd().split("\n").at(-1)!.trim().replace(/ +/g, " ");
  const seen = (await funnel("status")).stdout;
  const hop = /✗ (\w+)/.exec(last)?.[1];
  expect(seen).toMatch(
    hop === undefined ? /: visitors get through \(status \d{3}.*\), seen / : new RegExp(`: ✗ ${hop}: .*, seen `),
  );
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
  onTestFinished(() => void stranger.close());
  const client = new LocalClient(socket.path, new AbortController().signal);
  const target = { name: NAME, port, isHttp: true };
  const findings: Finding[] = [];
  const look = visitorsWay(client, { resolve: async () => ["127.0.0.1", "127.0.0.9"] });
  for await (const one of look(target, AbortSignal.timeout(30_000))) findings.push(one);
  expect(findings).toEqual([
    { hop: "dns", isGood: false, found: "127.0.0.9 is no ingress of this network, wanted 127.0.0.1" },
  ]);
  expect(asked).toEqual([]);
  await remember(target, findings, client);
  expect((await funnel("status")).stdout).toContain(`${NAME}:${port}: ✗ dns: 127.0.0.9 is no ingress`);
});

test("FN-9 the backend does not answer", async () => {
  await publish(NAME, (await freePorts(1))[0]);
  expect(await faultOf()).toEqual({ code: 1, last: "✗ backend status 502" });
});

test("FN-9 visitors were said to get through a door to a backend that nobody had asked, and that was dead", async () => {
  gateway.gatekeeper.setDoors(await openDoors({ friends: { pin: "env:PIN" } }, { PIN: "482913" }));
  await publish(NAME, (await freePorts(1))[0]);
  await gateway.commandDoors.set(`${NAME}:${port}`, "friends");
  const last = "✓ backend status 401: door friends, what is behind it was not asked";
  expect(await faultOf()).toEqual({ code: 0, last });
  await gateway.commandDoors.set(`${NAME}:${port}`, undefined);
});

test("FN-9 the certificate is of a CA that nobody knows", async () => {
  expect(await faultOf(CHECK)).toEqual({ code: 1, last: expect.stringMatching(/^✗ certificate /) });
});

test("FN-9 the node takes nothing from the relay any more", async () => {
  await server.setPolicy(funnelPolicy(WEB, ""), "test");
  await expect
    .poll(async () => (await faultOf()).last, WAIT)
    .toBe("✗ name the ingress does not know the name, or not on this port");
  await server.setPolicy(funnelPolicy(WEB), "test");
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
