import { afterEach, describe, expect, test } from "vitest";
import { FakeClock } from "../../base/clock.ts";
import { silentLog } from "../../base/log.ts";
import { seededRandom } from "../../base/random.ts";
import { formatKey, generatePrivateKey, publicKeyOf } from "../../crypto/keys.ts";
import type { NetworkMap } from "../../wire/network-map.ts";
import type { Node, RegisterRequest } from "../../wire/tailcfg.ts";
import { Backoff } from "./backoff.ts";
import { ControlClient, type ControlClientOptions, type ControlState } from "./control-client.ts";
import { retryAfterMs } from "./requests.ts";
import { ScriptedServer } from "./scripted-server.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const HOUR = 3_600_000;

class Side {
  readonly clock: FakeClock = new FakeClock();
  readonly server: ScriptedServer = new ScriptedServer();
  readonly maps: NetworkMap[] = [];
  readonly states: ControlState[] = [];
  readonly urls: string[] = [];
  readonly client: ControlClient;
  nodeKey: { private: Uint8Array; old?: Uint8Array };

  constructor(overrides: Partial<ControlClientOptions> = {}) {
    const random = seededRandom(99);
    this.nodeKey = { private: generatePrivateKey(random) };
    this.client = new ControlClient({
      serverUrl: "http://control.test",
      machineKey: generatePrivateKey(random),
      clock: this.clock,
      random,
      log: silentLog,
      connect: this.server.connect,
      hostinfo: () => ({ Hostname: "gate", BackendLogID: "00" }),
      nodeKey: () => this.nodeKey,
      adoptNodeKey: async (key) => {
        this.nodeKey = { private: key, old: this.nodeKey.private };
      },
      discoKey: publicKeyOf(generatePrivateKey(random)),
      endpoints: () => [],
      onAuthUrl: (url) => this.urls.push(url),
      onMap: (map) => this.maps.push(map),
      onState: (state) => this.states.push(state),
      ...overrides,
    });
    closers.push(
      () => this.server.cut(),
      () => this.client.close(),
    );
  }

  get kind(): ControlState["kind"] {
    return this.client.state.kind;
  }

  get faultCode(): string | undefined {
    const { state } = this.client;
    return state.kind === "backing-off" ? state.fault.code : undefined;
  }

  get keyText(): string {
    return formatKey("nodekey", publicKeyOf(this.nodeKey.private));
  }

  self(more: Partial<Node> = {}): Node {
    return {
      ID: 1,
      StableID: "n1",
      Name: "gate.tail.test.",
      User: 1,
      Key: this.keyText,
      Addresses: ["100.64.0.1/32"],
      ...more,
    };
  }

  /** A time of the client's clock, as servers write it. */
  at(ms: number): string {
    return new Date(this.clock.wall() + ms).toISOString();
  }

  /** Joined, with a map. */
  async join(more: Partial<Node> = {}): Promise<void> {
    this.client.start();
    await until(() => this.server.polls.length === 1);
    this.server.send({ Node: this.self(more), Peers: [{ ...this.self(), ID: 2, Key: `nodekey:${"b".repeat(64)}` }] });
    await until(() => this.maps.length === 1);
  }

  /** Lets time pass, with all that follows from each alarm. */
  async pass(ms: number): Promise<void> {
    const end = this.clock.now() + ms;
    while (this.clock.next <= end) {
      this.clock.advance(this.clock.next - this.clock.now());
      await settle();
    }
    this.clock.advance(end - this.clock.now());
    await settle();
  }

  /** Lets time pass until something is so; within ten seconds. */
  async passUntil(isSo: () => boolean): Promise<void> {
    for (let i = 0; i < 100 && !isSo(); i++) await this.pass(100);
    expect(isSo()).toBe(true);
  }

  /** The same as `pass` with a server that says keep-alive each minute. */
  async stay(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 60_000) {
      await this.pass(Math.min(left, 60_000));
      this.server.send({ KeepAlive: true });
      await settle();
    }
  }
}

/** Streams move by turns of the event loop, not by time. */
async function settle(): Promise<void> {
  for (let i = 0; i < 12; i++) await new Promise((resolve) => setImmediate(resolve));
}

async function until(isSo: () => boolean): Promise<void> {
  for (let turns = 0; turns < 5000 && !isSo(); turns++) await new Promise((resolve) => setImmediate(resolve));
  expect(isSo()).toBe(true);
}

describe("the map poll", () => {
  test("CC-3 with no frame for 120 s is dead: it begins anew on a new connection, and the map stays", async () => {
    const side = new Side();
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
    const side = new Side();
    await side.join();
    await side.stay(10 * 60_000);
    expect([side.server.polls.length, side.kind, side.maps.length]).toEqual([1, "running", 1]);
  });

  test("CC-8 a day without the server: the map stays, dials back off to twice a minute, and on its return all is well", async () => {
    const side = new Side();
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
    const side = new Side();
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
    const side = new Side();
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
    const side = new Side();
    side.client.start();
    await until(() => side.server.polls.length === 1);
    side.server.send({ Node: side.self({ KeyExpiry: side.at(expiry) }), ControlTime: side.at(skew) });
    await until(() => side.maps.length === 1);
    expect(side.kind).toBe(wanted);
    expect(side.client.wall() - side.clock.wall()).toBe(Math.abs(skew) > 60_000 ? skew : 0);
  });

  test("without an auth key waits for a person, who gets a URL; the old key stays in force until the server took the new one", async () => {
    const side = new Side();
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
    const side = new Side({ authKey: "key-1" });
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

  test("a key that the server cut short is not renewed by itself: that was somebody's decision", async () => {
    const side = new Side({ authKey: "key-1" });
    await side.join({ KeyExpiry: side.at(100 * HOUR) });
    side.server.send({ Node: side.self({ KeyExpiry: side.at(-1000) }) });
    await until(() => side.kind === "expired");
    await side.stay(HOUR);
    expect([side.kind, side.server.registers.length]).toEqual(["expired", 1]);
  });
});

describe("a node that was deleted", () => {
  test("learns it within 30 s although the server keeps its stream alive, and does not join again by itself", async () => {
    const side = new Side({ authKey: "key-1" });
    await side.join();
    await until(() => side.server.updates.length > 0);
    side.server.mapStatus = 404; // as Headscale: the stream of before stays open
    await side.pass(40_000);
    expect([side.kind, side.server.registers.length]).toEqual(["removed", 1]);
    await side.stay(HOUR);
    expect([side.kind, side.server.registers.length]).toEqual(["removed", 1]);
  });

  test("CC-4 learns it from its own removal", async () => {
    const side = new Side();
    await side.join();
    side.server.send({ PeersRemoved: [1] });
    await until(() => side.kind === "removed");
    expect(side.maps.length).toBe(1);
  });

  test("one 404 of a server that has only begun means nothing", async () => {
    const side = new Side();
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

describe("what the server asks of a node", () => {
  const payload = (text: string) => Buffer.from(text).toString("base64");
  const echo = payload("POST /echo HTTP/1.1\r\nHost: c2n\r\nContent-Length: 2\r\n\r\nhi");

  test("CC-10 of 50 foreign URLs none is asked, whatever the kind of ping", async () => {
    const side = new Side();
    await side.join();
    const hosts = [
      "169.254.169.254",
      "127.0.0.1",
      "[::1]",
      "10.0.0.1",
      "100.64.0.2",
      "192.168.1.1",
      "localhost",
      "evil.test",
    ];
    const urls = hosts.flatMap((host) => [
      `http://${host}/`,
      `http://${host}:80/latest/meta-data`,
      `https://${host}/x`,
      `http://control.test@${host}/`,
      `http://${host}/#control.test`,
      `//${host}/x`,
    ]);
    urls.push("file:///etc/passwd", "ftp://control.test/");
    expect(urls.length).toBe(50);
    for (const [i, URL] of urls.entries()) {
      const kinds = [{}, { URLIsNoise: true }, { URLIsNoise: true, Types: "c2n", Payload: echo }] as const;
      side.server.send({ PingRequest: { URL, ...kinds[i % 3] } });
      await settle();
    }
    expect([side.server.others, side.server.publicRequests, side.server.dials]).toEqual([[], [], 2]);
  });

  test("a plain ping is a HEAD: in the open, or in the channel if that is wanted", async () => {
    const side = new Side();
    await side.join();
    side.server.send({ PingRequest: { URL: "http://control.test/machine/ping-response?id=7" } });
    await until(() => side.server.publicRequests.length === 1);
    expect(side.server.publicRequests).toEqual(["HEAD /machine/ping-response?id=7"]);
    side.server.send({ PingRequest: { URL: "http://control.test/machine/ping/8", URLIsNoise: true } });
    await until(() => side.server.others.length === 1);
    expect(side.server.others[0]).toMatchObject({ method: "HEAD", path: "/machine/ping/8" });
  });

  test("the same URL is answered once", async () => {
    const side = new Side();
    await side.join();
    for (let i = 0; i < 3; i++) side.server.send({ PingRequest: { URL: "/machine/ping/1", URLIsNoise: true } });
    await settle();
    expect(side.server.others.length).toBe(1);
  });

  test.each([
    ["the echo", echo, "HTTP/1.1 200 OK", "hi"],
    ["what our handler knows", payload("GET /known HTTP/1.1\r\nHost: c2n\r\n\r\n"), "HTTP/1.1 204 No Content", ""],
    [
      "what it does not know",
      payload("GET /debug/pprof/heap HTTP/1.1\r\n\r\n"),
      "HTTP/1.1 400 Bad Request",
      "unknown c2n path\n",
    ],
    [
      "a handler that fails",
      payload("GET /fails HTTP/1.1\r\n\r\n"),
      "HTTP/1.1 500 Internal Server Error",
      "internal error\n",
    ],
    ["nonsense", payload("nonsense"), "HTTP/1.1 400 Bad Request", "unreadable request\n"],
  ])("CC-6 c2n: %s", async (_, Payload, status, body) => {
    const side = new Side({
      onC2n: async ({ path }) => {
        if (path === "/fails") throw new Error("secret detail");
        return path === "/known"
          ? { status: 204, headers: {}, body: "" }
          : { status: 400, headers: {}, body: "unknown c2n path\n" };
      },
    });
    await side.join();
    side.server.send({ PingRequest: { URL: "/machine/c2n/1", URLIsNoise: true, Types: "c2n", Payload } });
    await until(() => side.server.others.length === 1);
    const answer = side.server.others[0]!;
    expect([answer.method, answer.path]).toEqual(["POST", "/machine/c2n/1"]);
    expect(answer.body.startsWith(`${status}\r\n`)).toBe(true);
    expect(answer.body.endsWith(`\r\n\r\n${body}`)).toBe(true);
  });

  test("pings of a peer are made one kind after the other, and told to the server in the channel", async () => {
    const wanted: unknown[] = [];
    const side = new Side({
      onPing: async ({ ip, type }) => {
        wanted.push([ip, type]);
        return { Type: type, IP: ip, NodeIP: ip, NodeName: "peer", LatencySeconds: 0.002 };
      },
    });
    await side.join();
    side.server.send({ PingRequest: { URL: "/machine/pong/1", Types: "disco,TSMP", IP: "100.64.0.2" } });
    await until(() => side.server.others.length === 2);
    expect(wanted).toEqual([
      ["100.64.0.2", "disco"],
      ["100.64.0.2", "TSMP"],
    ]);
    expect(side.server.others.map(({ path, body }) => [path, JSON.parse(body).Type])).toEqual([
      ["/machine/pong/1", "disco"],
      ["/machine/pong/1", "TSMP"],
    ]);
    side.server.send({ PingRequest: { URL: "/machine/pong/2", Types: "disco", IP: "metadata.internal" } });
    await settle();
    expect(wanted.length).toBe(2);
  });

  test("CC-6 commands in a map message do nothing: exit, sleep, debug", async () => {
    const side = new Side();
    await side.join();
    side.server.send({ Debug: { SleepSeconds: 300, Exit: 1, DisableLogTail: true } });
    await until(() => side.maps.length === 2);
    side.server.send({ Node: side.self({ Name: "other.tail.test." }) });
    await until(() => side.maps.length === 3);
    expect(side.kind).toBe("running");
  });
});

describe("CC-1 the server's key", () => {
  test("is told to be remembered; another one at the same URL is refused while we run, until we log out", async () => {
    const told: string[] = [];
    const side = new Side({ onServerKey: (key) => told.push(key) });
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
    const side = new Side({ knownServerKey: `mkey:${"a".repeat(64)}` });
    side.client.start();
    await until(() => side.kind === "backing-off");
    expect(side.client.state).toMatchObject({ fault: { code: "CONTROL_KEY_CHANGED" } });
    await side.pass(60_000);
    expect(side.server.registers).toEqual([]);
  });
});
