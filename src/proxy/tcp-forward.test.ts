import { once } from "node:events";
import net from "node:net";
import type { Duplex } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import tls from "node:tls";
import { afterEach, expect, test } from "vitest";
import { listening } from "../../test/suites/listening.ts";
import {
  Connecting,
  certificateOf,
  closeScenes,
  GATE,
  onClose,
  type ProxyScene,
  proxyScene,
  rawBackend,
  read,
} from "../../test/suites/proxy-scene.ts";
import { FakeClock } from "../base/clock.ts";
import type { Proof } from "../base/conn.ts";
import { Fault } from "../base/fault.ts";
import type { TcpPortHandler } from "../wire/serve-config.ts";
import type { ProxyOptions } from "./options.ts";
import { proxyHeader } from "./proxy-protocol.ts";
import { forwardPlace } from "./tcp-forward.ts";
import { DIAL_MS } from "./upstream/dial.ts";

afterEach(closeScenes);

const HALF_OPEN = { allowHalfOpen: true };

function tcpScene(handler: TcpPortHandler, options: Partial<ProxyOptions> = {}): ProxyScene {
  return proxyScene({ TCP: { 5000: handler } }, options);
}

test.each([
  ["127.0.0.1:80", { host: "127.0.0.1", port: 80 }],
  ["[::1]:65535", { host: "::1", port: 65535 }],
  ["db.internal:5432", { host: "db.internal", port: 5432 }],
  ["unix:/run/x", { path: "/run/x" }],
  ["::1:80", undefined],
  ["host", undefined],
  ["host:0", undefined],
  ["host:65536", undefined],
  ["host:8o", undefined],
])("a TCP target %s", (value, place) => {
  expect(forwardPlace(value)).toEqual(place);
});

test("16 MiB each way at once, whole; then each side ends on its own", async () => {
  const sent = Buffer.alloc(16 * 1024 * 1024, "0123456789abcdefg");
  const received: Buffer[] = [];
  const got = Promise.withResolvers<void>();
  const backend = await rawBackend((socket) => {
    socket.end(sent); // its side ends first; ours goes on
    socket.on("data", (part: Buffer) => received.push(part));
    socket.on("end", () => got.resolve());
  }, HALF_OPEN);
  const client = tcpScene({ TCPForward: `127.0.0.1:${backend.port}` }).connect(5000);
  const down = read(client);
  client.write(sent);
  expect((await down).text === sent.toString()).toBe(true);
  client.end("the rest");
  await got.promise;
  expect(Buffer.concat(received).equals(Buffer.concat([sent, Buffer.from("the rest")]))).toBe(true);
});

test("a caller that ends first still gets its answer", async () => {
  const backend = await rawBackend((socket) => {
    let text = "";
    socket.on("data", (part) => (text += String(part)));
    socket.on("end", () => socket.end(`got ${text}`));
  }, HALF_OPEN);
  const client = tcpScene({ TCPForward: `127.0.0.1:${backend.port}` }).connect(5000);
  client.end("question");
  expect(await read(client)).toEqual({ text: "got question", isCut: false });
});

/** How much `client` gets rid of before nothing moves any more. */
async function sendUntilStuck(client: Duplex): Promise<number> {
  let sent = 0;
  const part = Buffer.alloc(64 * 1024);
  const more = (): void => {
    do sent += part.length;
    while (client.write(part) && sent < 1024 * 1024 * 1024);
    client.once("drain", more);
  };
  more();
  for (let last = -1, turns = 0; turns < 2000; turns++) {
    if (sent !== last) turns = 0;
    last = sent;
    await turn();
  }
  return sent;
}

test("while the backend is not there yet, nothing of the caller's is taken", async () => {
  const socket = new Connecting();
  const client = tcpScene({ TCPForward: "127.0.0.1:1" }, { dialBackend: () => socket }).connect(5000);
  const sent = await sendUntilStuck(client);
  expect(socket.written + socket.writableLength).toBe(0);
  expect(sent).toBeLessThan(2 * 1024 * 1024); // the rings between the two ends
});

test("a backend that is not there in time costs the connection", async () => {
  const clock = new FakeClock();
  const socket = new Connecting();
  const client = tcpScene({ TCPForward: "127.0.0.1:1" }, { dialBackend: () => socket, clock }).connect(5000);
  const cut = read(client);
  clock.advance(DIAL_MS - 1);
  expect(socket.destroyed).toBe(false);
  clock.advance(1);
  expect(await cut).toEqual({ text: "", isCut: true });
  expect(socket.destroyed).toBe(true);
});

test("a backend that does not read slows its caller", async () => {
  const backend = await rawBackend((socket) => void socket.pause());
  const client = tcpScene({ TCPForward: `127.0.0.1:${backend.port}` }).connect(5000);
  expect(await sendUntilStuck(client)).toBeLessThan(32 * 1024 * 1024); // most of it in the kernel
});

test("a backend that refuses, and one that resets, cut the caller", async () => {
  const server = net.createServer();
  const port = await listening(server);
  await new Promise((resolve) => server.close(resolve));
  expect((await read(tcpScene({ TCPForward: `127.0.0.1:${port}` }).connect(5000))).isCut).toBe(true);
  const backend = await rawBackend((socket) => {
    socket.on("data", () => socket.resetAndDestroy());
    socket.write("part");
  });
  const client = tcpScene({ TCPForward: `127.0.0.1:${backend.port}` }).connect(5000);
  client.write("x");
  expect(await read(client)).toEqual({ text: "part", isCut: true });
});

test("a caller that is cut resets the backend: what is cut does not look complete", async () => {
  const cut = Promise.withResolvers<string>();
  const backend = await rawBackend((socket) => {
    socket.on("end", () => cut.resolve("end"));
    socket.on("error", (error: NodeJS.ErrnoException) => cut.resolve(error.code ?? ""));
    socket.write("hello");
  });
  const client = tcpScene({ TCPForward: `127.0.0.1:${backend.port}` }).connect(5000);
  await read(client, (text) => text === "hello");
  client.destroy();
  expect(await cut.promise).toBe("ECONNRESET");
});

const V6: Proof = {
  kind: "mesh",
  nodeKey: "aa",
  source: { address: "fd7a::2", port: 40_000 },
  destination: { address: "fd7a::1", port: 5000 },
};

test("PROXY headers as haproxy's document has them", () => {
  expect(Buffer.from(proxyHeader(1, V6, 25)!).toString()).toBe("PROXY TCP6 fd7a::2 fd7a::1 40000 25\r\n");
  const v4: Proof = {
    ...V6,
    source: { address: "100.64.0.2", port: 40_000 },
    destination: { address: "100.64.0.1", port: 5000 },
  };
  expect(Buffer.from(proxyHeader(1, v4, 25)!).toString()).toBe("PROXY TCP4 100.64.0.2 100.64.0.1 40000 25\r\n");
  const signature = "0d0a0d0a000d0a515549540a";
  expect(Buffer.from(proxyHeader(2, v4, 25)!).toString("hex")).toBe(
    `${signature}2111000c${"64400002"}${"64400001"}${"9c40"}${"0019"}`,
  );
  expect(Buffer.from(proxyHeader(2, V6, 25)!).toString("hex")).toBe(
    `${signature}21210024fd7a${"0".repeat(27)}2fd7a${"0".repeat(27)}19c400019`,
  );
  // A visitor of an ingress is the source; where the families differ, our side is localhost, as upstream has it.
  const visitor: Proof = {
    kind: "ingress",
    nodeKey: "aa",
    visitor: { address: "203.0.113.7", port: 1 },
    destination: V6.destination,
  };
  expect(Buffer.from(proxyHeader(1, visitor, 25)!).toString()).toBe("PROXY TCP4 203.0.113.7 127.0.0.1 1 25\r\n");
  // Version 2 says what he is, in a TLV of type 0xE0 (section 2.2.7: for applications).
  expect(Buffer.from(proxyHeader(2, visitor, 25)!).toString("hex")).toBe(
    `${signature}21110015cb0071077f00000100010019${"e00006"}${Buffer.from("funnel").toString("hex")}`,
  );
  const fromV6: Proof = { ...visitor, visitor: { address: "2001:db8::7", port: 1 } };
  expect(Buffer.from(proxyHeader(2, fromV6, 25)!).toString("hex")).toBe(
    `${signature}2121002d20010db8${"0".repeat(23)}7fd7a${"0".repeat(27)}100010019${"e00006"}66756e6e656c`,
  );
});

test.each([1, 2])("PROXY protocol %i goes before the first byte of the caller", async (version) => {
  const got = Promise.withResolvers<Buffer>();
  const backend = await rawBackend(
    (socket) => void socket.toArray().then((parts) => got.resolve(Buffer.concat(parts))),
  );
  const client = tcpScene({ TCPForward: `127.0.0.1:${backend.port}`, ProxyProtocol: version }).connect(5000);
  client.end("PROXY TCP4 6.6.6.6 6.6.6.6 6 6\r\n");
  const text = (await got.promise).toString("latin1");
  const proof: Proof = {
    kind: "mesh",
    nodeKey: "aa",
    source: { address: "100.64.0.2", port: 40_000 },
    destination: { address: "100.64.0.1", port: 5000 },
  };
  const header = Buffer.from(proxyHeader(version, proof, backend.port)!).toString("latin1");
  expect(text).toBe(`${header}PROXY TCP4 6.6.6.6 6.6.6.6 6 6\r\n`);
});

test.each([
  ["a socket file", { TCPForward: "unix:/run/x", ProxyProtocol: 1 }],
  ["no place", { TCPForward: "nowhere" }],
])("a PROXY header or target that cannot be (%s): the caller is cut and no backend asked", async (_, handler) => {
  let dialled = 0;
  const dialBackend = (): Duplex => {
    dialled++;
    return new Connecting();
  };
  expect((await read(tcpScene(handler, { dialBackend }).connect(5000))).isCut).toBe(true);
  expect(dialled).toBe(0);
});

test("TLS that ends here: the backend gets plain bytes, and each direction ends on its own", async () => {
  const got = Promise.withResolvers<string>();
  const backend = await rawBackend((socket) => {
    let text = "";
    socket.on("data", (part) => (text += String(part)));
    socket.on("end", () => {
      got.resolve(text);
      socket.end("answer");
    });
  }, HALF_OPEN);
  const scene = tcpScene({ TCPForward: `127.0.0.1:${backend.port}`, TerminateTLS: GATE, ProxyProtocol: 1 });
  const { cert } = await certificateOf(GATE);
  const secure = tls.connect({ socket: scene.connect(5000), servername: GATE, ca: cert });
  onClose(() => secure.destroy());
  await once(secure, "secureConnect");
  secure.end("question");
  expect(await got.promise).toBe(`PROXY TCP4 100.64.0.2 100.64.0.1 40000 ${backend.port}\r\nquestion`);
  expect(await read(secure)).toMatchObject({ text: "answer" });
});

test("WS-5: a backend that breaks off is no clean end to a caller behind TLS who has said his own", async () => {
  const backend = await rawBackend((socket) => {
    socket.resume().once("end", () => void socket.resetAndDestroy());
    socket.write("half of the ans");
  }, HALF_OPEN);
  const scene = tcpScene({ TCPForward: `127.0.0.1:${backend.port}`, TerminateTLS: GATE });
  const { cert } = await certificateOf(GATE);
  const secure = tls.connect({ socket: scene.connect(5000), servername: GATE, ca: cert });
  secure.on("error", () => undefined);
  onClose(() => secure.destroy());
  await read(secure, (text) => text === "half of the ans");
  const end = read(secure);
  secure.end("question");
  expect((await end).isCut).toBe(true);
});

test.each(["as it came", "out of TLS"])(
  "WS-5: a proxy that closes is no clean end to a backend in the middle of what it is sent, %s",
  async (how) => {
    const outcome = Promise.withResolvers<{ text: string; isCut: boolean }>();
    const begun = Promise.withResolvers<void>();
    const backend = await rawBackend((socket) => {
      socket.once("data", () => begun.resolve());
      outcome.resolve(read(socket));
    });
    const end = how === "as it came" ? {} : { TerminateTLS: GATE };
    const scene = tcpScene({ TCPForward: `127.0.0.1:${backend.port}`, ...end });
    const raw = scene.connect(5000);
    const { cert } = await certificateOf(GATE);
    const caller = how === "as it came" ? raw : tls.connect({ socket: raw, servername: GATE, ca: cert });
    caller.on("error", () => undefined);
    caller.write("the first half");
    await begun.promise;
    await scene.proxy.close();
    expect(await outcome.promise).toEqual({ text: "the first half", isCut: true });
  },
);

test("TL-2: TLS that ends here is for one name; no backend hears of another", async () => {
  const backend = await rawBackend(() => undefined);
  const scene = tcpScene({ TCPForward: `127.0.0.1:${backend.port}`, TerminateTLS: GATE });
  const secure = tls.connect({ socket: scene.connect(5000), servername: "other.test", rejectUnauthorized: false });
  await expect(once(secure, "secureConnect")).rejects.toBeInstanceOf(Error);
  expect(backend.connections).toHaveLength(0);
});

test("WS-8, ID-11: a caller that is revoked is cut, and so is what it was joined to", async () => {
  const cut = Promise.withResolvers<void>();
  const backend = await rawBackend((socket) => {
    socket.write("hello");
    socket.on("close", () => cut.resolve());
  });
  const scene = tcpScene({ TCPForward: `127.0.0.1:${backend.port}` });
  const client = scene.connect(5000);
  await read(client, (text) => text === "hello");
  const end = read(client);
  scene.revoke.abort(new Fault("IDENTITY_REVOKED", "gone"));
  await cut.promise;
  expect((await end).isCut).toBe(true);
});
