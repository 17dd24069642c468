import { once } from "node:events";
import http, { type IncomingMessage } from "node:http";
import https from "node:https";
import type net from "node:net";
import type { Duplex } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import tls from "node:tls";
import { afterEach, expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { listening } from "../../test/suites/listening.ts";
import {
  certificateOf,
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

afterEach(closeScenes);

const SWITCH = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
const FIELDS = {
  Host: GATE,
  Connection: "Upgrade",
  Upgrade: "websocket",
  "Sec-WebSocket-Version": "13",
  "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
};

/** An upgrade request, with some fields set otherwise, or left out where `undefined`. */
function offer(fields: Readonly<Record<string, string | undefined>> = {}, line = "GET /ws HTTP/1.1"): string {
  const lines = Object.entries({ ...FIELDS, ...fields }).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}: ${value}\r\n`],
  );
  return `${line}\r\n${lines.join("")}\r\n`;
}

function before(port: number, scheme = "http", roots: string[] = []): ProxyScene {
  return proxyScene(webConfig({ "/": { Proxy: `${scheme}://127.0.0.1:${port}` } }), { backendRoots: roots });
}

/** A backend that switches at every head, whatever it says, and then only listens. */
function switching(heads: string[] = []): Promise<RawBackend> {
  return rawBackend((socket) => {
    onHeads(socket, (head) => {
      heads.push(head);
      socket.write(/^upgrade:/im.test(head) ? SWITCH : "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain");
    });
  });
}

test.each([
  ["h2c", offer({ Upgrade: "h2c" })],
  ["TLS", offer({ Upgrade: "TLS/1.0" })],
  ["two protocols", offer({ Upgrade: "websocket, h2c" })],
  ["another method", offer({ "Content-Length": "0" }, "POST /ws HTTP/1.1")],
  ["HTTP/1.0", offer({}, "GET /ws HTTP/1.0")],
  ["version 12", offer({ "Sec-WebSocket-Version": "12" })],
  ["no version", offer({ "Sec-WebSocket-Version": undefined })],
  ["no key", offer({ "Sec-WebSocket-Key": undefined })],
  ["a key of 15 bytes", offer({ "Sec-WebSocket-Key": "MTIzNDU2Nzg5MDEyMzQ1" })],
  ["a key that is no base64", offer({ "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZ===" })],
  ["two keys", offer({ "Sec-WebSocket-Key": `${FIELDS["Sec-WebSocket-Key"]}, ${FIELDS["Sec-WebSocket-Key"]}` })],
  ["a protocol that nobody knows", offer({ Upgrade: "carrier-pigeon" })],
  ["a version behind the name", offer({ Upgrade: "websocket/13" })],
  ["no protocol", offer({ Upgrade: "" })],
  ["PUT", offer({}, "PUT /ws HTTP/1.1")],
  ["version 13 and another", offer({ "Sec-WebSocket-Version": "13, 8" })],
  ["a key of 17 bytes", offer({ "Sec-WebSocket-Key": "MTIzNDU2Nzg5MDEyMzQ1Njc=" })],
  ["an empty key", offer({ "Sec-WebSocket-Key": "" })],
  ["no Connection", offer({ Connection: undefined })],
  [
    "h2c with its settings",
    offer({ Upgrade: "h2c", Connection: "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AAMAAABk" }),
  ],
  ["no token in Connection", offer({ Connection: "keep-alive" })],
  ["a token that only looks like it", offer({ Connection: "upgraded, x-upgrade" })],
  ["two offers", offer().replace("\r\n\r\n", "\r\nUpgrade: websocket\r\n\r\n")],
  ["an offer behind another one", offer({ Upgrade: "h2c" }).replace("\r\n\r\n", "\r\nUpgrade: websocket\r\n\r\n")],
  ["two fields with a key", offer().replace("\r\n\r\n", "\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")],
  ["two fields with a version", offer().replace("\r\n\r\n", "\r\nSec-WebSocket-Version: 13\r\n\r\n")],
  ["HEAD", offer({}, "HEAD /ws HTTP/1.1")],
  ["OPTIONS", offer({}, "OPTIONS /ws HTTP/1.1")],
  ["CONNECT", offer({}, `CONNECT ${GATE}:80 HTTP/1.1`)],
  ["a name of WebSocket's extension of HTTP/2", offer({ ":protocol": "websocket", Upgrade: undefined })],
])("WS-1: no tunnel for %s; what the backend gets offers nothing", async (_, bytes) => {
  const heads: string[] = [];
  const backend = await switching(heads);
  const client = before(backend.port).connect(80);
  client.write(bytes);
  const { text } = await read(client, (all) => /plain$|\n$/.test(all) && all.includes("\r\n\r\n"));
  expect(text).not.toMatch(/^HTTP\/1.1 101/);
  for (const head of heads) expect(head).not.toMatch(/^(?:upgrade|connection):/im);
});

test("WS-1: names and tokens in any case, among others, do switch", async () => {
  const backend = await switching();
  const client = before(backend.port).connect(80);
  client.write(offer({ Connection: "keep-alive, UPGRADE", Upgrade: "WebSocket" }));
  expect((await read(client, (text) => text.endsWith("\r\n\r\n"))).text).toMatch(/^HTTP\/1.1 101 /);
});

test.each([
  ["a length", offer({ "Content-Length": "3" }), "abc"],
  ["chunks", offer({ "Transfer-Encoding": "chunked" }), "0\r\n\r\n"],
])("WS-2: an upgrade with a body (%s) is refused, the backend untouched", async (_, head, body) => {
  const backend = await switching();
  const client = before(backend.port).connect(80);
  client.write(head + body);
  expect((await read(client)).text).toMatch(/^HTTP\/1.1 400 /);
  expect(backend.connections).toHaveLength(0);
});

test("WS-2: what comes early waits for the 101, and is then all there, in order", async () => {
  let early = "";
  const asked = Promise.withResolvers<net.Socket>();
  const backend = await rawBackend((socket) => {
    onHeads(socket, () => {
      socket.on("data", (part: Buffer) => (early += String(part)));
      asked.resolve(socket);
    });
  });
  const client = before(backend.port).connect(80);
  client.write(`${offer()}one `);
  const socket = await asked.promise;
  client.write("two ");
  for (let i = 0; i < 50; i++) await turn();
  expect(early).toBe("");
  socket.write(SWITCH);
  await read(client, (text) => text.endsWith("\r\n\r\n"));
  client.write("three");
  while (early.length < 13) await turn();
  expect(early).toBe("one two three");
});

test.each(["GET /evil HTTP/1.1\r\nHost: x\r\n\r\n", "\x81\x85\x01\x02\x03\x04ig`he"])(
  "WS-2: what came early with an offer that is refused is no request, and the connection ends",
  async (early) => {
    const heads: string[] = [];
    const backend = await rawBackend((socket) => {
      onHeads(socket, (head) => {
        heads.push(head);
        socket.write("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
      });
    });
    const client = before(backend.port).connect(80);
    client.write(offer() + early);
    const { text } = await read(client);
    expect(text).toMatch(/^HTTP\/1.1 403 .*Connection: close.*\r\n\r\nno$/s);
    expect(heads).toHaveLength(1);
  },
);

test.each([
  [
    "says no",
    80,
    "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
    /^HTTP\/1.1 403 .*Connection: close.*\r\n\r\nno$/s,
  ],
  ["says no, over TLS", 443, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", /^HTTP\/1.1 403 .*\r\n\r\nno$/s],
  ["switches to something else", 80, SWITCH.replace("websocket", "h2c"), /^HTTP\/1.1 502 .*Connection: close.*\n$/s],
  ["dies", 80, "", /^HTTP\/1.1 502 .*\n$/s],
])(
  "WS-2: what came behind an offer, in a packet of its own, was the next request when the backend %s",
  async (_, port, answer, wanted) => {
    const asked = Promise.withResolvers<net.Socket>();
    const heads: string[] = [];
    const backend = await rawBackend((socket) => {
      onHeads(socket, (head) => {
        heads.push(head);
        asked.resolve(socket);
      });
    });
    const wire = before(backend.port).connect(port);
    const client = port === 80 ? wire : tls.connect({ socket: wire, servername: GATE, rejectUnauthorized: false });
    const done = read(client);
    client.write(offer());
    const socket = await asked.promise;
    client.write(`GET /evil HTTP/1.1\r\nHost: ${GATE}\r\n\r\n`);
    for (let i = 0; i < 50; i++) await turn();
    socket.end(answer);
    expect((await done).text).toMatch(wanted);
    expect(heads).toHaveLength(1);
  },
);

test.each([
  ["200", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", /^HTTP\/1.1 200 .*ok$/s],
  ["403", "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", /^HTTP\/1.1 403 .*no$/s],
  ["426", "HTTP/1.1 426 x\r\nSec-WebSocket-Version: 13\r\nContent-Length: 2\r\n\r\nno", /^HTTP\/1.1 426 .*no$/s],
  ["a 101 to something else", SWITCH.replace("websocket", "h2c"), /^HTTP\/1.1 502 .*\n$/s],
  ["a 101 to two things", SWITCH.replace("websocket", "websocket, h2c"), /^HTTP\/1.1 502 .*\n$/s],
  ["a 101 to nothing", "HTTP/1.1 101 Switching Protocols\r\n\r\n", /^HTTP\/1.1 502 .*\n$/s],
  ["no HTTP", "hello there\r\n\r\n", /^HTTP\/1.1 502 .*\n$/s],
])("WS-3: no tunnel when the backend answers with %s; the connection goes on", async (_, answer, wanted) => {
  let requests = 0;
  const backend = await rawBackend((socket) => {
    onHeads(socket, () => socket.write(requests++ === 0 ? answer : "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
  });
  const client = before(backend.port).connect(80);
  client.write(offer());
  const { text } = await read(client, (all) => /\r\n\r\n.+$/s.test(all));
  expect(text).toMatch(wanted);
  client.write(`GET / HTTP/1.1\r\nHost: ${GATE}\r\n\r\n`);
  expect((await read(client, (all) => all.endsWith("ok"))).text).toMatch(/^HTTP\/1.1 200 /);
  expect(backend.connections).toHaveLength(2);
});

test("WS-4, ID-1: an upgrade carries the caller's identity, once, and no spelling of a forged one", async () => {
  const heads: string[] = [];
  const backend = await switching(heads);
  const names = ["-", "_", ".", "~", "--"].flatMap((mark) =>
    ["User-Login", "User-Name", "App-Capabilities", "Funnel-Request"].flatMap((name) =>
      ["Tailscale", "tailscale", "SALLYPORT"].map((prefix) => `${prefix}${mark}${name.replaceAll("-", mark)}`),
    ),
  );
  const client = before(backend.port).connect(80);
  client.write(
    offer({ Connection: "Upgrade, Tailscale-User-Login", ...Object.fromEntries(names.map((n) => [n, "evil"])) }),
  );
  expect((await read(client, (text) => text.endsWith("\r\n\r\n"))).text).toMatch(/^HTTP\/1.1 101 /);
  expect(heads[0]).not.toContain("evil");
  expect(heads[0]!.match(/^tailscale-user-login: alice@example.com\r$/gim)).toHaveLength(1);
  expect(heads[0]!.match(/^connection: upgrade\r$/gim)).toHaveLength(1);
});

test("WS-4: reserved names in the answer to an upgrade do not reach the caller", async () => {
  const backend = await rawBackend((socket) => {
    onHeads(socket, () => socket.write(SWITCH.replace("\r\n\r\n", "\r\nTailscale-User-Login: evil\r\nX-A: b\r\n\r\n")));
  });
  const client = before(backend.port).connect(80);
  client.write(offer());
  const { text } = await read(client, (all) => all.endsWith("\r\n\r\n"));
  expect(text).toMatch(/^HTTP\/1.1 101 .*X-A: b/s);
  expect(text).not.toContain("evil");
});

function opened(server: http.Server | https.Server): Promise<number> {
  onClose(() => server.close());
  onClose(() => server.closeAllConnections());
  return listening(server);
}

/** A `ws` client over a connection through the proxy. */
function webSocket(stream: Duplex): WebSocket {
  // `ws` asks for the connection by this option of node:http.
  return new WebSocket(`ws://${GATE}/ws`, { createConnection: () => stream as net.Socket, perMessageDeflate: true });
}

test.each(["http", "https"])("a real WebSocket client and server through the proxy, %s backend", async (scheme) => {
  const { cert, key } = await certificateOf("127.0.0.1");
  const server = scheme === "http" ? http.createServer() : https.createServer({ cert, key });
  const sockets = new WebSocketServer({ server });
  sockets.on("connection", (socket, request: IncomingMessage) => {
    socket.send(`hello ${request.headers["tailscale-user-login"]}`);
    socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  });
  const port = await opened(server);
  const client = webSocket(before(port, scheme, [cert]).connect(80));
  expect(String((await once(client, "message"))[0])).toBe("hello alice@example.com");
  for (const size of [0, 1, 125, 126, 65_535, 65_536, 1024 * 1024]) {
    const sent = Buffer.alloc(size, size % 251);
    client.send(sent);
    expect(((await once(client, "message"))[0] as Buffer).equals(sent)).toBe(true);
  }
  client.close(1000, "bye");
  expect((await once(client, "close"))[0]).toBe(1000);
});

test("WS-6: a side that does not read stops the other; what waits between them is bounded", async () => {
  const asked = Promise.withResolvers<net.Socket>();
  const backend = await rawBackend((socket) => onHeads(socket, () => asked.resolve(socket)));
  const client = before(backend.port).connect(80);
  client.write(offer());
  const socket = await asked.promise;
  socket.write(SWITCH);
  await read(client, (text) => text.endsWith("\r\n\r\n"));
  client.pause();
  socket.pause();
  for (const from of [socket, client]) {
    let sent = 0;
    const part = Buffer.alloc(64 * 1024);
    const more = (): void => {
      do sent += part.length;
      while (from.write(part) && sent < 1024 * 1024 * 1024);
      from.once("drain", more);
    };
    more();
    for (let last = -1, turns = 0; turns < 2000; turns++) {
      if (sent !== last) turns = 0;
      last = sent;
      await turn();
    }
    expect(sent).toBeLessThan(32 * 1024 * 1024); // most of it in the kernel's buffers of the loopback
  }
});

const FIRST = ["caller", "backend"].flatMap((first) =>
  [80, 443].flatMap((port) => ["http", "https"].map((scheme) => [first, port, scheme] as const)),
);

test.each(FIRST)(
  "WS-7: the %s may end first, port %d, %s backend; the other direction goes on to its end",
  async (...at) => {
    const [first, port, scheme] = at;
    const asked = Promise.withResolvers<net.Socket>();
    const { cert, key } = await certificateOf("127.0.0.1");
    const backend = await rawBackend((socket) => onHeads(socket, () => asked.resolve(socket)), {
      allowHalfOpen: true,
      ...(scheme === "https" ? { cert, key } : {}),
    });
    const wire = before(backend.port, scheme, [cert]).connect(port);
    const client =
      port === 80
        ? wire
        : tls.connect({
            socket: wire,
            servername: GATE,
            rejectUnauthorized: false,
            allowHalfOpen: true,
          } as tls.ConnectionOptions);
    client.on("error", () => void client.destroy());
    client.write(offer());
    const socket = await asked.promise;
    socket.write(SWITCH);
    await read(client, (text) => text.endsWith("\r\n\r\n"));
    const [one, other] = first === "caller" ? [client, socket] : [socket, client];
    const heard = read(other);
    one.end("first");
    expect(await heard).toEqual({ text: "first", isCut: false });
    const rest = "x".repeat(1024 * 1024);
    const answer = read(one);
    other.end(rest);
    const { text, isCut } = await answer;
    expect(text === rest).toBe(true);
    expect(isCut).toBe(false);
  },
);

/** What the backend does at the head of an upgrade to that path. */
const ENDS: Readonly<Record<string, (socket: net.Socket) => unknown>> = {
  "/reset": (socket) => socket.resetAndDestroy(),
  "/partial": (socket) => socket.end("HTTP/1.1 101 Swi"),
  "/switch-and-reset": (socket) => socket.write(SWITCH, () => socket.resetAndDestroy()),
  "/switch": (socket) => socket.write(SWITCH), // the caller cuts then
  "/silent": () => undefined, // the caller cuts, having waited
};

test("WS-5: whoever cuts, and whenever: the other side is cut too, and nothing stays open", async () => {
  const backend = await rawBackend((socket) => onHeads(socket, (head) => ENDS[head.split(" ")[1]!]!(socket)));
  const scene = before(backend.port);
  const cycle = async (path: string): Promise<void> => {
    const client = scene.connect(80);
    client.write(offer({}, `GET ${path} HTTP/1.1`));
    if (path === "/silent") while (backend.connections.every(({ bytesRead }) => bytesRead === 0)) await turn();
    else
      expect((await read(client, (text) => text.includes("\r\n\r\n"))).text).toMatch(/^(?:HTTP\/1.1 (?:101|502) |$)/);
    client.destroy();
  };
  for (let round = 0; round < 40; round++) await Promise.all(Object.keys(ENDS).map(cycle));
  while (backend.connections.some(({ destroyed }) => !destroyed)) await turn();
  expect(backend.connections.length).toBeGreaterThan(100);
});

test("WS-5: a backend that refuses, and a caller who is gone while it is dialled", async () => {
  const scene = before(1);
  for (let i = 0; i < 50; i++) {
    const gone = scene.connect(80);
    gone.write(offer());
    gone.destroy();
    const client = scene.connect(80);
    client.write(offer());
    expect((await read(client, (text) => text.endsWith("\n"))).text).toMatch(/^HTTP\/1.1 502 /);
  }
});
