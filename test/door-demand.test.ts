import { createServer } from "node:http";
import tls from "node:tls";
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import type { ServeConfig } from "../src/wire/serve-config.ts";
import { type DoorMesh, PUBLIC_NAME as NAME, openDoorMesh, PUBLIC_PASSWORD } from "./suites/door-mesh.ts";
import { brings } from "./suites/funnel-mesh.ts";
import { listening } from "./suites/listening.ts";
import { type Typed, typed, typedFunnel } from "./suites/typed-command.ts";

const WAIT = { timeout: 30_000, interval: 10 };
const CUT_MS = 5000;
const SITE = `${NAME}:443`;
const POLICY = "sallyport.dev/door-required";
const TOKEN = "a-token-of-more-than-20-characters";
let mesh: DoorMesh;
let target: string;
const closers: (() => unknown)[] = [];

beforeAll(async () => {
  mesh = await openDoorMesh({ tokens: { ci: "env:TOKEN" } }, { TOKEN });
  closers.push(() => mesh[Symbol.asyncDispose]());
  target = await endlessBackend();
}, 120_000);

afterAll(async () => {
  for (const close of closers.reverse()) await close();
});

beforeEach(async () => {
  await demand(false);
  mesh.gateway.declare({}); // nothing of a file any more
  await door(undefined);
});

/** `/events`, `/big` and WebSockets never end of themselves. */
async function endlessBackend(): Promise<string> {
  const server = createServer((request, response) => {
    if (request.url === "/") return void response.end("hello");
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write("hello");
    const part = Buffer.alloc(64 * 1024);
    const pour = (): void => {
      while (!response.destroyed && response.write(part));
    };
    if (request.url === "/big") response.on("drain", pour).on("close", () => response.destroy());
    if (request.url === "/big") pour();
  });
  server.on("upgrade", (_, socket) => {
    socket.on("error", () => undefined);
    socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello");
  });
  const port = await listening(server);
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${port}`;
}

async function demand(isOn: boolean): Promise<void> {
  const policy = {
    acls: [{ action: "accept", src: ["*"], dst: ["*:*"] }],
    tagOwners: { "tag:web": [] },
    nodeAttrs: [{ target: ["tag:web"], attr: isOn ? ["funnel", POLICY] : ["funnel"] }],
  };
  await mesh.server.setPolicy(JSON.stringify(policy), "test");
  await expect.poll(() => mesh.gateway.demandsDoors, WAIT).toBe(isOn);
}

const door = (name: string | undefined): Promise<void> => mesh.gateway.commandDoors.set(SITE, name);

const config = (AllowFunnel: Record<string, boolean> = { [SITE]: true }): ServeConfig => ({
  TCP: { 443: { HTTPS: true }, 8443: { TCPForward: target.slice("http://".length) } },
  Web: { [SITE]: { Handlers: { "/": { Proxy: target } } } },
  AllowFunnel,
});

const port = (): string => new URL(target).port;

/** Do visitors of the name get as far as the gateway? */
async function isRelayed(wanted: boolean): Promise<void> {
  await expect.poll(() => brings(mesh.server.relay!, NAME), WAIT).toBe(wanted);
}

async function publish(): Promise<void> {
  await mesh.gateway.setServeConfig(config());
  await isRelayed(true);
}

class Visit {
  heard = "";
  endedAt: number | undefined;

  /** A request through the relay. */
  static async of(line: string, fields: readonly string[], rest = ""): Promise<Visit> {
    const visit = new Visit();
    const socket = tls.connect({ host: "127.0.0.1", port: mesh.port, servername: NAME, rejectUnauthorized: false });
    onTestFinished(() => void socket.destroy());
    socket.on("error", () => undefined);
    socket.on("data", (chunk: Buffer) => {
      if (visit.heard.length < 4096) visit.heard += chunk.toString("latin1");
    });
    await new Promise<void>((resolve) => {
      socket.once("secureConnect", resolve);
      socket.once("close", () => {
        visit.endedAt = Date.now();
        resolve();
      });
    });
    socket.write([`${line} HTTP/1.1`, `Host: ${NAME}`, ...fields, "", rest].join("\r\n"));
    return visit;
  }

  get status(): number {
    return Number(this.heard.slice(9, 12));
  }
}

/** 0 where TLS does not come about. */
async function status(path = "/", fields: readonly string[] = []): Promise<number> {
  const visit = await Visit.of(`GET ${path}`, ["Connection: close", ...fields]);
  await expect.poll(() => visit.endedAt, WAIT).toBeDefined();
  return visit.status;
}

/** The field that a guest's browser sends who has said the password. */
async function enter(): Promise<string> {
  const form = new URLSearchParams({ way: "password", secret: PUBLIC_PASSWORD }).toString();
  const type = "Content-Type: application/x-www-form-urlencoded";
  const fields = ["Connection: close", `Origin: https://${NAME}`, type, `Content-Length: ${form.length}`];
  const visit = await Visit.of("POST /.sallyport/door/friends/enter", fields, form);
  await expect.poll(() => visit.endedAt, WAIT).toBeDefined();
  return `Cookie: ${/^set-cookie: ([^;]+)/im.exec(visit.heard)?.[1]}`;
}

const UPGRADE = [
  ...["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"],
  ...["Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==", `Origin: https://${NAME}`],
];

/** Events, a download without end and a WebSocket, of one visitor. */
async function openStreams(fields: readonly string[] = []): Promise<readonly Visit[]> {
  const asked = [
    Visit.of("GET /events", fields),
    Visit.of("GET /big", fields),
    Visit.of("GET /ws", [...UPGRADE, ...fields]),
  ];
  const streams = await Promise.all(asked);
  for (const stream of streams) await expect.poll(() => stream.heard, WAIT).toContain("hello");
  expect(streams.map((stream) => stream.status)).toEqual([200, 200, 101]);
  return streams;
}

async function areCut(streams: readonly Visit[], act: () => unknown): Promise<void> {
  const since = Date.now();
  await act();
  await expect.poll(() => streams.filter(({ endedAt }) => endedAt === undefined), WAIT).toEqual([]);
  for (const { endedAt } of streams) expect(endedAt! - since).toBeLessThan(CUT_MS);
}

describe("what is open when a door changes", { timeout: 120_000 }, () => {
  test("a WebSocket, events and a download went on although a door was put before them", async () => {
    await publish();
    await areCut(await openStreams(), () => door("friends"));
    expect(await status()).toBe(401);
  });

  test("a guest's streams end with the session, another guest's do not", async () => {
    await door("friends");
    await publish();
    const { sessions } = mesh.gateway.gatekeeper;
    const others = new Set(sessions.list().map(({ id }) => id));
    const streams = await openStreams([await enter()]);
    const mine = sessions.list().find(({ id }) => !others.has(id));
    const neighbours = await openStreams([await enter()]);
    await areCut(streams, () => mesh.admin.revoke(mine!.id));
    expect(neighbours.map(({ endedAt }) => endedAt)).toEqual([undefined, undefined, undefined]);
  });

  test("a machine's streams end when its token is another one", async () => {
    await door("friends");
    await publish();
    const { gatekeeper } = mesh.gateway;
    const before = gatekeeper.doors;
    onTestFinished(() => gatekeeper.setDoors(before));
    const streams = await openStreams([`Sallyport-Door-Token: ${TOKEN}`]);
    await areCut(streams, () => gatekeeper.setDoors(before.map((one) => ({ ...one, version: "2", tokens: [] }))));
    expect(await status("/", [`Sallyport-Door-Token: ${TOKEN}`])).toBe(401);
  });
});

describe("the policy demands a door before what is public", { timeout: 120_000 }, () => {
  test("FN-8 what was public without one is so no more, within seconds; with one it goes on", async () => {
    await publish();
    await areCut(await openStreams(), () => demand(true));
    await isRelayed(false);
    expect(await status()).toBe(0);
    const said = `visitors do not get to ${SITE}: the network's policy demands a door`;
    expect((await typedFunnel(mesh.gateway, ["status"])).stderr).toContain(said);
    expect(mesh.gateway.warnings).toContain(
      `${SITE} is not open to the internet: the network's policy demands a door before it`,
    );
    await door("friends");
    await isRelayed(true);
    expect(await status()).toBe(401);
    const streams = await openStreams([await enter()]);
    await areCut(streams, () => door(undefined));
    await isRelayed(false);
    await demand(false);
    await isRelayed(true);
    expect(await status()).toBe(200);
  });

  test.each<[what: string, next: () => ServeConfig, place: string]>([
    ["a name", config, SITE],
    ["raw TCP", () => config({ [`${NAME}:8443`]: true }), `${NAME}:8443`],
    ["a foreground part", () => ({ Foreground: { one: config() } }), SITE],
  ])("no command, a stock one neither, opens %s without a door", async (_, next, place) => {
    await mesh.gateway.setServeConfig({});
    await demand(true);
    await expect(mesh.gateway.setServeConfig(next())).rejects.toMatchObject({
      code: "GATEWAY_DOOR_DEMANDED",
      message: `Cannot make ${place} public: the network's policy demands a door before it (${POLICY}), and there is none`,
    });
    expect(mesh.gateway.storedServeConfig).toEqual({});
  });

  const demanded = "demands a door before what is public, so before web.mesh.example:443: --door NAME, one of";
  test.each<[what: string, words: string[], answer: string | undefined, said: string]>([
    ["that names none", [], undefined, "the network's policy demands a door"],
    ["that wants anybody to come", ["--public"], undefined, demanded],
    ["for TCP", ["--tcp=8443"], undefined, "TCP has none, use --https"],
    ["that is asked for one and is told of another", [], "nobody", "Nothing has changed."],
  ])("a command %s makes nothing public, and says why", async (_, words, answer, said) => {
    await mesh.gateway.setServeConfig({});
    await demand(true);
    const typed = await typedFunnel(mesh.gateway, ["--bg", "--check=false", ...words, port()], { answer });
    expect(typed.stderr).toContain(said);
    expect(mesh.gateway.storedServeConfig).toEqual({});
  });

  test("on a terminal, and by a flag, a door is named; and `--public` does not take it away", async () => {
    await mesh.gateway.setServeConfig({});
    await demand(true);
    const typed = (words: readonly string[], answer?: string): Promise<Typed> =>
      typedFunnel(mesh.gateway, ["--bg", "--check=false", ...words], { answer });
    expect(await typed([port()], "friends")).toMatchObject({
      code: 0,
      stdout: expect.stringContaining("Which one? [friends]"),
    });
    await isRelayed(true);
    expect(await status()).toBe(401);
    expect(await typed(["--public", port()])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("cannot take it away"),
    });
    expect(await status()).toBe(401);
    await typed(["off"]);
    await isRelayed(false);
    expect((await typed(["--door", "friends", port()])).code).toBe(0);
    await isRelayed(true);
    expect(await status()).toBe(401);
  });

  test("visitors got 503, and nothing said why: a command had put a door there that the file declares no more", async () => {
    await mesh.gateway.setServeConfig({});
    await demand(false);
    expect((await typedFunnel(mesh.gateway, ["--bg", "--check=false", "--door", "friends", port()])).code).toBe(0);
    await isRelayed(true);
    const { doors } = mesh.gateway.gatekeeper;
    onTestFinished(() => mesh.gateway.gatekeeper.setDoors(doors));
    mesh.gateway.gatekeeper.setDoors([]);
    expect(await status()).toBe(503);
    const { stdout } = await typedFunnel(mesh.gateway, ["status"]);
    expect(stdout).toContain(`${SITE}/: friends ✗ declared nowhere: visitors get 503`);
    const lack = `strangers get 503 at https://${NAME}/: door "friends" stands there, and the services file does not declare it`;
    expect(mesh.gateway.warnings).toContain(lack);
    expect(mesh.admin.document()).toMatchObject({
      doors: [],
      missing: [{ name: "friends", at: [`https://${NAME}/`] }],
    });
    expect((await typed(mesh.gateway, ["doors"])).stdout).toMatch(
      new RegExp(`^friends +- +declared nowhere: 503 +https://${NAME}/$`, "m"),
    );
  });

  test("a mount without a door is closed beside one that has one; off works whatever is refused", async () => {
    const rulesOf = ({ mount }: { readonly mount: string }) => (mount === "/" ? { door: "friends" } : undefined);
    const Handlers = { ...config().Web![SITE]!.Handlers, "/open": { Text: "open" } };
    mesh.gateway.declare({ ...config(), Web: { [SITE]: { Handlers } } }, { rulesOf });
    await isRelayed(true);
    expect([await status("/"), await status("/open")]).toEqual([401, 200]);
    await demand(true);
    expect([await status("/"), await status("/open")]).toEqual([401, 403]);
    await mesh.gateway.setServeConfig({ ...config({}), Web: { [SITE]: { Handlers } } });
    await isRelayed(false);
  });

  test("a file that makes public what has no door leaves the gateway running, and nothing public", async () => {
    await mesh.gateway.setServeConfig({});
    await demand(true);
    mesh.gateway.declare(config({ [SITE]: true, [`${NAME}:8443`]: true }));
    expect(mesh.gateway.warnings.filter((text) => text.includes("demands"))).toHaveLength(2);
    expect(await status()).toBe(0);
    await isRelayed(false);
  });
});
