import { createServer, type Server, type Socket } from "node:net";
import tls from "node:tls";
import { expect, onTestFinished, test } from "vitest";
import { listening } from "../../test/suites/listening.ts";
import { certificateOf } from "../../test/suites/proxy-scene.ts";
import { FakeClock } from "../base/clock.ts";
import { selfSigned } from "../certs/self-signed.ts";
import { alertRecord } from "../wire/client-hello.ts";
import { type Finding, type ProbeOptions, probe } from "./probe.ts";

const NAME = "web.tail.test";

async function portOf(server: Server): Promise<number> {
  onTestFinished(() => void server.close());
  return await listening(server);
}

const alerting = (alert: number): Promise<number> =>
  portOf(
    createServer((socket) => socket.on("error", () => undefined).once("data", () => socket.end(alertRecord(alert)))),
  );

const hangingUp = (): Promise<number> => portOf(createServer((socket) => void socket.resetAndDestroy()));

/** As a relay does, that has read the hello and brings nobody. */
const hangingUpAsked = (): Promise<number> =>
  portOf(
    createServer((socket) => socket.on("error", () => undefined).once("data", () => void socket.resetAndDestroy())),
  );

/** An ingress, a node and a backend in one: it answers any request with `answer`. */
async function serving(answer: string, heard: string[] = [], pair = certificateOf(NAME)): Promise<number> {
  return portOf(
    tls.createServer(await pair, (socket) => {
      socket
        .on("error", () => undefined)
        .once("data", (head) => {
          heard.push(String(head));
          socket.end(answer);
        });
    }),
  );
}

/** Does something to who has asked. */
async function behindTls(act: (socket: tls.TLSSocket, raw: Socket) => void): Promise<number> {
  let raw: Socket;
  const server = tls.createServer(await certificateOf(NAME), (socket) => {
    socket.on("error", () => undefined).once("data", () => act(socket, raw));
  });
  server.on("connection", (socket) => {
    raw = socket;
  });
  return portOf(server);
}

/** As a gateway that ends TLS: only then it is seen whether the target is there. */
async function ending(act: (socket: tls.TLSSocket) => void): Promise<number> {
  const server = tls.createServer(await certificateOf(NAME), (socket) => act(socket.on("error", () => undefined)));
  return portOf(server);
}

async function look(options: Partial<ProbeOptions> & { readonly port: number }): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  const { cert: ca } = await certificateOf(NAME);
  const all: ProbeOptions = {
    ...{ name: NAME, resolve: async () => ["127.0.0.1"], isHttp: true, signal: AbortSignal.timeout(20_000), ca },
    ...options,
  };
  for await (const finding of probe(all)) findings.push(finding);
  return findings;
}

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

test("FN-9 a way that is open from end to end", async () => {
  const heard: string[] = [];
  const port = await serving(OK, heard);
  const findings = await look({ port });
  expect(findings.map(({ hop, isGood }) => [hop, isGood])).toEqual([
    ...[
      ["dns", true],
      ["ingress", true],
      ["name", true],
      ["certificate", true],
      ["backend", true],
    ],
  ]);
  expect(findings.at(-1)?.found).toBe("status 200");
  expect(heard[0]).toContain(`\r\nHost: ${NAME}:${port}\r\n`);
});

test("FN-9 of a backend that speaks no TLS behind `funnel --tcp`, OpenSSL's file and line were said", async () => {
  const port = await portOf(createServer((socket) => void socket.on("error", () => undefined).end("SSH-2.0-here\r\n")));
  expect((await look({ port })).at(-1)).toMatchObject({
    hop: "name",
    isGood: false,
    found: expect.stringMatching(/^what answers there speaks no TLS: /),
  });
});

test("FN-9 one of two ingresses is dead, and a check said that all is well", async () => {
  const port = await serving(OK);
  const resolve = async (): Promise<string[]> => ["127.0.0.1", "127.0.0.2"];
  const findings = await look({ port, resolve });
  expect(findings.map(({ hop, isGood }) => `${hop} ${isGood}`)).toEqual(["dns true", "ingress false"]);
  expect(findings.at(-1)?.found).toMatch(/^127\.0\.0\.2 port \d+: .*ECONNREFUSED.*, while 127\.0\.0\.1 answers/);
  const both = await look({ port, resolve: async () => ["127.0.0.1", "127.0.0.1"] });
  expect(both.at(-1)?.found).toBe("status 200");
});

test("a zone says the addresses in another order each time, and a check showed its first line again and again", async () => {
  const found = async (...addresses: string[]) => (await look({ port: 1, resolve: async () => addresses }))[0];
  const wanted = { hop: "dns", isGood: true, found: "127.0.0.1, 127.0.0.2" };
  expect([await found("127.0.0.1", "127.0.0.2"), await found("127.0.0.2", "127.0.0.1")]).toEqual([wanted, wanted]);
});

test("FN-9 one of two addresses was of the host before, and a check said that all is well", async () => {
  const port = await serving(OK);
  const resolve = async (): Promise<string[]> => ["127.0.0.1", "127.0.0.2"];
  const at = async (server: Server): Promise<void> => {
    onTestFinished(() => void server.close());
    await new Promise<void>((listening) => void server.listen(port, "127.0.0.2", listening));
  };
  const other = tls.createServer(await certificateOf("old.test"), (socket) => void socket.on("error", () => undefined));
  await at(other);
  expect((await look({ port, resolve })).at(-1)).toEqual({
    ...{ hop: "dns", isGood: false },
    found: "127.0.0.2 presents another certificate: some visitors are sent there",
  });
  await new Promise((closed) => other.close(closed));
  const alert = (socket: Socket): unknown =>
    socket.on("error", () => undefined).once("data", () => socket.end(alertRecord(112)));
  await at(createServer(alert));
  expect((await look({ port, resolve })).at(-1)).toMatchObject({
    ...{ hop: "dns", found: expect.stringMatching(/^127\.0\.0\.2: the ingress does not know the name/) },
  });
  // A record that leads to an ingress of the network was said to be what is wrong.
  expect((await look({ port, resolve, ingresses: ["127.0.0.1", "127.0.0.2"] })).at(-1)?.hop).toBe("ingress");
});

test("FN-9 a raw port that is open, whoever speaks first", async () => {
  const banner = await portOf(createServer((socket) => socket.on("error", () => undefined).write("SSH-2.0-here\r\n")));
  const quiet = await portOf(createServer((socket) => socket.on("error", () => undefined)));
  for (const [port, found, isPatient] of [
    [banner, "it answers", false],
    [quiet, "the connection stays open", true],
  ] as const) {
    const clock = new FakeClock();
    const looking = look({ port, isRaw: true, isHttp: false, clock });
    if (isPatient) {
      await expect.poll(() => clock.next, { timeout: 20_000, interval: 2 }).toBe(3000);
      clock.advance(3000);
    }
    const findings = await looking;
    expect(findings.map(({ hop, isGood }) => `${hop} ${isGood}`)).toEqual(["dns true", "ingress true", "backend true"]);
    expect(findings.at(-1)?.found).toBe(found);
  }
});

test("`funnel check` said that visitors get through where TLS ends here, and the target was dead", async () => {
  const of = async (act: (socket: tls.TLSSocket) => void, clock?: FakeClock): Promise<Finding | undefined> => {
    const findings = await look({ port: await ending(act), isHttp: false, isEnded: true, ...(clock && { clock }) });
    expect(findings.at(-2)).toMatchObject({ hop: "certificate", isGood: true });
    return findings.at(-1);
  };
  for (const end of [(socket: tls.TLSSocket) => socket.end(), (socket: tls.TLSSocket) => void socket.destroy()]) {
    expect(await of(end)).toMatchObject({ hop: "backend", isGood: false, found: expect.stringMatching(/hung up/) });
  }
  const banner = await of((socket) => socket.end("SSH-2.0-here\r\n"));
  expect(banner).toEqual({ hop: "backend", isGood: true, found: "it answers" });
  const clock = new FakeClock();
  const quiet = of(() => undefined, clock);
  await expect.poll(() => clock.next, { timeout: 20_000, interval: 2 }).toBe(3000);
  clock.advance(3000);
  expect(await quiet).toEqual({ hop: "backend", isGood: true, found: "the connection stays open" });
});

test("FN-9 each fault is named by the hop that has it, and nothing is asked behind it", async () => {
  const closed = createServer();
  const gone = await portOf(closed);
  closed.close();
  const patience = new AbortController();
  const silent = await portOf(
    createServer((socket) => socket.on("error", () => undefined).once("data", () => patience.abort())),
  );
  const hanging = new AbortController();
  const rejecting = (code: string) => () => Promise.reject(Object.assign(new Error(`queryA ${code}`), { code }));
  const { certificate, key } = await selfSigned(NAME, Date.UTC(2024, 0, 1), Date.UTC(2024, 0, 2), []);
  const expired = { cert: certificate, key };
  const faults: readonly (readonly [Partial<ProbeOptions> & { port: number }, Finding["hop"], RegExp])[] = [
    [{ port: 1, resolve: async () => [] }, "dns", /has no address/],
    [{ port: 1, resolve: rejecting("ENOTFOUND") }, "dns", /^public DNS has no address of web\.tail\.test$/],
    [{ port: 1, resolve: rejecting("ETIMEOUT") }, "dns", /^this machine's resolver has no answer .* \(ETIMEOUT\)$/],
    [{ port: 1, resolve: async () => ["100.64.0.5"] }, "dns", /address of the mesh/],
    [{ port: 1, resolve: async () => ["127.0.0.1", "100.64.0.5"] }, "dns", /^100\.64\.0\.5 is an address of the mesh/],
    [{ port: 1, resolve: async () => ["127.0.0.1", "fd7a:115c:a1e0::5"] }, "dns", /^fd7a.* is an address of the mesh/],
    [{ port: 1, ingresses: ["203.0.113.5"] }, "dns", /127\.0\.0\.1 is no ingress of this network, wanted 203/],
    [{ port: 1, resolve: async () => ["2001:db8::5", "2001:db8::6"], ingresses: ["2001:db8::5"] }, "dns", /::6 is no/],
    [{ port: gone }, "ingress", /ECONNREFUSED/],
    [{ port: gone, isRaw: true }, "ingress", /ECONNREFUSED/],
    [{ port: await hangingUp(), isRaw: true }, "backend", /hung up at once/],
    [{ port: await hangingUpAsked() }, "name", /ECONNRESET/],
    [{ port: await hangingUpAsked(), isHttp: false }, "backend", /hung up at once/],
    [{ port: await alerting(112) }, "name", /does not know the name/],
    [{ port: await alerting(80) }, "name", /does not reach this node/],
    [{ port: silent, signal: patience.signal }, "name", /no answer in time/],
    [
      { port: await serving(OK), ca: (await certificateOf("other.test")).cert },
      "certificate",
      /^visitors do not know who signed it, "web\.tail\.test" \(DEPTH_ZERO_SELF_SIGNED_CERT\)$/,
    ],
    [
      { port: await serving(OK, [], certificateOf("other.test")), ca: (await certificateOf("other.test")).cert },
      "certificate",
      /^it is for other\.test \(ERR_TLS_CERT_ALTNAME_INVALID\)$/,
    ],
    [
      { port: await serving(OK, [], Promise.resolve(expired)), ca: expired.cert },
      "certificate",
      /^it ended Jan {2}2 00:00:00 2024 GMT \(CERT_HAS_EXPIRED\)$/,
    ],
    [{ port: await serving("HTTP/1.1 502 Bad Gateway\r\n\r\n") }, "backend", /status 502/],
    [{ port: await serving("HTTP/1.1 421 Misdirected Request\r\n\r\n") }, "backend", /status 421/],
    [{ port: await serving("nonsense") }, "backend", /no HTTP answer/],
    [{ port: await behindTls((socket) => void socket.destroy()) }, "backend", /no HTTP answer/],
    [{ port: await behindTls(() => hanging.abort()), signal: hanging.signal }, "backend", /^no answer in time$/],
    [{ port: await behindTls((_, raw) => void raw.resetAndDestroy()) }, "backend", /ECONNRESET/],
  ];
  for (const [options, hop, found] of faults) {
    const last = (await look(options)).at(-1);
    expect(last).toMatchObject({ hop, isGood: false, found: expect.stringMatching(found) });
  }
});
