import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import http2 from "node:http2";
import tls, { type TLSSocket } from "node:tls";
import { afterEach, expect, test } from "vitest";
import { ask, type DoorScene, doorScene, ORIGIN, VISITOR } from "../../../test/suites/door-scene.ts";
import { certificateOf, closeScenes, GATE, onClose, read } from "../../../test/suites/proxy-scene.ts";
import { certificateDigest, createClientCertificate, type PinnedCertificate } from "../../certs/self-signed.ts";
import type { Caller } from "../../identity/caller.ts";

afterEach(closeScenes);

const HOUR = 3_600_000;
const made = (name: string): Promise<PinnedCertificate> => createClientCertificate(name, Date.now() + HOUR, Date.now());
const CAROL = made("Carol");

async function withCarol(wish: Parameters<typeof doorScene>[0] = {}): Promise<{ scene: DoorScene; pass: string }> {
  const scene = await doorScene(wish);
  const { certificate } = await CAROL;
  const carol = { door: "friends", name: "Carol", lifeMs: HOUR, isOnce: false };
  return { scene, pass: (await scene.keeper.passes.add(carol, "certificate", certificateDigest(certificate))).id };
}

interface Showing {
  readonly shown?: PinnedCertificate;
  readonly session?: Buffer;
  readonly maxVersion?: "TLSv1.2";
  readonly protocols?: string[];
}

/** What a client may take a session up again with. */
const tickets: WeakMap<TLSSocket, Buffer> = new WeakMap();

async function secured(scene: DoorScene, { shown, session, maxVersion, protocols }: Showing = {}): Promise<TLSSocket> {
  const { cert } = await certificateOf(GATE);
  const socket = tls.connect({
    socket: scene.connect(443),
    servername: GATE,
    ca: cert,
    ...(shown === undefined ? {} : { key: shown.key, cert: shown.certificate }),
    ...(session === undefined ? {} : { session }),
    ...(maxVersion === undefined ? {} : { maxVersion }),
    ...(protocols === undefined ? {} : { ALPNProtocols: protocols }),
  });
  socket.on("error", () => undefined);
  socket.on("session", (ticket: Buffer) => tickets.set(socket, ticket));
  onClose(() => socket.destroy());
  await once(socket, "secureConnect");
  return socket;
}

test("ID-12 who shows a certificate that the gateway has made, and its key, is that guest", async () => {
  const { scene } = await withCarol();
  const answer = await ask(scene, "/", { over: await secured(scene, { shown: await CAROL }) });
  expect(answer.status).toBe(200);
  const [request] = scene.backend.requests;
  expect(request).toContain('Sallyport-Guest: {"iss":"urn:sallyport:door:friends","sub":"certificate:Carol"}');
  expect(request).not.toContain("Tailscale-User");
});

test.each(["none", "another of the same name", "one for another door", "one that ran out"])(
  "%s is a stranger's",
  async (which) => {
    const { scene } = await withCarol();
    const other = which === "none" ? undefined : await made("Carol");
    if (other !== undefined && which !== "another of the same name") {
      const digest = certificateDigest(other.certificate);
      const door = which === "one for another door" ? "staff" : "friends";
      const lifeMs = which === "one that ran out" ? 1000 : HOUR;
      await scene.keeper.passes.add({ door, name: "Carol", lifeMs, isOnce: false }, "certificate", digest);
      if (lifeMs === 1000) await expect.poll(() => scene.keeper.passes.list().length, { timeout: 20_000 }).toBe(1);
    }
    const over = await secured(scene, other === undefined ? {} : { shown: other });
    expect((await ask(scene, "/", { over })).status).toBe(401);
    expect(scene.backend.requests).toEqual([]);
  },
);

const MEMBER: Caller = { kind: "tagged", nodeKey: "aa", nodeName: "n", tags: ["tag:x"], address: "100.64.0.9" };

test.each([
  ["without it", "TLSv1.3"],
  ["without it", "TLSv1.2"],
  ["with it", "TLSv1.3"],
  ["through the mesh", "TLSv1.3"],
  ["through the mesh", "TLSv1.2"],
])(
  "whoever was here before %s was not asked for the certificate again (%s): 401 for twelve hours",
  async (how, version) => {
    const { scene } = await withCarol();
    const shown = await CAROL;
    const tlsOf = version === "TLSv1.2" ? ({ maxVersion: "TLSv1.2" } as const) : {};
    const isMember = how === "through the mesh";
    scene.caller = isMember ? MEMBER : VISITOR;
    const before = isMember ? { ...scene, connect: scene.connectMember } : scene;
    const first = await secured(before, how === "with it" ? { shown, ...tlsOf } : tlsOf);
    expect((await ask(before, "/", { over: first })).status).toBe(how === "without it" ? 401 : 200);
    if (isMember) await expect.poll(() => tickets.get(first), { timeout: 20_000 }).toBeDefined();
    const session = tickets.get(first);
    scene.caller = VISITOR;
    const second = await secured(scene, { shown, ...(session === undefined ? {} : { session }), ...tlsOf });
    expect(second.isSessionReused()).toBe(false);
    expect((await ask(scene, "/", { over: second })).status).toBe(200);
    expect(scene.keeper.sessions.list()).toHaveLength(1);
  },
);

test("whoever is only routed here by a node of the mesh was not asked for the certificate that would let him in", async () => {
  const { scene } = await withCarol();
  scene.caller = { kind: "routed", via: "aa", address: "10.0.0.7" };
  const routed = { ...scene, connect: scene.connectMember };
  const answer = await ask(routed, "/", { over: await secured(routed, { shown: await CAROL }) });
  expect(answer.status).toBe(200);
  expect(scene.backend.requests[0]).toContain('"sub":"certificate:Carol"');
});

test.each(["#1", '"q"', "a\\b", "a,b=c+d", "CN=root,O=x", "日本語"])(
  "a certificate for the guest %s was for another name, or for none",
  async (name) => {
    const { certificate } = await made(name);
    const own = new X509Certificate(certificate).toLegacyObject().subject as unknown as { readonly CN: string };
    expect(own.CN).toBe(name);
  },
);

test("V10 taking the pass back ends what is open with it, over HTTP/2, and the next request", async () => {
  const { scene, pass } = await withCarol({ answer: "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin" });
  const socket = await secured(scene, { shown: await CAROL, protocols: ["h2"] });
  const session = http2.connect(ORIGIN, { createConnection: () => socket });
  session.on("error", () => undefined);
  onClose(() => session.destroy());
  const stream = session.request({ ":path": "/" });
  stream.on("error", () => undefined);
  await once(stream, "data");
  const closed = new Promise<void>((resolve) => stream.once("close", () => resolve()));
  expect(await scene.keeper.removePass(pass)).toBe(true);
  await closed;
  const next = session.request({ ":path": "/" });
  const [headers] = (await once(next, "response")) as [http2.IncomingHttpHeaders];
  expect(headers[":status" as keyof typeof headers]).toBe(401);
});

test.each([
  ["events", ""],
  ["WS-8 a WebSocket", `Connection: Upgrade\r\nUpgrade: websocket\r\nOrigin: ${ORIGIN}\r\n`],
])("V10 %s over HTTP/1.1 end with the pass; a new one is not the guest's", async (_, fields) => {
  const { scene, pass } = await withCarol({
    answer: "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nbegin",
  });
  const socket = await secured(scene, { shown: await CAROL });
  const websocket = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n";
  const begun = read(socket, (all) => /begin|101 Switching/.test(all));
  socket.write(`GET / HTTP/1.1\r\nHost: ${GATE}\r\n${fields}${fields === "" ? "" : websocket}\r\n`);
  await begun;
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  socket.resume();
  expect(await scene.keeper.removePass(pass)).toBe(true);
  await closed;
  const over = await secured(scene, { shown: await CAROL });
  expect((await ask(scene, "/", { over })).status).toBe(401);
});

test("ID-19 another site's page cannot use it", async () => {
  const { scene } = await withCarol();
  const over = await secured(scene, { shown: await CAROL });
  const headers = { origin: "https://evil.example" };
  expect((await ask(scene, "/", { method: "POST", headers, over })).status).toBe(403);
});

test("only where a door wants one is a client asked for a certificate, and members are not", async () => {
  const isAsked = async (scene: DoorScene): Promise<boolean> => {
    await ask(scene, "/", { over: await secured(scene, { shown: await CAROL }) });
    return scene.keeper.sessions.list().length > 0;
  };
  const { scene: without } = await withCarol({ door: { hasCertificates: false } });
  expect(await isAsked(without)).toBe(false);
  const { scene: member } = await withCarol();
  expect(await isAsked(member)).toBe(true);
  const { scene: other } = await withCarol();
  other.caller = MEMBER;
  const own = { ...other, connect: other.connectMember };
  await ask(other, "/", { over: await secured(own, { shown: await CAROL }) });
  expect(other.keeper.sessions.list(), "whoever comes through the mesh").toEqual([]);
});
