import "reflect-metadata";
import { webcrypto } from "node:crypto";
import http from "node:http";
import http2 from "node:http2";
import net from "node:net";
import tls from "node:tls";
import * as x509 from "@peculiar/x509";
import { afterEach, beforeAll, expect, test } from "vitest";
import { listening } from "../../test/suites/listening.ts";
import { systemClock } from "../base/clock.ts";
import type { Proof } from "../base/conn.ts";
import { connPair } from "../base/conn-pair.ts";
import { asDuplex, type ConnDuplex } from "../base/duplex.ts";
import { Fault } from "../base/fault.ts";
import { silentLog } from "../base/log.ts";
import type { Caller, Callers } from "../identity/caller.ts";
import type { ServeConfig } from "../wire/serve-config.ts";
import { ReverseProxy } from "./proxy.ts";

const ALICE: Caller = {
  kind: "user",
  nodeKey: "aa",
  nodeName: "alice.tail.test",
  login: "alice@example.com",
  displayName: "Alice",
  profilePicture: "",
  address: "100.64.0.2",
};
const PROOF: Proof = {
  kind: "mesh",
  nodeKey: "aa",
  source: { address: "100.64.0.2", port: 40000 },
  destination: { address: "100.64.0.1", port: 80 },
};

let context: tls.SecureContext;
let certificate: string;
const cleanups: (() => unknown)[] = [];

beforeAll(async () => {
  const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const names = new x509.SubjectAlternativeNameExtension([{ type: "dns", value: "gw.tail.test" }]);
  const made = await x509.X509CertificateGenerator.createSelfSigned({
    name: "CN=gw.tail.test",
    keys,
    signingAlgorithm: algorithm,
    extensions: [names],
  });
  certificate = made.toString("pem");
  const key = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey)).toString("base64");
  context = tls.createSecureContext({
    cert: certificate,
    key: `-----BEGIN PRIVATE KEY-----\n${key}\n-----END PRIVATE KEY-----\n`,
  });
});

afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

interface Scene {
  readonly proxy: ReverseProxy;
  readonly seen: http.IncomingMessage[];
  readonly revoke: AbortController;
  caller: Caller | Fault;
  connect(port: number): ConnDuplex;
}

async function scene(answer: http.RequestListener = (_, response) => void response.end("ok")): Promise<Scene> {
  const seen: http.IncomingMessage[] = [];
  const backend = http.createServer((request, response) => {
    seen.push(request);
    answer(request, response);
  });
  backend.on("upgrade", (request, socket) => {
    seen.push(request);
    socket.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
    socket.on("error", () => void socket.destroy());
    socket.pipe(socket);
  });
  const port = await listening(backend);
  const target = `http://127.0.0.1:${port}`;
  const Handlers = { "/": { Proxy: target, AcceptAppCaps: ["a"] }, "/b": { Proxy: target, AcceptAppCaps: ["b"] } };
  const config: ServeConfig = {
    TCP: { 80: { HTTP: true }, 443: { HTTPS: true }, 9000: { TCPForward: `127.0.0.1:${port}` } },
    Web: { "gw.tail.test:80": { Handlers }, "gw.tail.test:443": { Handlers } },
  };
  const revoke = new AbortController();
  const made = { caller: ALICE as Caller | Fault };
  const callers: Callers = {
    of: () => made.caller,
    capabilities: (_, __, names) => JSON.stringify(Object.fromEntries(names.map((name) => [name, [1]]))),
    epoch: 0,
    revoked: () => revoke.signal,
  };
  const proxy = new ReverseProxy({
    config: () => config,
    selfName: () => "gw.tail.test",
    callers,
    secureContext: async () => context,
    log: silentLog,
    clock: systemClock,
  });
  cleanups.push(
    () => proxy.close(),
    () => backend.closeAllConnections(),
    () => backend.close(),
  );
  const connect = (to: number): ConnDuplex => {
    const [near, far] = connPair({ ...PROOF, destination: { address: "100.64.0.1", port: to } });
    proxy.accept(far, to);
    const client = asDuplex(near);
    client.on("error", () => void client.destroy());
    cleanups.push(() => client.destroy());
    return client;
  };
  return Object.assign(made, { proxy, seen, revoke, connect });
}

function text(stream: NodeJS.ReadableStream, until: (text: string) => boolean = () => false): Promise<string> {
  return new Promise((resolve) => {
    let all = "";
    stream.on("data", (chunk: Buffer) => {
      all += chunk.toString("latin1");
      if (until(all)) resolve(all);
    });
    for (const event of ["end", "close", "error"]) stream.on(event, () => resolve(all));
  });
}

test("ID-13: a port that nobody serves is refused", async () => {
  const { proxy } = await scene();
  expect([80, 443, 9000, 22, 3000, 0, 65535].filter((port) => proxy.serves(port))).toEqual([80, 443, 9000]);
});

test("ID-1, ID-5, ID-7, ID-20: no spelling of a reserved name survives, and ours cannot be deleted", async () => {
  const { seen, connect } = await scene();
  const names = ["User-Login", "User-Name", "User-Profile-Pic", "Headers-Info", "App-Capabilities", "Funnel-Request"];
  const forged = ["-", "_", ".", "'", "~", "!", "^", "+", "--"].flatMap((mark) =>
    names.flatMap((name) =>
      ["Tailscale", "TAILSCALE", "tailscale", "Sallyport"].map(
        (prefix) => `${prefix}${mark}${name.replaceAll("-", mark)}`,
      ),
    ),
  );
  const client = connect(80);
  const fields = forged.map((name) => `${name}: forged\r\n${name}: forged\r\n`).join("");
  client.write(
    `GET /x HTTP/1.1\r\nHost: gw.tail.test\r\n${fields}Connection: close, Tailscale-User-Login, X-Forwarded-For\r\n\r\n`,
  );
  expect(await text(client)).toMatch(/^HTTP\/1.1 200/);
  expect(seen[0]!.rawHeaders.filter((value) => value.includes("forged"))).toEqual([]);
  expect(seen[0]!.headers).toMatchObject({
    "tailscale-user-login": "alice@example.com",
    "x-forwarded-for": "100.64.0.2",
    "sallyport-caller-kind": "user",
  });
  expect(seen[0]!.rawHeaders.filter((name) => /^tailscale-user-login$/i.test(name))).toHaveLength(1);
});

test("ID-3: who cannot be identified reaches no backend", async () => {
  const made = await scene();
  made.caller = new Fault("IDENTITY_UNKNOWN_PEER", "no");
  const client = made.connect(80);
  client.write("GET /x HTTP/1.1\r\nHost: gw.tail.test\r\nTailscale-User-Login: evil\r\nConnection: close\r\n\r\n");
  expect(await text(client)).toMatch(/^HTTP\/1.1 503/);
  expect(made.seen).toEqual([]);
});

test.each([
  ["H1-1", "POST / HTTP/1.1\r\nHost: gw\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"],
  ["H1-1 listed", "POST / HTTP/1.1\r\nHost: gw\r\nContent-Length: 5, 5\r\n\r\nhello", "400"],
  ["H1-2", "POST / HTTP/1.1\r\nHost: gw\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501"],
  ["H1-6 0.9", "GET /\r\n\r\n", "400"],
  ["H1-6 blanks", "GET  / HTTP/1.1\r\nHost: gw\r\n\r\n", "400"],
  ["H1-7 fragment", "GET /a#b HTTP/1.1\r\nHost: gw\r\n\r\n", "400"],
  ["H1-7 authority", "GET http://evil/ HTTP/1.1\r\nHost: gw\r\n\r\n", "400"],
  ["H1-7 trace", "TRACE / HTTP/1.1\r\nHost: gw\r\nConnection: close\r\n\r\n", "405"],
  ["H1-8", "GET / HTTP/1.1\r\nHost: user@gw\r\n\r\n", "400"],
  ["H1-8 two", "GET / HTTP/1.1\r\nHost: gw\r\nHost: gw\r\n\r\n", "400"],
  ["H1-10", "POST / HTTP/1.1\r\nHost: gw\r\nExpect: x\r\nContent-Length: 0\r\n\r\n", "417"],
  [
    "WS-2",
    "GET / HTTP/1.1\r\nHost: gw\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx",
    "400",
  ],
  ["RT-1", "GET /b/..%2fx HTTP/1.1\r\nHost: gw\r\n\r\n", "400"],
])("%s: refused, the backend untouched", async (_, bytes, status) => {
  const { seen, connect } = await scene();
  const client = connect(80);
  client.write(bytes);
  expect((await text(client)).slice(9, 12)).toBe(status);
  expect(seen).toEqual([]);
});

test("H1-5: a chunk that is none ends the connection", async () => {
  const { connect } = await scene((request, response) => void request.on("end", () => response.end("whole")).resume());
  const client = connect(80);
  client.write("POST / HTTP/1.1\r\nHost: gw\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\ng\r\n");
  expect(await text(client)).toMatch(/^HTTP\/1.1 400/);
});

test("H1-22: an answer that is cut is seen to be cut", async () => {
  const { connect } = await scene((_, response) => {
    response.writeHead(200, { "content-length": "10" });
    response.write("short", () => response.destroy());
  });
  const client = connect(80);
  const closed = new Promise((resolve) => client.on("error", resolve));
  client.write("GET / HTTP/1.1\r\nHost: gw\r\n\r\n");
  expect(await closed).toBeInstanceOf(Fault);
});

test("H1-12: pipelined requests are answered in order", async () => {
  const { connect } = await scene(
    (request, response) => void setTimeout(() => response.end(request.url), request.url === "/0" ? 20 : 0),
  );
  const client = connect(80);
  client.write(
    Array.from(
      { length: 50 },
      (_, i) => `GET /${i} HTTP/1.1\r\nHost: gw\r\n${i === 49 ? "Connection: close\r\n" : ""}\r\n`,
    ).join(""),
  );
  const got = [...(await text(client)).matchAll(/^\/\d+/gm)].map((match) => match[0]);
  expect(got).toEqual(Array.from({ length: 50 }, (_, i) => `/${i}`));
});

test("WS-4, WS-8: an upgrade carries identity, echoes, and ends with its caller", async () => {
  const { seen, connect, revoke } = await scene();
  const client = connect(80);
  client.write(
    "GET /ws HTTP/1.1\r\nHost: gw\r\nConnection: Upgrade, Tailscale-User-Login\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nTailscale_User_Login: evil\r\n\r\n",
  );
  expect(await text(client, (all) => all.endsWith("\r\n\r\n"))).toMatch(/^HTTP\/1.1 101/);
  expect(seen[0]!.headers["tailscale-user-login"]).toBe("alice@example.com");
  expect(seen[0]!.rawHeaders).not.toContain("evil");
  const echo = text(client, (all) => all === "ping");
  client.write("ping");
  expect(await echo).toBe("ping");
  const gone = new Promise<void>((resolve) => client.once("close", () => resolve()));
  revoke.abort(new Fault("IDENTITY_REVOKED", "gone"));
  await gone;
});

test("TL-2: an unknown or missing name gets no certificate", async () => {
  const { connect } = await scene();
  for (const servername of ["other.tail.test", ""]) {
    const secure = tls.connect({ socket: connect(443), servername, rejectUnauthorized: false });
    const error = await new Promise((resolve) => {
      secure.on("error", resolve);
      secure.on("secureConnect", () => resolve(undefined));
    });
    expect(error).toBeInstanceOf(Error);
  }
});

test("ID-9, H2-8, H2-9: HTTP/2 over TLS, capabilities by request, authority by name", async () => {
  const { seen, connect } = await scene();
  const secure = tls.connect({
    socket: connect(443),
    servername: "gw.tail.test",
    ca: certificate,
    ALPNProtocols: ["h2"],
  });
  const session = http2.connect("https://gw.tail.test", { createConnection: () => secure });
  cleanups.unshift(() => session.destroy());
  const ask = (fields: http2.OutgoingHttpHeaders, body?: string): Promise<number> =>
    new Promise((resolve, reject) => {
      const stream = session.request(fields, { endStream: body === undefined });
      stream.on("response", (head) => resolve(Number(head[":status"])));
      stream.on("error", reject);
      if (body !== undefined) stream.end(body);
      stream.resume();
    });
  expect(await ask({ ":path": "/one", tailscale_user_login: "evil" })).toBe(200);
  expect(await ask({ ":path": "/b/two", ":method": "POST", "content-type": "application/json" }, "{}")).toBe(200);
  expect(seen.map((request) => request.headers["tailscale-app-capabilities"])).toEqual(['{"a":[1]}', '{"b":[1]}']);
  expect(seen[0]!.headers).toMatchObject({ host: "gw.tail.test:443", "x-forwarded-proto": "https" });
  expect(seen[0]!.rawHeaders).not.toContain("evil");
  expect(await ask({ ":path": "/", ":authority": "other.tail.test" })).toBe(421);
  expect(await ask({ ":path": "/", ":authority": "gw.tail.test", host: "other" })).toBe(400);
  expect(seen).toHaveLength(2);
});

test("a TCP forward carries bytes both ways and half-closes", async () => {
  const { connect } = await scene();
  const client = connect(9000);
  client.end("GET /raw HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  expect(await text(client)).toMatch(/^HTTP\/1.1 200/);
});

test("a backend that is down gives 502 and keeps the connection", async () => {
  const closed = net.createServer();
  const port = await listening(closed);
  await new Promise((resolve) => closed.close(resolve));
  const config: ServeConfig = {
    TCP: { 80: { HTTP: true } },
    Web: { "gw.tail.test:80": { Handlers: { "/": { Proxy: `http://127.0.0.1:${port}` } } } },
  };
  const callers: Callers = {
    of: () => ALICE,
    capabilities: () => undefined,
    epoch: 0,
    revoked: () => new AbortController().signal,
  };
  const proxy = new ReverseProxy({
    config: () => config,
    selfName: () => "gw.tail.test",
    callers,
    secureContext: async () => context,
    log: silentLog,
    clock: systemClock,
  });
  cleanups.push(() => proxy.close());
  const [near, far] = connPair(PROOF);
  proxy.accept(far, 80);
  const client = asDuplex(near);
  client.write("GET / HTTP/1.1\r\nHost: gw\r\n\r\n");
  expect(await text(client, (all) => all.includes("\r\n\r\n"))).toMatch(/^HTTP\/1.1 502/);
  expect(client.writable).toBe(true);
});
