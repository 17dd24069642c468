import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { assertionVerifier } from "../identity/index.ts";
import { Netstack } from "../mesh/tcpip/netstack.ts";
import { createTestnet, type Testnet, type TestnetOptions } from "../testnet.ts";
import type { NatKind } from "./nat.ts";

const POLICY = `{
  "tagOwners": { "tag:app": [], "tag:ci": [] },
  "grants": [
    { "src": ["alice@example.com"], "dst": ["tag:app"], "ip": ["tcp:80", "tcp:443"],
      "app": { "example.com/cap/app": [{ "action": ["*"] }], "example.com/cap/other": [{}] } },
    { "src": ["bob@example.com", "tag:ci"], "dst": ["tag:app"], "ip": ["tcp:80"] },
  ],
}`;
/** Each takes less than a second on a machine that is not busy with something else. */
const LOADED_MS = 30_000;
const USERS = [{ login: "alice@example.com", name: "Alice Architect" }, "bob@example.com"];

async function open(options: TestnetOptions = {}): Promise<Testnet> {
  const net = await createTestnet({ users: USERS, policy: POLICY, ...options });
  onTestFinished(() => net.close());
  return net;
}

/** Answers with the headers that it received. */
function mirror(request: IncomingMessage, response: ServerResponse): void {
  request.resume();
  response.end(JSON.stringify(request.headers));
}

async function headersOf(answer: Promise<{ json(): Promise<unknown> }>): Promise<IncomingHttpHeaders> {
  return (await (await answer).json()) as IncomingHttpHeaders;
}

describe("a mesh in memory", { timeout: LOADED_MS }, () => {
  test("a user calls a backend, which sees who it is and what it may do", async () => {
    const net = await open();
    const app = await net.serve(mirror, { acceptAppCaps: ["example.com/cap/app"] });
    const alice = await net.node({ user: "alice@example.com" });
    expect([app.name, app.url, alice.name]).toEqual(["app.tail.test", "http://app.tail.test/", "alice.tail.test"]);
    const headers = await headersOf(alice.fetch(app.url));
    expect(headers).toMatchObject({
      host: "app.tail.test",
      "tailscale-user-login": "alice@example.com",
      "tailscale-user-name": "Alice Architect",
      "sallyport-caller-kind": "user",
      "x-forwarded-for": alice.addresses[0],
    });
    expect(JSON.parse(String(headers["tailscale-app-capabilities"]))).toEqual({
      "example.com/cap/app": [{ action: ["*"] }],
    });
  });

  test("a tagged node has no user, and what a caller claims is removed", async () => {
    const net = await open();
    const app = await net.serve(mirror);
    const ci = await net.node({ tags: ["tag:ci"] });
    const forged = { "Tailscale-User-Login": "alice@example.com", tailscale_user_login: "alice@example.com" };
    const headers = await headersOf(ci.fetch(app.url, { headers: forged }));
    expect(headers["sallyport-caller-kind"]).toBe("tagged");
    expect(Object.keys(headers).filter((name) => /user.login/.test(name))).toEqual([]);
  });

  test("the signed assertion says the same, and says it for this app only", async () => {
    const net = await open();
    const [app, other] = [await net.serve(mirror), await net.serve(mirror, { hostname: "other" })];
    const alice = await net.node({ user: "alice@example.com" });
    const headers = await headersOf(alice.fetch(app.url));
    const [audience, issuer] = [`http://${app.name}`, `https://${app.name}`];
    const verify = assertionVerifier({ jwks: app.jwks, issuer, audience });
    expect(await verify(headers)).toMatchObject({ kind: "user", subject: "alice@example.com", node: alice.name });
    const wrong = assertionVerifier({ jwks: other.jwks, issuer, audience });
    await expect(wrong(headers)).rejects.toMatchObject({ code: "IDENTITY_ASSERTION" });
  });

  test("HTTPS with a certificate that the nodes trust", async () => {
    const net = await open();
    const app = await net.serve(mirror, { https: true });
    const alice = await net.node({ user: "alice@example.com" });
    const headers = await headersOf(alice.fetch(`https://${app.name}/`));
    expect(headers).toMatchObject({ "tailscale-user-login": "alice@example.com", "x-forwarded-proto": "https" });
  });

  test("two nodes: listen, dial, whois and ping", async () => {
    const net = await open({ policy: "" });
    const alice = await net.node({ user: "alice@example.com", hostname: "laptop" });
    const bob = await net.node({ user: "bob@example.com" });
    const callers: unknown[] = [];
    alice.listen(7, (stream) => {
      callers.push(alice.whois(stream).caller);
      stream.pipe(stream);
    });
    const stream = await bob.dial({ address: "laptop", port: 7 });
    stream.end("hello");
    expect(await net.until(stream.toArray())).toEqual([Buffer.from("hello")]);
    expect(callers).toMatchObject([{ kind: "user", login: "bob@example.com", nodeName: "bob.tail.test" }]);
    expect(await bob.ping("laptop")).toEqual({ path: `${alice.host.address}:41641`, latencyMs: expect.closeTo(20) });
    expect(bob.status()).toMatchObject({ state: "running", peers: [{ isDirect: true }] });
  });

  test("ports that are not served, and what the policy does not grant, are refused", async () => {
    const net = await open();
    const app = await net.serve(mirror);
    const alice = await net.node({ user: "alice@example.com" });
    await expect(alice.dial({ address: app.name, port: 443 })).rejects.toMatchObject({ code: "TCPIP_REFUSED" });
    await net.setPolicy({ grants: [] });
    const before = net.clock.now();
    await expect(alice.fetch(app.url)).rejects.toThrow();
    expect(net.clock.now() - before).toBeLessThan(60_000);
  });

  test("a policy that names nobody is refused with line and column, and changes nothing", async () => {
    const net = await open();
    const wrong = '{"grants": [{"src": ["eve@example.com"], "dst": ["*"], "ip": ["*"]}]}';
    await expect(net.setPolicy(wrong)).rejects.toMatchObject({ code: expect.stringMatching(/^POLICY_/) });
    expect(net.coordinator.policySource()).toBe(POLICY);
  });
});

describe("time and trouble", { timeout: LOADED_MS }, () => {
  test("a removed user is cut within 5 s, also in the middle of an answer", async () => {
    const net = await open();
    let closedAt = Infinity;
    const app = await net.serve((_request, response) => {
      response.write("first");
      response.on("close", () => {
        closedAt = net.clock.now();
      });
    });
    const bob = await net.node({ user: "bob@example.com" });
    const reader = (await bob.fetch(app.url)).body!.getReader();
    expect(Buffer.from((await reader.read()).value!).toString()).toBe("first");
    const removedAt = net.clock.now();
    await net.removeUser("bob@example.com");
    await net.advance(5000);
    expect(closedAt - removedAt).toBeLessThan(5000);
    await expect(bob.fetch(app.url)).rejects.toThrow();
  });

  test.each<[string, (net: Testnet) => Promise<unknown>]>([
    ["its user is removed", (net) => net.removeUser("bob@example.com")],
    [
      "the policy takes the port away",
      (net) => net.setPolicy({ tagOwners: { "tag:app": [], "tag:ci": [] }, grants: [] }),
    ],
  ])("WS-8 a WebSocket is cut on both sides within 5 s when %s", async (_, revoke) => {
    const net = await open();
    const backend = createServer();
    const closedAt: Record<string, number> = {};
    const noteEnd = (name: string, stream: Duplex): void => {
      stream
        .on("error", () => undefined)
        .once("close", () => {
          closedAt[name] = net.clock.now();
        });
    };
    backend.on("upgrade", (_request, stream) => {
      noteEnd("backend", stream);
      stream.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
      stream.pipe(stream);
    });
    const app = await net.serve(backend);
    const bob = await net.node({ user: "bob@example.com" });
    const stream = await bob.dial({ address: app.name, port: 80 });
    noteEnd("caller", stream);
    let heard = "";
    stream.on("data", (part) => (heard += String(part)));
    const untilHeard = (words: RegExp): Promise<void> =>
      net.until(new Promise((resolve) => stream.on("data", () => words.test(heard) && resolve())));
    const fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    stream.write(`GET / HTTP/1.1\r\nHost: ${app.name}\r\n${fields}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`);
    await untilHeard(/^HTTP\/1.1 101 .*\r\n\r\n$/s);
    stream.write("ping");
    await untilHeard(/\r\n\r\nping$/);
    const revokedAt = net.clock.now();
    await revoke(net);
    await net.advance(5000);
    for (const end of ["backend", "caller"]) expect(closedAt[end]! - revokedAt, end).toBeLessThan(5000);
  });

  test("the server restarts: nobody notices, nobody gets a second identity", async () => {
    const net = await open();
    const app = await net.serve(mirror);
    const alice = await net.node({ user: "alice@example.com" });
    const identities = () =>
      net.coordinator
        .nodes()
        .map(({ id, nodeKey }) => `${id} ${nodeKey}`)
        .toSorted();
    const before = identities();
    await net.stopServer();
    expect((await alice.fetch(app.url)).status).toBe(200);
    await net.startServer();
    await net.advance(30_000);
    expect(identities()).toEqual(before);
    expect(net.coordinator.nodes().every(({ online }) => online)).toBe(true);
    const bob = await net.node({ user: "bob@example.com" });
    expect(await headersOf(bob.fetch(app.url))).toMatchObject({ "tailscale-user-login": "bob@example.com" });
  });

  test("an hour without the server", async () => {
    const net = await open();
    const app = await net.serve(mirror);
    const alice = await net.node({ user: "alice@example.com" });
    await alice.fetch(app.url);
    await net.stopServer();
    await net.advance(3_600_000);
    expect(await headersOf(alice.fetch(app.url))).toMatchObject({ "tailscale-user-login": "alice@example.com" });
    expect(alice.status().state).toBe("backing-off");
    await net.startServer();
    await net.advance(120_000);
    expect(alice.status().state).toBe("running");
  });

  test("1 % loss and 80 ms round trip: every answer whole, every caller right", async () => {
    const net = await open();
    const body = randomBytes(512 * 1024);
    const app = await net.serve(
      (request, response) => {
        if (request.url === "/large") response.end(body);
        else mirror(request, response);
      },
      { host: net.internet.host({ delayMs: 20, loss: 0.005 }) },
    );
    const people = ["alice@example.com", "bob@example.com"];
    const host = { delayMs: 20, jitterMs: 2, loss: 0.005 };
    const nodes = await Promise.all(people.map((user) => net.node({ user, host })));
    for (let round = 0; round < 10; round++) {
      const answers = await Promise.all(nodes.map((node) => headersOf(node.fetch(app.url))));
      expect(answers.map((headers) => headers["tailscale-user-login"])).toEqual(people);
    }
    const answer = await nodes[0]!.fetch(`${app.url}large`);
    const got = Buffer.from(await net.until(answer.arrayBuffer()));
    const hash = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
    expect(hash(got)).toBe(hash(body));
    expect(net.internet.counters.lost).toBeGreaterThan(5);
  });

  test("a transfer from a relay to the direct way and back: each end hears that the way is another", async () => {
    const changed = vi.spyOn(Netstack.prototype, "changePath");
    onTestFinished(() => changed.mockRestore());
    const net = await open({ policy: "" });
    const alice = await net.node({ user: "alice@example.com", hostname: "laptop" });
    const bob = await net.node({ user: "bob@example.com" });
    const deaf = (stream: Duplex): Duplex => stream.on("error", () => undefined);
    alice.listen(7, (stream) => void deaf(stream).pipe(stream));
    const stream = deaf(await bob.dial({ address: "laptop", port: 7 }));
    const ways = async (isDirect: boolean): Promise<number> => {
      for (let round = 0; round < 60 && bob.status().peers[0]!.isDirect !== isDirect; round++) {
        stream.write("x");
        await net.until(once(stream, "data"));
        await net.advance(1000);
      }
      expect(bob.status().peers[0]!.isDirect).toBe(isDirect);
      stream.write("x");
      await net.until(once(stream, "data"));
      return changed.mock.calls.length;
    };
    const before = await ways(true);
    for (const { host } of [alice, bob]) host.link.isUdpBlocked = true;
    expect(await ways(false)).toBeGreaterThanOrEqual(before + 2);
  });

  test("time does not run away from a backend that is at work", async () => {
    const net = await open();
    const asked = Promise.withResolvers<ServerResponse>();
    const app = await net.serve((_request, response) => asked.resolve(response));
    const alice = await net.node({ user: "alice@example.com" });
    const answer = alice.fetch(app.url);
    const response = await asked.promise;
    const before = net.clock.now();
    for (let turn = 0; turn < 1000; turn++) await new Promise((done) => void setImmediate(done));
    expect(net.clock.now() - before).toBeLessThan(5000);
    response.end("done");
    expect(await (await answer).text()).toBe("done");
  });

  test("the same seed gives the same keys and addresses, another seed others", async () => {
    const members = async (seed: number) => {
      const net = await open({ seed });
      await net.serve(mirror);
      await Promise.all([net.node({ tags: ["tag:ci"] }), net.node({ tags: ["tag:ci"] })]);
      return net.coordinator
        .nodes()
        .map(({ nodeKey, ipv4 }) => `${nodeKey} ${ipv4}`)
        .toSorted();
    };
    const first = await members(1);
    expect(new Set(first).size).toBe(3);
    expect(await members(1)).toEqual(first);
    expect(await members(2)).not.toEqual(first);
  });

  test("a wait for what never comes ends", async () => {
    const net = await open();
    await expect(net.until(new Promise(() => {}))).rejects.toMatchObject({ code: "TESTNET_STUCK" });
    const waiting = net.until(new Promise(() => {}));
    await net.close();
    await expect(waiting).rejects.toMatchObject({ code: "TESTNET_CLOSED" });
  });
});

const NATS: readonly (readonly [NatKind | "none", NatKind | "none", "direct" | "relayed"])[] = [
  ["none", "symmetric", "direct"],
  ["full cone", "symmetric", "direct"],
  ["restricted", "symmetric", "direct"],
  ["port-restricted", "port-restricted", "direct"],
  ["port-restricted", "symmetric", "relayed"],
  ["symmetric", "symmetric", "relayed"],
];

test.each(NATS)("behind NATs: %s and %s are %s", { timeout: LOADED_MS }, async (near, far, wanted) => {
  const net = await open();
  const app = await net.serve(mirror, { host: net.internet.host({ nat: far }) });
  const alice = await net.node({ user: "alice@example.com", host: { nat: near } });
  for (let i = 0; i < 10; i++) {
    expect((await alice.fetch(app.url)).status).toBe(200);
    await net.advance(1000);
  }
  expect(alice.status().peers[0]).toMatchObject({ isDirect: wanted === "direct" });
});

test("a link that is cut and mended: the connection goes on", async () => {
  const net = await open();
  const app = await net.serve(mirror);
  const alice = await net.node({ user: "alice@example.com" });
  await alice.fetch(app.url);
  alice.host.link.isCut = true;
  const answer = headersOf(alice.fetch(app.url));
  await net.advance(10_000);
  alice.host.link.isCut = false;
  expect(await answer).toMatchObject({ "tailscale-user-login": "alice@example.com" });
});
