import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { afterEach, expect, test } from "vitest";
import { findPeer } from "../../test/peers.ts";
import { listening } from "../../test/suites/listening.ts";
import {
  ALICE,
  Connecting,
  closeScenes,
  GATE,
  onClose,
  onHeads,
  type ProxyScene,
  proxyScene,
  type RawBackend,
  rawBackend,
  read,
  webConfig,
} from "../../test/suites/proxy-scene.ts";
import { FakeClock } from "../base/clock.ts";
import type { ConnDuplex } from "../base/duplex.ts";
import { backendOf } from "./backend.ts";
import { BackendPool } from "./backend-pool.ts";
import { BackendDialer, DIAL_MS } from "./upstream/dial.ts";
import type { AnswerSink } from "./upstream/exchange.ts";

afterEach(closeScenes);

const WAIT = { timeout: 20_000, interval: 2 };
const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/** A proxy before a backend that answers each head with the next of these texts, then the last again. */
async function answering(...answers: string[]): Promise<{ scene: ProxyScene; backend: RawBackend; heads: string[] }> {
  const heads: string[] = [];
  const backend = await rawBackend((socket) => {
    onHeads(socket, (head) => {
      heads.push(head);
      socket.write(answers[Math.min(heads.length, answers.length) - 1]!, "latin1");
    });
  });
  return { scene: before(backend), backend, heads };
}

function before({ port }: RawBackend): ProxyScene {
  return proxyScene(webConfig({ "/": { Proxy: `http://127.0.0.1:${port}` } }));
}

function ask(
  client: ConnDuplex,
  line = "GET / HTTP/1.1",
  fields = "",
  body = "",
): Promise<{ text: string; isCut: boolean }> {
  client.write(`${line}\r\nHost: ${GATE}\r\n${fields}\r\n${body}`);
  return read(client, (text) => /\r\n\r\n(?:ok|.*the backend.*\n)$/s.test(text));
}

test.each([
  ["two framings", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok"],
  ["two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"],
  ["21 digits", "HTTP/1.1 200 OK\r\nContent-Length: 100000000000000000000\r\n\r\nok"],
  ["a flood of 1xx", "HTTP/1.1 103 x\r\n\r\n".repeat(30)],
  ["a 101 unasked", "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"],
  ["a head of 70 KiB", `HTTP/1.1 200 OK\r\nX: ${"x".repeat(70_000)}\r\n\r\n`],
  ["CR in a value", "HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok"],
  ["no status", "HTTP/1.1\r\n\r\n"],
  ["another protocol", "220 smtp.example.com ESMTP\r\n"],
])("H1-20: %s is answered with 502, and its connection is never used again", async (_, answer) => {
  const { scene, backend } = await answering(answer, OK);
  const client = scene.connect(80);
  expect((await ask(client)).text).toMatch(/^(?:HTTP\/1.1 103 [^\r]*\r\n\r\n)*HTTP\/1.1 502 /);
  expect((await ask(client)).text).toMatch(/^HTTP\/1.1 200 .*ok$/s);
  expect(backend.connections).toHaveLength(2);
});

test.each([
  ["an answer", OK],
  ["one byte", "x"],
])("H1-21: %s that nobody asked for closes the idle connection, and answers nobody", async (_, stray) => {
  const { scene, backend, heads } = await answering(OK);
  const client = scene.connect(80);
  for (let i = 0; i < 100; i++) {
    expect((await ask(client, `GET /${i} HTTP/1.1`)).text).toMatch(/^HTTP\/1.1 200 OK\r\n.*\r\n\r\nok$/s);
    const gone = once(backend.connections.at(-1)!, "close");
    backend.connections.at(-1)!.write(stray);
    await gone;
  }
  expect(backend.connections).toHaveLength(100);
  expect(heads.map((head) => head.split(" ")[1])).toEqual(Array.from({ length: 100 }, (_, i) => `/${i}`));
});

test("H1-21: what follows an answer in the same packet closes its connection", async () => {
  const { scene, backend } = await answering(`${OK}${OK.replace("200 OK", "299 Bad")}`, OK);
  const client = scene.connect(80);
  expect((await ask(client)).text).toMatch(/^HTTP\/1.1 200 /);
  expect((await ask(client)).text).toMatch(/^HTTP\/1.1 200 /);
  expect(backend.connections).toHaveLength(2);
});

test.each([
  ["a length", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"],
  ["chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n"],
])("H1-22: an answer with %s that the backend cuts is cut for the caller too", async (_, answer) => {
  const backend = await rawBackend((socket) => onHeads(socket, () => void socket.end(answer)));
  const { text, isCut } = await ask(before(backend).connect(80));
  expect(text).toMatch(/^HTTP\/1.1 200 /);
  expect(isCut).toBe(true);
  expect(text).not.toContain("\r\n0\r\n");
});

/** A backend that answers the first request of a connection and ends the connection at the second. */
function onceOnly(): Promise<RawBackend & { bodies: string[] }> {
  const bodies: string[] = [];
  return rawBackend((socket) => {
    onHeads(socket, (head) => {
      bodies.push(head.split(" ")[0]!);
      if (bodies.length === 2) socket.destroy();
      else socket.write(OK);
    });
  }).then((backend) => Object.assign(backend, { bodies }));
}

test.each([
  ["GET", "GET / HTTP/1.1", "", "", ["GET", "GET", "GET"], 200],
  ["OPTIONS", "OPTIONS / HTTP/1.1", "", "", ["GET", "OPTIONS", "OPTIONS"], 200],
  ["POST with a body", "POST / HTTP/1.1", "Content-Length: 1\r\n", "x", ["GET", "POST"], 502],
  ["POST without one", "POST / HTTP/1.1", "Content-Length: 0\r\n", "", ["GET", "POST"], 502],
  ["DELETE", "DELETE / HTTP/1.1", "", "", ["GET", "DELETE"], 502],
  ["GET with a body", "GET / HTTP/1.1", "Content-Length: 1\r\n", "x", ["GET", "GET"], 502],
])("H1-24: %s on a connection that died unanswered", async (_, line, fields, body, sent, status) => {
  const backend = await onceOnly();
  const client = before(backend).connect(80);
  expect((await ask(client)).text).toMatch(/^HTTP\/1.1 200 /);
  expect((await ask(client, line, fields, body)).text).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
  expect(backend.bodies).toEqual(sent);
});

test("H1-24: a request is sent again once, and not at all after a byte of an answer", async () => {
  let requests = 0;
  const backend = await rawBackend((socket) => {
    onHeads(socket, () => {
      requests++;
      if (requests === 1) socket.write(OK);
      else socket.end(requests === 2 ? "H" : "");
    });
  });
  const client = before(backend).connect(80);
  await ask(client);
  expect((await ask(client)).text).toMatch(/^HTTP\/1.1 502 /);
  expect(requests).toBe(2);
});

test("H1-11: a body that the backend does not read costs its connection, not the next request", async () => {
  let requests = 0;
  const backend = await rawBackend((socket) => {
    socket.once("data", () => {
      requests++;
      socket.write(OK); // answered at the head; the body is still on its way
    });
  });
  const scene = before(backend);
  const client = scene.connect(80);
  const first = ask(client, "GET /1 HTTP/1.1", "Content-Length: 40\r\n", "GET /evil HTTP/1.1\r\n");
  expect((await first).text).toMatch(/^HTTP\/1.1 200 /);
  client.write("Host: x\r\n\r\n123456789");
  expect((await ask(client, "GET /2 HTTP/1.1")).text).toMatch(/^HTTP\/1.1 200 /);
  expect(backend.connections).toHaveLength(2);
  expect(requests).toBe(2);
});

/** As simple servers are: whatever follows a head is the next one, unless the connection was to be closed. */
async function bodyless(): Promise<{ backend: RawBackend; heads: string[] }> {
  const heads: string[] = [];
  const backend = await rawBackend((socket) => {
    let isLast = false;
    onHeads(socket, (head) => {
      if (isLast) return;
      heads.push(head);
      isLast = /\r\nConnection: close\r\n/.test(head);
      if (isLast) socket.end(OK);
      else socket.write(OK);
    });
  });
  return { backend, heads };
}

const FORGED = `GET /smuggled HTTP/1.1\r\nHost: ${GATE}\r\nTailscale-User-Login: boss@example.com\r\n\r\n`;

test.each(
  ["GET", "HEAD", "DELETE", "OPTIONS", "POST", "PUT", "PATCH"].flatMap((method) => [
    ["connect", method] as const,
    ["visit", method] as const,
  ]),
)("H1-11: by `%s`, a body on %s is no request of its own to a backend that ignores bodies", async (by, method) => {
  const { backend, heads } = await bodyless();
  const client = before(backend)[by](80);
  const bodies = [`Content-Length: ${FORGED.length}\r\n\r\n${FORGED}`];
  if (method !== "HEAD")
    bodies.push(`Transfer-Encoding: chunked\r\n\r\n${FORGED.length.toString(16)}\r\n${FORGED}\r\n0\r\n\r\n`);
  for (const body of bodies) {
    client.write(`${method} /first HTTP/1.1\r\nHost: ${GATE}\r\n${body}`);
    await read(client, (text) => (method === "HEAD" ? text.endsWith("\r\n\r\n") : text.endsWith("ok")));
    expect((await ask(client, "GET /next HTTP/1.1")).text).toMatch(/^HTTP\/1.1 200 /);
  }
  expect(heads.map((head) => head.split(" ").slice(0, 2).join(" "))).toEqual(
    bodies.flatMap(() => [`${method} /first`, "GET /next"]),
  );
  expect(heads.join("")).not.toContain("boss");
});

test.skipIf(findPeer("python3") === undefined)(
  "H1-11: Python's own server, whose handler answers a POST without reading it, took the body for the next request",
  async () => {
    const port = await pythonBackend();
    const client = before({ port, connections: [] }).connect(80);
    const { text } = await ask(client, "POST / HTTP/1.1", `Content-Length: ${FORGED.length}\r\n`, FORGED);
    expect(text).toMatch(/^HTTP\/1.1 200 /);
    const counted = await ask(client, "GET /count HTTP/1.1");
    expect(counted.text).toMatch(/\r\nX-Smuggled: 0\r\n/i);
  },
);

/** `http.server` with kept connections. Its handler reads no bodies, and counts what asks for `/smuggled`. */
async function pythonBackend(): Promise<number> {
  const program = `
import http.server
smuggled = 0
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        global smuggled
        smuggled += self.path == "/smuggled"
        self.send_response(200)
        self.send_header("X-Smuggled", str(smuggled))
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    do_GET = do_POST = answer
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
`;
  const python = spawn("python3", ["-c", program], { stdio: ["ignore", "pipe", "inherit"] });
  onClose(() => void python.kill());
  const [line] = (await once(python.stdout, "data")) as [Buffer];
  return Number(line);
}

test("H1-20: HEAD is answered with the length that GET has, and the backend's connection ends with it", async () => {
  const { scene, backend } = await answering("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", OK);
  const client = scene.connect(80);
  client.write(`HEAD / HTTP/1.1\r\nHost: ${GATE}\r\n\r\n`);
  const { text } = await read(client, (all) => all.endsWith("\r\n\r\n"));
  expect(text).toMatch(/^HTTP\/1.1 200 .*Content-Length: 99/s);
  expect((await ask(client)).text).toMatch(/^HTTP\/1.1 200 /);
  expect(backend.connections).toHaveLength(2);
});

test("a backend may answer while the body is still being sent, and both go on to their ends", async () => {
  const backend = http.createServer((request, response) => {
    response.writeHead(200);
    request.pipe(response);
  });
  onClose(() => backend.close());
  onClose(() => backend.closeAllConnections());
  const scene = before({ port: await listening(backend), connections: [] });
  const client = scene.connect(80);
  client.write(
    `POST / HTTP/1.1\r\nHost: ${GATE}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\none\r\n`,
  );
  await read(client, (text) => text.endsWith("one\r\n"));
  client.write("3\r\ntwo\r\n0\r\n\r\n");
  expect((await read(client)).text).toMatch(/3\r\ntwo\r\n0\r\n\r\n$/);
});

test.each([
  ["HEAD", "HEAD / HTTP/1.1", "HTTP/1.1 200 OK\r\nETag: x\r\n\r\n", /^HTTP\/1.1 200 .*ETag: x/s],
  ["204", "GET / HTTP/1.1", "HTTP/1.1 204 No Content\r\n\r\n", /^HTTP\/1.1 204 (?!.*content-length)/is],
  ["304", "GET / HTTP/1.1", "HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", /^HTTP\/1.1 304 .*ETag: x/s],
])("an answer without a body (%s) leaves both connections open", async (_, line, answer, wanted) => {
  const { scene, backend } = await answering(answer, OK);
  const client = scene.connect(80);
  client.write(`${line}\r\nHost: ${GATE}\r\n\r\n`);
  expect((await read(client, (text) => text.endsWith("\r\n\r\n"))).text).toMatch(wanted);
  expect((await ask(client)).text).toMatch(/^HTTP\/1.1 200 /);
  expect(backend.connections).toHaveLength(1);
});

test("informational answers and trailers travel; reserved names in them do not", async () => {
  const { scene } = await answering(
    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nTailscale-User-Login: evil\r\n\r\n" +
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n2\r\nok\r\n0\r\nX-T: t\r\nTailscale_User: evil\r\nContent-Length: 9\r\n\r\n",
  );
  const client = scene.connect(80);
  client.write(`GET / HTTP/1.1\r\nHost: ${GATE}\r\n\r\n`);
  const { text } = await read(client, (all) => all.endsWith("t\r\n\r\n"));
  expect(text).toMatch(/^HTTP\/1.1 103 Early Hints\r\nLink: <\/a>\r\n\r\nHTTP\/1.1 200 OK\r\n/);
  expect(text).toMatch(/\r\n0\r\nX-T: t\r\n\r\n$/);
  expect(text).not.toMatch(/evil/);
});

test("H1-23: a compressed answer passes as it is, also when it is none", async () => {
  const bomb = gzipSync(Buffer.alloc(8 * 1024 * 1024));
  for (const body of [bomb, Buffer.from("no gzip")]) {
    const head = `HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: ${body.length}\r\n\r\n`;
    const { scene } = await answering(head + body.toString("latin1"));
    const client = scene.connect(80);
    client.write(`GET / HTTP/1.1\r\nHost: ${GATE}\r\nConnection: close\r\n\r\n`);
    const { text } = await read(client);
    expect(text.slice(text.indexOf("\r\n\r\n") + 4) === body.toString("latin1")).toBe(true);
    expect(text).toMatch(/\r\nContent-Encoding: gzip\r\n/);
  }
});

test("the head of an answer is sent on at once, though its body is not there yet", async () => {
  const { scene } = await answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/event-stream\r\n\r\n");
  const client = scene.connect(80);
  client.write(`GET / HTTP/1.1\r\nHost: ${GATE}\r\n\r\n`);
  expect((await read(client, (text) => text.endsWith("\r\n\r\n"))).text).toMatch(/^HTTP\/1.1 200 /);
});

test("a connection to a backend serves one caller only", async () => {
  const { scene, backend } = await answering(OK);
  const bob = { ...ALICE, nodeKey: "bb", login: "bob@example.com" };
  const client = scene.connect(80);
  for (const caller of [ALICE, bob, ALICE, bob]) {
    scene.caller = caller;
    await ask(client);
  }
  expect(backend.connections).toHaveLength(2);
});

test("a unix socket is a backend, asked as localhost", async () => {
  const folder = mkdtempSync(path.join(os.tmpdir(), "sallyport-backend-"));
  onClose(() => rmSync(folder, { recursive: true }));
  const file = path.join(folder, "s");
  const heads: string[] = [];
  const server = net.createServer((socket) => {
    onHeads(socket, (head) => {
      heads.push(head);
      socket.write(OK);
    });
  });
  onClose(() => server.close());
  server.listen(file);
  await once(server, "listening");
  const client = proxyScene(webConfig({ "/": { Proxy: `unix:${file}` } })).connect(80);
  expect((await ask(client)).text).toMatch(/^HTTP\/1.1 200 /);
  expect(heads[0]).toMatch(/\r\nHost: localhost\r\n/);
});

test("a caller who is gone frees the backend at once", async () => {
  const backend = await rawBackend((socket) => onHeads(socket, () => undefined));
  const client = before(backend).connect(80);
  client.write(`GET / HTTP/1.1\r\nHost: ${GATE}\r\n\r\n`);
  await expect.poll(() => backend.connections.length, WAIT).toBe(1);
  client.destroy();
  await expect.poll(() => backend.connections[0]!.destroyed, WAIT).toBe(true);
});

test("a caller who does not read pauses the backend", async () => {
  let sent = 0;
  const backend = await rawBackend((socket) => {
    onHeads(socket, () => {
      socket.write("HTTP/1.1 200 OK\r\n\r\n");
      const part = Buffer.alloc(64 * 1024);
      const more = (): void => {
        while (socket.write(part)) sent += part.length;
        sent += part.length;
        socket.once("drain", more);
      };
      more();
    });
  });
  const client = before(backend).connect(80);
  client.pause();
  client.write(`GET / HTTP/1.1\r\nHost: ${GATE}\r\n\r\n`);
  while (backend.connections.length === 0) await turn();
  let last = -1;
  let turns = 0;
  // The kernel's buffers fill; then nothing moves any more.
  while (turns < 2000) {
    turns = sent === last ? turns + 1 : 0;
    last = sent;
    await turn();
  }
  expect(sent).toBeGreaterThan(0);
  expect(sent).toBeLessThan(32 * 1024 * 1024);
});

test("a backend that does not read pauses the caller", async () => {
  const backend = await rawBackend((socket) => void socket.pause());
  const client = before(backend).connect(80);
  client.write(`POST / HTTP/1.1\r\nHost: ${GATE}\r\nContent-Length: 1000000000\r\n\r\n`);
  let sent = 0;
  const part = Buffer.alloc(64 * 1024);
  const more = (): void => {
    do sent += part.length;
    while (client.write(part));
    client.once("drain", more);
  };
  more();
  let last = -1;
  let turns = 0;
  while (turns < 2000) {
    turns = sent === last ? turns + 1 : 0;
    last = sent;
    await turn();
  }
  expect(sent).toBeLessThan(64 * 1024 * 1024);
});

test("a backend that is not there in time is answered for with 504", async () => {
  const clock = new FakeClock();
  const socket = new Connecting();
  const handlers = { "/": { Proxy: "http://127.0.0.1:9" } };
  const client = proxyScene(webConfig(handlers), { clock, dialBackend: () => socket }).connect(80);
  const answer = ask(client);
  while (socket.written === 0) await turn(); // the request waits to be sent
  clock.advance(DIAL_MS);
  expect((await answer).text).toMatch(/^HTTP\/1.1 504 .*unreachable/s);
});

test("idle connections are few, and not kept for ever", async () => {
  const backend = await rawBackend((socket) => onHeads(socket, () => void socket.write(OK)));
  const clock = new FakeClock();
  const pool = new BackendPool(new BackendDialer({ clock }), clock, { open: 5, idle: 2, idleMs: 1000 });
  onClose(() => pool.destroy());
  const target = backendOf(`http://127.0.0.1:${backend.port}`) as Exclude<ReturnType<typeof backendOf>, Error>;
  const faults: string[] = [];
  const askOnce = (caller: string): Promise<void> =>
    new Promise((resolve) => {
      const ignored = (): void => undefined;
      const sink: AnswerSink = {
        started: ignored,
        drain: ignored,
        information: ignored,
        head: ignored,
        body: (_, isLast) => (isLast ? resolve() : undefined),
        flush: ignored,
        end: ignored,
        switched: ignored,
        failed: (fault) => {
          faults.push(fault.code);
          resolve();
        },
      };
      pool.ask(target, caller, { method: "GET", path: "/", host: "x", fields: [], body: "none" }, sink);
    });
  await Promise.all(["a", "b", "c", "d", "e", "f"].map(askOnce));
  expect(faults).toEqual(["PROXY_BACKENDS_BUSY"]);
  expect(pool.idleCount).toBe(2);
  clock.advance(999);
  expect(pool.idleCount).toBe(2);
  clock.advance(1);
  expect(pool.idleCount).toBe(0);
});
