import { once } from "node:events";
import { Duplex } from "node:stream";
import tls, { type ConnectionOptions, type SecureContext } from "node:tls";
import { afterEach, describe, expect, test } from "vitest";
import {
  ALICE,
  certificateOf,
  closeScenes,
  GATE,
  onClose,
  type ProxyScene,
  proxyScene,
  read,
  webConfig,
} from "../../../test/suites/proxy-scene.ts";
import { recordingBackend } from "../../../test/suites/recording-backend.ts";
import { FakeClock } from "../../base/clock.ts";
import { Fault } from "../../base/fault.ts";
import type { Caller, Callers } from "../../identity/caller.ts";
import { ALERT } from "../../wire/client-hello.ts";
import type { ProxyOptions } from "../options.ts";
import { serverContext } from "./tls-context.ts";

afterEach(closeScenes);

const OTHER = "other.tail.test";

async function contextOf(name: string): Promise<SecureContext> {
  const { cert, key } = await certificateOf(name);
  return serverContext({ chain: cert, key });
}

/** Two names are served on 443, each with its certificate; `asked` notes for which a certificate was wanted. */
async function stage(options: Partial<ProxyOptions> = {}): Promise<ProxyScene & { asked: string[] }> {
  const contexts = new Map([
    [GATE, await contextOf(GATE)],
    [OTHER, await contextOf(OTHER)],
  ]);
  const asked: string[] = [];
  const config = webConfig({ "/": { Text: "hi" } });
  const both = { ...config, Web: { ...config.Web, [`${OTHER}:443`]: config.Web![`${GATE}:443`]! } };
  const secureContext = (name: string): SecureContext | Fault => {
    asked.push(name);
    return contexts.get(name) ?? new Fault("TEST", "no such name");
  };
  return Object.assign(proxyScene(both, { secureContext, ...options }), { asked });
}

function client(socket: Duplex, options: ConnectionOptions = {}): tls.TLSSocket {
  const made = tls.connect({ socket, servername: GATE, rejectUnauthorized: false, ...options });
  onClose(() => made.destroy());
  return made;
}

/** What came of a handshake: the name in the certificate, `resumed`, or the text of the error. */
async function outcome(secure: tls.TLSSocket): Promise<string> {
  return new Promise((resolve) => {
    secure.once("secureConnect", () => {
      resolve(secure.isSessionReused() ? "resumed" : String(secure.getPeerCertificate().subject.CN));
    });
    secure.on("error", (error) => resolve(error.message));
    secure.once("close", () => resolve("closed"));
  });
}

async function get(secure: tls.TLSSocket, host: string): Promise<string> {
  secure.write(`GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
  return (await read(secure)).text.split("\r\n")[0]!;
}

describe("TL-2: names", () => {
  test.each([
    ["none", { servername: "" }],
    ["one that is not served", { servername: "stranger.tail.test" }],
    ["one below a served name", { servername: `a.${GATE}` }],
    ["an odd text", { servername: "../../etc/passwd" }],
    ["a wildcard", { servername: "*.tail.test" }],
    ["__proto__", { servername: "__proto__" }],
    ["a blank at the end", { servername: `${GATE} ` }],
  ])("%s: the alert says so, no certificate, nobody is asked for one", async (_, options) => {
    const { asked, connect } = await stage();
    expect(await outcome(client(connect(443), options))).toMatch(/unrecognized name/);
    expect(asked).toEqual([]);
  });

  test.each([GATE, GATE.toUpperCase(), `${GATE}.`])("%s is ours, however it is spelled", async (servername) => {
    const { asked, connect } = await stage();
    expect(await outcome(client(connect(443), { servername }))).toBe(GATE);
    expect(asked).toEqual([GATE]);
  });

  test("several certificates on one port, by name", async () => {
    const { connect } = await stage();
    for (const servername of [GATE, OTHER, GATE])
      expect(await outcome(client(connect(443), { servername }))).toBe(servername);
  });

  test("a served name whose certificate cannot be had fails as upstream does, with an internal error", async () => {
    const { connect } = await stage({ secureContext: () => new Fault("TEST", "not there") });
    expect(await outcome(client(connect(443)))).toMatch(/internal error/);
    const late = await stage({ secureContext: async () => Promise.reject(new Error("not there")) });
    expect(await outcome(client(late.connect(443)))).toMatch(/internal error/);
  });
});

test("TL-3: what is no TLS is told so and closed", async () => {
  const { connect, proxy } = await stage();
  for (const bytes of ["GET / HTTP/1.1\r\nHost: gw\r\n\r\n", "\x80\x2e\x01\x03\x01", "\x16\x02\x00\x00\x05hello"]) {
    const raw = connect(443);
    raw.write(Buffer.from(bytes, "latin1"));
    const { text } = await read(raw);
    expect(text.slice(0, 5)).toBe("\x15\x03\x03\x00\x02");
    expect([ALERT.unexpectedMessage, ALERT.decodeError]).toContain(text.charCodeAt(6));
    raw.destroy();
  }
  await expect.poll(() => proxy.handshakes, { timeout: 10_000 }).toBe(0);
});

describe("TL-4: time and number of handshakes", () => {
  test("ten seconds in total, however slowly the hello drips", async () => {
    const clock = new FakeClock();
    const { connect, proxy } = await stage({ clock });
    const raw = connect(443);
    const end = read(raw);
    for (let second = 0; second < 9; second += 1) {
      raw.write(Uint8Array.of([0x16, 3, 1, 2, 0, 1, 0, 1, 252][second]!));
      clock.advance(1000);
    }
    expect(proxy.handshakes).toBe(1);
    clock.advance(1001);
    expect(await end).toEqual({ text: "", isCut: true });
    expect(proxy.handshakes).toBe(0);
  });

  test("a client that goes silent after its hello has no more time", async () => {
    const clock = new FakeClock();
    const { connect, proxy } = await stage({ clock });
    const raw = connect(443);
    const secure = client(raw);
    secure.on("error", () => {});
    await once(raw, "data"); // the hello went, and part of the answer came
    raw.pause();
    const closed = new Promise((resolve) => raw.once("close", resolve));
    clock.advance(10_001);
    await closed;
    expect(proxy.handshakes).toBe(0);
  });

  test("a client that leaves inside its handshake, as one does that only looked for a certificate, holds no place", async () => {
    const { connect, proxy } = await stage({ clock: new FakeClock() });
    for (let i = 0; i < 65; i += 1) {
      const raw = connect(443);
      client(raw).on("error", () => {});
      await once(raw, "data");
      raw.end();
    }
    await expect.poll(() => proxy.handshakes, { timeout: 10_000 }).toBe(0);
    expect(await outcome(client(connect(443)))).toBe(GATE);
  });

  test("what it takes to obtain a certificate is not the client's time, but has a limit of its own", async () => {
    const clock = new FakeClock();
    const waits = [Promise.withResolvers<SecureContext>(), Promise.withResolvers<SecureContext>()];
    const asked: string[] = [];
    const { connect, proxy } = await stage({
      clock,
      secureContext: (name) => waits[asked.push(name) - 1]!.promise,
    });
    const patient = outcome(client(connect(443)));
    await expect.poll(() => asked.length, { timeout: 10_000 }).toBe(1);
    clock.advance(59_000);
    waits[0]!.resolve(await contextOf(GATE));
    expect(await patient).toBe(GATE);
    const late = outcome(client(connect(443)));
    await expect.poll(() => asked.length, { timeout: 10_000 }).toBe(2);
    clock.advance(60_001);
    expect(await late).not.toBe(GATE);
    expect(proxy.handshakes).toBe(0);
  });

  test("64 of one peer and 1,000 in all: the one that is under way for longest makes room", async () => {
    const crowded: string[] = [];
    const { connect, proxy } = await stage({ count: (event) => crowded.push(event) });
    const own = Array.from({ length: 64 }, () => connect(443));
    const others = Array.from({ length: 64 }, () => connect(443, "other"));
    const first = read(own[0]!);
    expect(await outcome(client(connect(443)))).toBe(GATE);
    expect((await first).isCut).toBe(true);
    expect(crowded).toEqual(["handshake_crowded"]);
    await expect.poll(() => proxy.handshakes, { timeout: 10_000 }).toBe(127);
    expect([...own.slice(1), ...others].some(({ destroyed }) => destroyed)).toBe(false);

    const second = read(own[1]!);
    for (let peer = 0; proxy.handshakes < 1000; peer += 1)
      for (let i = 0; i < 64 && proxy.handshakes < 1000; i += 1) connect(443, `peer-${peer}`);
    expect(await outcome(client(connect(443, "late")))).toBe(GATE);
    expect((await second).isCut).toBe(true);
    expect(crowded).toHaveLength(2);
  });

  test("who holds all places of an address shuts nobody out who shares it", async () => {
    const { connect } = await stage();
    for (let round = 0; round < 5; round += 1) {
      for (let i = 0; i < 200; i += 1) connect(443).write(Uint8Array.of(0x16, 3, 1));
      expect(await outcome(client(connect(443)))).toBe(GATE);
    }
  });

  test("a larger limit of the operator's counts from the next connection on", async () => {
    const crowded: string[] = [];
    const { connect, proxy } = await stage({ count: (event) => crowded.push(event) });
    proxy.limit({ handshakes: 300, handshakesPerCaller: 200 });
    for (let i = 0; i < 200; i += 1) connect(443);
    expect([proxy.handshakes, crowded]).toEqual([200, []]);
    connect(443);
    expect([proxy.handshakes, crowded.length]).toEqual([200, 1]);
    for (let i = 0; i < 150; i += 1) connect(443, "other");
    expect([proxy.handshakes, crowded.length]).toEqual([300, 51]);
    proxy.limit();
    connect(443);
    expect(proxy.handshakes).toBe(64 + 150);
  });

  test("20,000 slow hellos of 400 peers, fifteen waves: never more than 1,000, and between waves others are served", async () => {
    const clock = new FakeClock();
    const events: string[] = [];
    const { connect, proxy } = await stage({ clock, count: (event) => events.push(event) });
    const WAVES = 15;
    for (let wave = 0, sent = 0; wave < WAVES; wave++) {
      for (; sent < (20_000 * (wave + 1)) / WAVES; sent++) {
        connect(443, `peer-${sent % 400}`).write(Uint8Array.of(0x16, 3, 1));
      }
      expect(proxy.handshakes).toBe(1000);
      clock.advance(10_001);
      await expect.poll(() => proxy.handshakes, { timeout: 20_000 }).toBe(0);
      expect(await outcome(client(connect(443, "honest")))).toBe(GATE);
      await expect.poll(() => proxy.handshakes, { timeout: 20_000 }).toBe(0); // the client is ready before the server
    }
    expect(events.filter((event) => event === "handshake_crowded")).toHaveLength(20_000 - WAVES * 1000);
  });
});

test.each(["TLSv1.2", "TLSv1.3"] as const)(
  "a %s client that takes its session up again is answered, not cut",
  async (version) => {
    const { connect } = await stage();
    const tickets: Buffer[] = [];
    const first = client(connect(443), { maxVersion: version });
    first.on("session", (ticket) => tickets.push(ticket));
    expect(await outcome(first)).toBe(GATE);
    expect(await get(first, GATE)).toBe("HTTP/1.1 200 OK");
    const again = client(connect(443), { maxVersion: version, session: tickets.at(-1)! });
    expect(await outcome(again)).toBe("resumed");
    expect(await get(again, GATE)).toBe("HTTP/1.1 200 OK");
  },
);

describe("TL-5: resumption", () => {
  const sessionOf = async (scene: ProxyScene, servername: string, more: ConnectionOptions = {}): Promise<Buffer> => {
    const secure = client(scene.connect(443), { servername, ...more });
    const session = once(secure, "session");
    await once(secure, "secureConnect");
    secure.write(`GET / HTTP/1.1\r\nHost: ${servername}\r\n\r\n`);
    secure.resume();
    const [ticket] = (await session) as [Buffer];
    return ticket;
  };

  test.each(["TLSv1.2", "TLSv1.3"] as const)(
    "%s: a ticket opens its own name again, and no other",
    async (maxVersion) => {
      const scene = await stage();
      const session = await sessionOf(scene, GATE, { maxVersion });
      const again = client(scene.connect(443), { session, maxVersion });
      expect(await outcome(again)).toBe("resumed");
      const elsewhere = client(scene.connect(443), { session, servername: OTHER, maxVersion });
      expect(await outcome(elsewhere)).toBe(OTHER);
      expect(await get(elsewhere, OTHER)).toBe("HTTP/1.1 200 OK");
      const stranger = client(scene.connect(443), { session, servername: "stranger.tail.test", maxVersion });
      expect(await outcome(stranger)).toMatch(/unrecognized name/);
    },
  );

  test.each([
    ["the Internet", "the mesh", "TLSv1.2"],
    ["the Internet", "the mesh", "TLSv1.3"],
    ["the mesh", "the Internet", "TLSv1.2"],
    ["the mesh", "the Internet", "TLSv1.3"],
  ] as const)("TL-5 a ticket of %s is no right in %s (%s)", async (from, to, maxVersion) => {
    const backend = await recordingBackend();
    const context = await contextOf(GATE);
    const visitor: Caller = { kind: "anonymous", address: "198.51.100.7" };
    const callers: Callers = {
      of: ({ kind }) => (kind === "mesh" ? ALICE : visitor),
      capabilities: () => undefined,
      epoch: 0,
      revoked: () => new AbortController().signal,
    };
    const config = webConfig({ "/": { Proxy: `http://127.0.0.1:${backend.port}` } });
    const scene = proxyScene(config, { secureContext: () => context, callers });
    const way = (name: "the Internet" | "the mesh"): Duplex =>
      name === "the mesh" ? scene.connect(443) : scene.visit(443);
    const session = await sessionOf({ ...scene, connect: () => way(from) as never }, GATE, { maxVersion });
    const again = client(way(to), { session, maxVersion });
    expect(await outcome(again)).toBe("resumed");
    expect(await get(again, GATE)).toBe("HTTP/1.1 200 OK");
    const request = backend.requests.at(-1)!;
    expect(request).toContain(`Sallyport-Caller-Kind: ${to === "the mesh" ? "user" : "anonymous"}\r\n`);
    expect(request.includes("Tailscale-User-Login")).toBe(to === "the mesh");
    expect(request.includes("Tailscale-Funnel-Request: ?1")).toBe(to === "the Internet");
  });

  test("a new context takes no ticket of the old one: the keys are its own", async () => {
    const contexts = [await contextOf(GATE), await contextOf(GATE)];
    let at = 0;
    const scene = await stage({ secureContext: () => contexts[at]! });
    const session = await sessionOf(scene, GATE);
    at = 1;
    const later = client(scene.connect(443), { session });
    expect(await outcome(later)).toBe(GATE);
  });
});

describe("TL-6: nothing old", () => {
  test.each(["TLSv1", "TLSv1.1"] as const)("%s is refused", async (maxVersion) => {
    const { connect } = await stage();
    const options = { minVersion: maxVersion, maxVersion, ciphers: "ALL:@SECLEVEL=0" };
    expect(await outcome(client(connect(443), options))).toMatch(/version/);
  });

  test.each([
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA384",
    "ECDHE-ECDSA-AES128-CCM8",
    "AES128-GCM-SHA256",
    "DHE-RSA-AES128-GCM-SHA256",
    "PSK-AES128-GCM-SHA256",
    "NULL",
  ])("suite %s is refused", async (suite) => {
    const { connect } = await stage();
    const options: ConnectionOptions = { maxVersion: "TLSv1.2", ciphers: `${suite}:@SECLEVEL=0` };
    expect(await outcome(client(connect(443), options))).toMatch(/handshake failure|no ciphers available/);
  });

  test.each<[string, ConnectionOptions, string]>([
    ["no protocol that we speak", { ALPNProtocols: ["http/1.0"] }, "15030300020278"],
    ["no suite that we speak", { maxVersion: "TLSv1.2", ciphers: "AES128-GCM-SHA256" }, "15030300020228"],
  ])("a visitor with %s saw a reset instead of the alert", async (_, options, alert) => {
    const { connect, proxy } = await stage();
    const hello = new Promise<Buffer>((resolve) => {
      const write = (chunk: Buffer): void => resolve(chunk);
      client(new Duplex({ read: () => undefined, write }), options);
    });
    const raw = connect(443);
    raw.write(await hello);
    const { text, isCut } = await read(raw);
    expect([Buffer.from(text, "latin1").toString("hex"), isCut]).toEqual([alert, false]);
    raw.end();
    await expect.poll(() => proxy.handshakes, { timeout: 10_000 }).toBe(0);
  });

  test.each(["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"])("suite %s is spoken", async (suite) => {
    const { connect } = await stage();
    expect(await outcome(client(connect(443), { maxVersion: "TLSv1.2", ciphers: suite }))).toBe(GATE);
  });

  test("tickets allow no early data", async () => {
    const { connect } = await stage();
    const secure = client(connect(443), { minVersion: "TLSv1.3" });
    const session = once(secure, "session");
    await outcome(secure);
    secure.write(`GET / HTTP/1.1\r\nHost: ${GATE}\r\n\r\n`);
    secure.resume();
    const [ticket] = (await session) as [Buffer];
    // OpenSSL's ssl_asn1.c: member 15 is the ticket's max_early_data, and left out when it is 0.
    const tags = derTags(ticket.subarray(ticket.indexOf(Uint8Array.of(0x30, 0x82)))); // Node puts the name in front
    expect(tags).not.toContain(0xaf);
    expect(tags).toContain(0xaa); // the ticket itself is there
  });

  test("a client that asks to negotiate again is not heard", async () => {
    const { connect } = await stage();
    const secure = client(connect(443), { maxVersion: "TLSv1.2" });
    await outcome(secure);
    const again = await new Promise((resolve) => {
      secure.once("error", (error) => resolve(error.message));
      if (!secure.renegotiate({}, (error) => resolve(error?.message ?? "negotiated"))) resolve("refused");
    });
    expect(again).toMatch(/no renegotiation|refused/);
  });
});

/** Tags of the members of a DER sequence. */
function derTags(bytes: Buffer): readonly number[] {
  const lengthAt = (at: number): [length: number, next: number] => {
    const first = bytes[at]!;
    if (first < 0x80) return [first, at + 1];
    const size = first & 0x7f;
    return [bytes.readUIntBE(at + 1, size), at + 1 + size];
  };
  const tags: number[] = [];
  for (let at = lengthAt(1)[1]; at < bytes.length; ) {
    tags.push(bytes[at]!);
    const [length, next] = lengthAt(at + 1);
    at = next + length;
  }
  return tags;
}

describe("TL-7: acme-tls/1", () => {
  const CHALLENGED = "proof.example.com";

  test("with a challenge: its certificate and the end; no HTTP", async () => {
    const context = await contextOf(CHALLENGED);
    const { connect, asked } = await stage({
      challengeContext: (name) => (name === CHALLENGED ? context : undefined),
    });
    const options = { servername: CHALLENGED, ALPNProtocols: ["acme-tls/1"] };
    const secure = client(connect(443), options);
    expect([await outcome(secure), secure.alpnProtocol]).toEqual([CHALLENGED, "acme-tls/1"]);
    secure.write(`GET / HTTP/1.1\r\nHost: ${GATE}\r\n\r\n`);
    expect((await read(secure)).text).toBe("");
    expect(asked).toEqual([]);
  });

  test("who keeps the connection after the proof is cut off", async () => {
    const clock = new FakeClock();
    const context = await contextOf(CHALLENGED);
    const { connect } = await stage({ clock, challengeContext: () => context });
    const raw = connect(443);
    const secure = client(raw, { servername: CHALLENGED, ALPNProtocols: ["acme-tls/1"] });
    expect(await outcome(secure)).toBe(CHALLENGED);
    const closed = new Promise((resolve) => raw.once("close", resolve));
    const cut = setInterval(() => clock.advance(1001), 5);
    await closed;
    clearInterval(cut);
  });

  test("without: refused, for names that are served as for others", async () => {
    const { connect, asked } = await stage();
    for (const servername of [GATE, "stranger.tail.test", ""]) {
      const outcomeOf = await outcome(client(connect(443), { servername, ALPNProtocols: ["acme-tls/1"] }));
      expect(outcomeOf).toMatch(/no application protocol/);
    }
    expect(asked).toEqual([]);
  });

  test("beside other protocols it is never chosen, and the challenge's certificate is not shown", async () => {
    const context = await contextOf(CHALLENGED);
    const { connect } = await stage({ challengeContext: () => context });
    const secure = client(connect(443), { ALPNProtocols: ["acme-tls/1", "http/1.1"] });
    expect([await outcome(secure), secure.alpnProtocol]).toEqual([GATE, "http/1.1"]);
  });
});

test("TL-8: a certificate that is replaced under handshakes fails none of them", async () => {
  const contexts = await Promise.all([contextOf(GATE), contextOf(OTHER)]); // two keys, told apart by their names
  let at = 0;
  const { connect, proxy } = await stage({ secureContext: () => contexts[at++ % 2]! });
  const seen: string[] = [];
  for (let round = 0; round < 20; round += 1) {
    const all = Array.from({ length: 10 }, () => outcome(client(connect(443))));
    seen.push(...(await Promise.all(all)));
    await expect.poll(() => proxy.handshakes, { interval: 1, timeout: 10_000 }).toBe(0);
  }
  expect(new Map([GATE, OTHER].map((name) => [name, seen.filter((one) => one === name).length]))).toEqual(
    new Map([
      [GATE, 100],
      [OTHER, 100],
    ]),
  );
});
