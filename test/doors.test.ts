import type { IncomingHttpHeaders } from "node:http";
import { request } from "node:https";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { memoryStore } from "../src/base/store.ts";
import { readIdentity } from "../src/identity/index.ts";
import { nodeOf } from "../src/library.ts";
import { MeshNode } from "../src/mesh/node.ts";
import { type DoorMesh, PUBLIC_NAME as NAME, PUBLIC_ORIGIN as ORIGIN, openDoorMesh } from "./suites/door-mesh.ts";

let mesh: DoorMesh;

beforeAll(async () => {
  mesh = await openDoorMesh();
}, 120_000);

afterAll(() => mesh[Symbol.asyncDispose]());

beforeEach(() => {
  mesh.heard.length = 0;
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
      port: mesh.port,
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
  expect((await visit("/in")).status).toBe(401);
  expect((await visit("/in", undefined, { cookie: `__Host-sallyport-friends=${"x".repeat(43)}` })).status).toBe(401);
  expect(mesh.heard).toEqual([]);
  const entered = await enter();
  expect([entered.status, entered.headers.location]).toEqual([303, "/in"]);
  const cookie = cookieOf(entered);
  expect((await visit("/in", undefined, { cookie, "tailscale-user-login": "root" })).body).toBe("inside");
  expect(readIdentity(mesh.heard[0]!)).toEqual({
    caller: { kind: "guest", issuer: "urn:sallyport:door:friends", subject: "password", address: "127.0.0.1" },
    capabilities: {},
    isFunnel: true,
  });
  expect(Object.keys(mesh.heard[0]!).filter((name) => /^tailscale-(?!funnel-request)|^cookie$/.test(name))).toEqual([]);
});

test("an invited guest is one, until the operator says otherwise", { timeout: 60_000 }, async () => {
  const { admin } = mesh;
  expect(admin.document().doors).toEqual([
    { name: "friends", stops: "public", ways: ["password", "links", "certificates"], at: [`${ORIGIN}/`] },
  ]);
  const { url, id } = await admin.invite({ door: "friends", name: "Carol", lifeMs: 60_000, isOnce: false });
  const { pathname } = new URL(url);
  expect((await visit(pathname)).body).toContain("Welcome, Carol");
  const cookie = cookieOf(await visit(pathname, {}));
  await visit("/", undefined, { cookie });
  expect(mesh.heard[0]!["sallyport-guest"]).toContain('"sub":"link:Carol"');
  await admin.revoke(id);
  expect((await visit("/", undefined, { cookie })).status).toBe(401);
});

test("a member of the mesh needs no door", { timeout: 60_000 }, async () => {
  const { server, gateway } = mesh;
  const user = "alice@example.com";
  await server.coordinator.createUser({ login: user }, "test");
  const { key } = await server.coordinator.createAuthKey({ user }, "test");
  const store = memoryStore();
  const laptop = await MeshNode.open({ controlUrl: server.url, authKey: key, hostname: "laptop", store });
  onTestFinished(() => laptop.close());
  await laptop.ready();
  const authority = await gateway.certificates.authority();
  const response = await nodeOf(laptop, () => [authority]).fetch(`${ORIGIN}/in`);
  expect(await response.text()).toBe("inside");
  expect(mesh.heard[0]!["tailscale-user-login"]).toBe("alice@example.com");
});

test("no command opens what the file has closed", { timeout: 60_000 }, async () => {
  const { gateway } = mesh;
  const before = gateway.storedServeConfig!;
  const Handlers = { ...before.Web![`${NAME}:443`]!.Handlers, "/added": { Text: "added" } };
  await gateway.setServeConfig({ ...before, Web: { [`${NAME}:443`]: { Handlers } } });
  for (const path of ["/", "/added"]) expect((await visit(path)).status, path).toBe(401);
  expect((await enter()).status).toBe(303);
});

test("who looks on with the inspector sees guests' requests, and nothing of what they told the door", {
  timeout: 60_000,
}, async () => {
  const { gateway } = mesh;
  const address = await gateway.inspection.invite();
  const served = { TCP: { "9": { TCPForward: `localhost:${new URL(address).port}` } } };
  expect(() => gateway.check(served)).toThrow(/this gateway listens there itself/);
  const secret = { way: "password", secret: "correct horse", to: "/" };
  const cookie = cookieOf(await visit("/.sallyport/door/friends/enter", secret));
  await visit("/seen", undefined, { cookie });
  const entered = await fetch(address, { redirect: "manual" });
  const own = { cookie: entered.headers.getSetCookie()[0]!.split(";")[0]! };
  const har = await (
    await fetch(new URL(`${entered.headers.get("location")}all.har`, address), { headers: own })
  ).text();
  expect(har).toContain(`${ORIGIN}/seen`);
  expect(har).not.toMatch(/correct|__Host-sallyport/);
  await gateway.inspection.close();
  expect(() => gateway.check(served)).not.toThrow();
});
