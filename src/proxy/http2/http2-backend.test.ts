import { once } from "node:events";
import http from "node:http";
import http2, { type ClientHttp2Session, type IncomingHttpHeaders, type ServerHttp2Stream } from "node:http2";
import https from "node:https";
import { setImmediate as turn } from "node:timers/promises";
import tls from "node:tls";
import { afterEach, expect, test } from "vitest";
import { listening } from "../../../test/suites/listening.ts";
import {
  certificateOf,
  closeScenes,
  GATE,
  http2Client,
  onClose,
  type ProxyScene,
  proxyScene,
  rawBackend,
  webConfig,
} from "../../../test/suites/proxy-scene.ts";

afterEach(closeScenes);

const WAIT = { timeout: 20_000, interval: 2 };

type OnStream = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void;

interface Http2Backend {
  readonly port: number;
  /** Connections that it had. */
  readonly sessions: number;
}

async function http2Backend(onStream: OnStream, isSecure = false): Promise<Http2Backend> {
  const server = isSecure
    ? http2.createSecureServer({ ...(await certificateOf("127.0.0.1")), allowHTTP1: false })
    : http2.createServer();
  const made = { port: 0, sessions: 0 };
  server.on("session", (session) => {
    made.sessions++;
    onClose(() => session.destroy());
  });
  server.on("stream", (stream, headers) => {
    stream.on("error", () => undefined);
    onStream(stream as ServerHttp2Stream, headers);
  });
  server.on("sessionError", () => undefined);
  onClose(() => server.close());
  made.port = await listening(server);
  return made;
}

interface Call {
  readonly stream: http2.ClientHttp2Stream;
  readonly head: IncomingHttpHeaders;
  /** It ended with its head. */
  readonly isWhole: boolean;
}

async function call(session: ClientHttp2Session, fields: http2.OutgoingHttpHeaders = {}): Promise<Call> {
  const stream = session.request({
    ":method": "POST",
    ":path": "/pkg.Service/Method",
    ":authority": GATE,
    "content-type": "application/grpc",
    te: "trailers",
    ...fields,
  });
  stream.on("error", () => undefined);
  const [head, flags] = (await once(stream, "response")) as [IncomingHttpHeaders, number];
  return { stream, head, isWhole: (flags & http2.constants.NGHTTP2_FLAG_END_STREAM) !== 0 };
}

/** The code that it was closed with. */
function closing(stream: http2.ClientHttp2Stream): Promise<number | undefined> {
  stream.on("error", () => undefined);
  stream.resume();
  return new Promise((resolve) => void stream.once("close", () => resolve(stream.rstCode)));
}

/** A gRPC message: a flag, a length, bytes. */
function message(text: string): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(Buffer.byteLength(text), 1);
  return Buffer.concat([head, Buffer.from(text)]);
}

function grpcScene(port: number): ProxyScene {
  return proxyScene(webConfig({ "/": { Proxy: `http://127.0.0.1:${port}` } }));
}

test("a unary gRPC call: message, answer, trailers, identity; on HTTP/2 without TLS", async () => {
  const seen: IncomingHttpHeaders[] = [];
  const backend = await http2Backend((stream, headers) => {
    seen.push(headers);
    stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => {
      stream.sendTrailers({ "grpc-status": "0", "grpc-message": "fine", "tailscale-user-login": "evil" });
    });
    stream.pipe(stream);
  });
  const session = await http2Client(grpcScene(backend.port));
  const stream = session.request({
    ":method": "POST",
    ":path": "/pkg.Service/Method",
    ":authority": GATE,
    "content-type": "application/grpc+proto",
    te: "trailers",
    "grpc-timeout": "1S",
    tailscale_user_login: "evil",
  });
  stream.end(message("hello"));
  const trailers = once(stream, "trailers");
  expect(Buffer.concat(await stream.toArray())).toEqual(message("hello"));
  expect((await trailers)[0]).toMatchObject({ "grpc-status": "0", "grpc-message": "fine" });
  expect((await trailers)[0]).not.toHaveProperty("tailscale-user-login");
  expect(seen[0]).toMatchObject({
    ":method": "POST",
    ":path": "/pkg.Service/Method",
    ":scheme": "http",
    ":authority": GATE,
    te: "trailers",
    "grpc-timeout": "1S",
    "tailscale-user-login": "alice@example.com",
  });
  expect(seen[0]).not.toHaveProperty("tailscale_user_login");
});

test("ID-6: trailers of a request reach no backend, by HTTP/2 or HTTP/1", async () => {
  const seen = Promise.withResolvers<IncomingHttpHeaders>();
  const backend = await http2Backend((stream) => {
    stream.on("trailers", (trailers) => seen.resolve(trailers));
    stream.respond({ ":status": 200 });
    stream.on("end", () => {
      seen.resolve({});
      stream.end();
    });
    stream.resume();
  });
  let text = "";
  const plain = await rawBackend((socket) => {
    socket.on("data", (part) => {
      text += String(part);
      if (text.endsWith("0\r\n\r\n")) socket.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
  });
  for (const [port, type] of [
    [backend.port, "application/grpc"],
    [plain.port, "text/plain"],
  ] as const) {
    const session = await http2Client(grpcScene(port));
    const fields = { ":method": "POST", ":path": "/", "content-type": type, trailer: "tailscale-user-login, x-t" };
    const stream = session.request(fields, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "tailscale-user-login": "evil", "x-t": "evil" }));
    stream.end("body");
    await stream.toArray();
  }
  expect(await seen.promise).toEqual({});
  expect(text).toMatch(/\r\n\r\n4\r\nbody\r\n0\r\n\r\n$/);
  expect(text).not.toContain("evil");
});

test("a bidirectional gRPC stream: each message arrives as it is sent, then the trailers", async () => {
  const backend = await http2Backend((stream) => {
    stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    stream.on("data", (part: Buffer) => stream.write(part));
    stream.on("end", () => stream.end());
  });
  const { stream } = await call(await http2Client(grpcScene(backend.port)));
  for (let i = 0; i < 50; i++) {
    stream.write(message(`ping ${i}`));
    expect((await once(stream, "data"))[0]).toEqual(message(`ping ${i}`));
  }
  const trailers = once(stream, "trailers");
  stream.end();
  expect((await trailers)[0]).toMatchObject({ "grpc-status": "0" });
});

test("an error without a message ends with its head, as gRPC's clients insist", async () => {
  const backend = await http2Backend((stream) => {
    stream.respond({ ":status": 200, "content-type": "application/grpc", "grpc-status": "12" }, { endStream: true });
  });
  const { head, isWhole } = await call(await http2Client(grpcScene(backend.port)));
  expect(head["grpc-status"]).toBe("12");
  expect(isWhole).toBe(true);
});

test("a call that the caller cancels is cancelled at the backend", async () => {
  const cancelled = Promise.withResolvers<number>();
  const backend = await http2Backend((stream) => {
    stream.respond({ ":status": 200, "content-type": "application/grpc" });
    stream.on("close", () => cancelled.resolve(stream.rstCode));
  });
  const { stream } = await call(await http2Client(grpcScene(backend.port)));
  stream.close(http2.constants.NGHTTP2_CANCEL);
  expect(await cancelled.promise).toBe(http2.constants.NGHTTP2_CANCEL);
});

/** Without it Node ends a stream properly before it resets it. */
const UNFINISHED = { waitForTrailers: true };

test("H1-22: an answer that the backend resets is reset for the caller, and its other streams go on", async () => {
  const backend = await http2Backend((stream, headers) => {
    stream.respond({ ":status": 200, "content-type": "application/grpc" }, UNFINISHED);
    if (headers["x-cut"] === undefined) stream.on("wantTrailers", () => stream.sendTrailers({})).pipe(stream);
    else stream.write("part", () => stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR));
  });
  const session = await http2Client(grpcScene(backend.port));
  const lasting = await call(session);
  const cut = await call(session, { "x-cut": "1" });
  expect(await closing(cut.stream)).toBe(http2.constants.NGHTTP2_INTERNAL_ERROR);
  lasting.stream.end("still here");
  expect(Buffer.concat(await lasting.stream.toArray()).toString()).toBe("still here");
  expect(backend.sessions).toBe(1);
});

test("H1-22: a backend connection that is lost resets the caller's streams on it", async () => {
  const backend = await http2Backend((stream) => {
    stream.respond({ ":status": 200, "content-type": "application/grpc" }, UNFINISHED);
    stream.write("part", () => stream.session?.socket.destroy());
  });
  const { stream } = await call(await http2Client(grpcScene(backend.port)));
  expect(await closing(stream)).toBe(http2.constants.NGHTTP2_INTERNAL_ERROR);
});

test("H1-22: an HTTP/1 answer that is cut resets one stream of the caller, not all", async () => {
  const backend = http.createServer((request, response) => {
    if (request.url === "/cut") {
      response.writeHead(200, { "content-length": "10" });
      response.write("short", () => response.destroy());
    } else response.end("whole");
  });
  onClose(() => backend.close());
  const session = await http2Client(grpcScene(await listening(backend)));
  const cut = session.request({ ":path": "/cut" });
  expect(await closing(cut)).not.toBe(http2.constants.NGHTTP2_NO_ERROR);
  const whole = session.request({ ":path": "/" });
  expect(Buffer.concat(await whole.toArray()).toString()).toBe("whole");
});

test.each([
  ["application/grpc", 2],
  ["application/grpc;charset=x", 2],
  ["application/grpc+json", 2],
  ["application/grpcfoobar", 1],
  ["application/json", 1],
])("without TLS, %s is asked by HTTP/%i", async (type, version) => {
  const versions: number[] = [];
  const backend = await http2Backend((stream) => {
    versions.push(2);
    stream.respond({ ":status": 200 }, { endStream: true });
  });
  const plain = http.createServer((request, response) => {
    versions.push(request.httpVersionMajor);
    response.end();
  });
  onClose(() => plain.close());
  const plainPort = await listening(plain);
  const port = version === 2 ? backend.port : plainPort;
  const session = await http2Client(grpcScene(port));
  const { head, stream } = await call(session, { "content-type": type });
  stream.end();
  expect(head[":status"]).toBe(200);
  expect(versions).toEqual([version]);
});

async function secureScene(port: number, scheme = "https"): Promise<ProxyScene> {
  const { cert } = await certificateOf("127.0.0.1");
  return proxyScene(webConfig({ "/": { Proxy: `${scheme}://127.0.0.1:${port}` } }), { backendRoots: [cert] });
}

async function get(session: ClientHttp2Session, path = "/"): Promise<{ status: number; body: string }> {
  const stream = session.request({ ":path": path });
  const [head] = (await once(stream, "response")) as [IncomingHttpHeaders];
  return { status: Number(head[":status"]), body: Buffer.concat(await stream.toArray()).toString() };
}

test("an https backend that chooses HTTP/2 is asked by it, on one connection", async () => {
  const backend = await http2Backend((stream, headers) => {
    stream.respond({ ":status": 200 });
    stream.end(`${headers[":scheme"]} ${headers[":authority"]} ${headers["tailscale-user-login"]}`);
  }, true);
  const session = await http2Client(await secureScene(backend.port));
  expect(await get(session)).toEqual({ status: 200, body: `https ${GATE}:443 alice@example.com` });
  const all = await Promise.all(Array.from({ length: 50 }, () => get(session)));
  expect(all.map(({ status }) => status)).toEqual(Array.from({ length: 50 }, () => 200));
  expect(backend.sessions).toBe(1);
});

test("H2-10: a backend may be 64 KiB ahead with each answer, which is what is held of one that nobody takes", async () => {
  const windows: number[] = [];
  const backend = await http2Backend((stream) => {
    windows.push(stream.session!.remoteSettings.initialWindowSize!);
    stream.respond({ ":status": 200 }, { endStream: true });
  }, true);
  await get(await http2Client(await secureScene(backend.port)));
  expect(windows).toEqual([64 * 1024]);
});

test("H2-10: who waits for more than 16 answers at a time gets them by smaller windows, and by the usual ones afterwards", async () => {
  const waiting: ServerHttp2Stream[] = [];
  const backend = await http2Backend((stream) => void waiting.push(stream), true);
  const session = await http2Client(await secureScene(backend.port));
  /** The window, in KiB, by which so many are answered. */
  const asked = async (count: number): Promise<number> => {
    const answers = Array.from({ length: count }, () => get(session));
    await expect.poll(() => waiting.length, WAIT).toBe(count);
    const bytes = waiting[0]!.session!.remoteSettings.initialWindowSize!;
    for (const stream of waiting.splice(0)) stream.respond({ ":status": 200 }, { endStream: true });
    await Promise.all(answers);
    return bytes / 1024;
  };
  expect(await asked(1)).toBe(64);
  expect(await asked(20)).toBe(48);
  await expect.poll(() => asked(1), WAIT).toBe(64); // once all of them are over
  expect(backend.sessions).toBe(1);
});

test("a large upload and download pass an HTTP/2 backend unchanged", async () => {
  const backend = await http2Backend((stream) => {
    stream.respond({ ":status": 200 });
    stream.pipe(stream);
  }, true);
  const session = await http2Client(await secureScene(backend.port));
  const sent = Buffer.alloc(4 * 1024 * 1024, "0123456789abcdef-");
  const stream = session.request({ ":method": "PUT", ":path": "/", "content-length": sent.length });
  stream.end(sent);
  const got = Buffer.concat(await stream.toArray());
  expect(got.equals(sent)).toBe(true);
});

async function httpsBackend(): Promise<number> {
  const server = https.createServer(await certificateOf("127.0.0.1"), (request, response) => {
    response.end(`HTTP/${request.httpVersion} ${request.headers.host}`);
  });
  onClose(() => server.close());
  onClose(() => server.closeAllConnections());
  return await listening(server);
}

test.each(["https", "https+insecure"])("an %s backend that only speaks HTTP/1.1 is asked by that", async (scheme) => {
  const session = await http2Client(await secureScene(await httpsBackend(), scheme));
  for (let i = 0; i < 3; i++) expect(await get(session)).toEqual({ status: 200, body: `HTTP/1.1 ${GATE}:443` });
});

test("a backend whose certificate nobody vouches for is not asked, unless it is named https+insecure", async () => {
  const port = await httpsBackend();
  const handlers = {
    "/": { Proxy: `https://127.0.0.1:${port}` },
    "/in": { Proxy: `https+insecure://127.0.0.1:${port}` },
  };
  const session = await http2Client(proxyScene(webConfig(handlers)));
  expect((await get(session)).status).toBe(502);
  expect((await get(session, "/in")).status).toBe(200);
});

test("a backend whose certificate is for another name is not asked", async () => {
  const { cert, key } = await certificateOf("other.test");
  const server = https.createServer({ cert, key }, (_, response) => void response.end());
  onClose(() => server.close());
  const port = await listening(server);
  const scene = proxyScene(webConfig({ "/": { Proxy: `https://127.0.0.1:${port}` } }), { backendRoots: [cert] });
  expect((await get(await http2Client(scene))).status).toBe(502);
});

test("HTTP/1.1 over TLS, with a pipelined second request", async () => {
  const backend = http.createServer((request, response) =>
    response.end(`${request.url} ${request.headers["x-forwarded-proto"]}`),
  );
  onClose(() => backend.close());
  onClose(() => backend.closeAllConnections());
  const scene = grpcScene(await listening(backend));
  const { cert } = await certificateOf(GATE);
  const secure = tls.connect({ socket: scene.connect(443), servername: GATE, ca: cert, ALPNProtocols: ["http/1.1"] });
  secure.write(`GET /1 HTTP/1.1\r\nHost: ${GATE}\r\n\r\nGET /2 HTTP/1.1\r\nHost: ${GATE}\r\nConnection: close\r\n\r\n`);
  const text = Buffer.concat(await secure.toArray()).toString();
  expect(secure.alpnProtocol).toBe("http/1.1");
  expect(text).toMatch(/^HTTP\/1.1 200 .*\/1 https.*HTTP\/1.1 200 .*\/2 https$/s);
});

test.each([
  ["shorter", "abc"],
  ["longer", "abcdefgh"],
])("H2-7: a body that is %s than its length costs the stream and the backend connection", async (_, body) => {
  const texts: string[] = [];
  const backend = await rawBackend((socket, index) => {
    socket.on("data", (part) => {
      texts[index] = (texts[index] ?? "") + String(part);
    });
  });
  const session = await http2Client(grpcScene(backend.port));
  const stream = session.request({ ":method": "POST", ":path": "/", "content-length": 5 });
  const closed = closing(stream);
  stream.end(body);
  await closed;
  while (backend.connections.some(({ destroyed }) => !destroyed)) await turn();
  for (const text of texts) expect(text.split("\r\n\r\n")[1]!.length).toBeLessThan(6);
  expect(backend.connections.length).toBeLessThan(2);
});
