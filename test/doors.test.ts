import { createServer, type IncomingHttpHeaders } from "node:http";
import { request } from "node:https";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { memoryStore } from "../src/base/store.ts";
import { mountRules, nodeServeConfig } from "../src/config/node-serve-config.ts";
import { parseServices } from "../src/config/services.ts";
import { MemoryCoordinationStore } from "../src/coordination/store/memory-store.ts";
import { DoorAdmin } from "../src/gateway/door-admin.ts";
import { openDoors } from "../src/gateway/doors.ts";
import { Gateway } from "../src/gateway/gateway.ts";
import { readIdentity } from "../src/identity/index.ts";
import { nodeOf } from "../src/library.ts";
import { MeshNode } from "../src/mesh/node.ts";
import { Server } from "../src/server/server.ts";

const WAIT = { timeout: 60_000, interval: 20 };
const NAME = "web.mesh.example";
const ORIGIN = `https://${NAME}`;
const closers: (() => unknown)[] = [];
let server: Server;
let gateway: Gateway;
let heard: IncomingHttpHeaders[] = [];

/** A relay, a gateway whose file puts a door before what is public, and a backend that notes what it is told. */
beforeAll(async () => {
  server = await Server.open({
    store: new MemoryCoordinationStore(),
    state: memoryStore(),
    baseDomain: "mesh.example",
    policy: JSON.stringify({
      acls: [{ action: "accept", src: ["*"], dst: ["*:*"] }],
      tagOwners: { "tag:web": [] },
      nodeAttrs: [{ target: ["tag:web"], attr: ["funnel"] }],
    }),
    relay: { listeners: [{ address: "127.0.0.1", port: 0, publicPort: 443 }] },
  });
  closers.push(() => server.close());
  const backend = createServer((asked, answer) => {
    heard.push(asked.headers);
    answer.end("inside");
  });
  await new Promise<void>((resolve) => backend.listen(0, "127.0.0.1", resolve));
  closers.push(() => backend.close());
  const target = `http://127.0.0.1:${(backend.address() as AddressInfo).port}`;
  const endpoints = { "tcp:443": { target, funnel: true, door: "friends" } };
  const doors = { friends: { password: "env:PASSWORD", links: true } };
  const services = parseServices(JSON.stringify({ version: "0.0.1", doors, node: { endpoints } }), "services");
  gateway = await Gateway.open({
    controlUrl: server.url,
    authKey: (await server.coordinator.createAuthKey({ tags: ["tag:web"] }, "test")).key,
    hostname: "web",
    store: memoryStore(),
    localAddresses: () => ["127.0.0.1"],
    allowsLoopbackVisitors: true,
    doors: await openDoors(services.doors, { PASSWORD: "correct horse" }),
    rulesOf: (place) => mountRules(services, place),
  });
  closers.push(() => gateway.close());
  await gateway.node.ready();
  gateway.declare(nodeServeConfig(services, gateway.name), (place) => mountRules(services, place));
  await vi.waitFor(() => expect(server.relay!.names.find(NAME, 443)?.peerApi).toBeDefined(), WAIT);
}, 120_000);

afterAll(async () => {
  for (const close of closers.reverse()) await close();
});

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** A visitor of the public port. */
function visit(path: string, form?: Record<string, string>, headers: Record<string, string> = {}): Promise<Answer> {
  const body = form === undefined ? undefined : new URLSearchParams(form).toString();
  const own = form === undefined ? {} : { origin: ORIGIN, "content-type": "application/x-www-form-urlencoded" };
  return new Promise((resolve, reject) => {
    const asked = request({
      host: "127.0.0.1",
      port: server.relay!.ports[0]!,
      servername: NAME,
      rejectUnauthorized: false,
      agent: false,
      method: form === undefined ? "GET" : "POST",
      path,
      headers: { host: NAME, ...own, ...headers },
    });
    asked.once("error", reject);
    asked.once("response", (response) => {
      text(response).then(
        (all) => resolve({ status: response.statusCode!, headers: response.headers, body: all }),
        reject,
      );
    });
    asked.end(body);
  });
}

const cookieOf = ({ headers }: Answer): string => headers["set-cookie"]![0]!.split(";")[0]!;
const enter = () => visit("/.sallyport/door/friends/enter", { way: "password", secret: "correct horse", to: "/in" });

test("ID-12 through the relay a stranger meets the door, and a guest comes in as a guest", {
  timeout: 60_000,
}, async () => {
  heard = [];
  expect((await visit("/in")).status).toBe(401);
  expect((await visit("/in", undefined, { cookie: `__Host-sallyport-friends=${"x".repeat(43)}` })).status).toBe(401);
  expect(heard).toEqual([]);
  const entered = await enter();
  expect([entered.status, entered.headers.location]).toEqual([303, "/in"]);
  const cookie = cookieOf(entered);
  expect((await visit("/in", undefined, { cookie, "tailscale-user-login": "root" })).body).toBe("inside");
  expect(readIdentity(heard[0]!)).toEqual({
    caller: { kind: "guest", issuer: "urn:sallyport:door:friends", subject: "password", address: "127.0.0.1" },
    capabilities: {},
    isFunnel: true,
  });
  expect(Object.keys(heard[0]!).filter((name) => /^tailscale-(?!funnel-request)|^cookie$/.test(name))).toEqual([]);
});

test("an invited guest is one, until the operator says otherwise", { timeout: 60_000 }, async () => {
  heard = [];
  const admin = new DoorAdmin(gateway.gatekeeper, (door) => gateway.placesBehind(door));
  expect(admin.document().doors).toEqual([
    { name: "friends", stops: "public", ways: ["password", "links"], at: [`${ORIGIN}/`] },
  ]);
  const { url, id } = await admin.invite({ door: "friends", name: "Carol", lifeMs: 60_000, isOnce: false });
  const { pathname } = new URL(url);
  expect((await visit(pathname)).body).toContain("Welcome, Carol");
  const cookie = cookieOf(await visit(pathname, {}));
  await visit("/", undefined, { cookie });
  expect(heard[0]!["sallyport-guest"]).toContain('"sub":"link:Carol"');
  await admin.revoke(id);
  expect((await visit("/", undefined, { cookie })).status).toBe(401);
});

test("a member of the mesh needs no door", { timeout: 60_000 }, async () => {
  heard = [];
  const user = "alice@example.com";
  await server.coordinator.createUser({ login: user }, "test");
  const { key } = await server.coordinator.createAuthKey({ user }, "test");
  const store = memoryStore();
  const mesh = await MeshNode.open({ controlUrl: server.url, authKey: key, hostname: "laptop", store });
  closers.push(() => mesh.close());
  await mesh.ready();
  const authority = await gateway.certificates.authority();
  const response = await nodeOf(mesh, () => [authority]).fetch(`${ORIGIN}/in`);
  expect(await response.text()).toBe("inside");
  expect(heard[0]!["tailscale-user-login"]).toBe("alice@example.com");
});

test("no command opens what the file has closed", { timeout: 60_000 }, async () => {
  const before = gateway.storedServeConfig!;
  const Handlers = { ...before.Web![`${NAME}:443`]!.Handlers, "/added": { Text: "added" } };
  await gateway.setServeConfig({ ...before, Web: { [`${NAME}:443`]: { Handlers } } });
  for (const path of ["/", "/added"]) expect((await visit(path)).status, path).toBe(401);
  expect((await enter()).status).toBe(303);
});

test("who looks on with the inspector sees guests' requests, and nothing of what they told the door", {
  timeout: 60_000,
}, async () => {
  const address = await gateway.inspection.invite();
  const secret = { way: "password", secret: "correct horse", to: "/" };
  const cookie = cookieOf(await visit("/.sallyport/door/friends/enter", secret));
  await visit("/seen", undefined, { cookie });
  const entered = await fetch(address, { redirect: "manual" });
  const own = { cookie: entered.headers.getSetCookie()[0]!.split(";")[0]! };
  const har = await (await fetch(new URL("/all.har", address), { headers: own })).text();
  expect(har).toContain(`${ORIGIN}/seen`);
  expect(har).not.toMatch(/correct|__Host-sallyport/);
  await gateway.inspection.close();
});
