import { once } from "node:events";
import type net from "node:net";
import { Duplex } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import tls from "node:tls";
import { afterEach, expect, test } from "vitest";
import { Gate } from "../../test/suites/gate.ts";
import type { GateUsage } from "../../test/suites/gate-process.ts";
import { inParallel } from "../../test/suites/in-parallel.ts";
import { metered } from "../../test/suites/metered-conn.ts";
import {
  certificateOf,
  closeScenes,
  GATE,
  onClose,
  onHeads,
  proxyScene,
  rawBackend,
  read,
  webConfig,
} from "../../test/suites/proxy-scene.ts";
import type { Proof } from "../base/conn.ts";
import { connPair } from "../base/conn-pair.ts";
import { asDuplex } from "../base/duplex.ts";
import { reset } from "./tunnel.ts";

afterEach(closeScenes);

/** The matrix has 10,000 of each. */
const CYCLES = Number(process.env["SALLYPORT_TUNNEL_CYCLES"] ?? 600);
const IDLE = Number(process.env["SALLYPORT_IDLE_TUNNELS"] ?? 1000);
const AT_ONCE = 200;
const SWITCH = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

function offer(path: string): string {
  const fields = `Host: ${GATE}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n`;
  return `GET ${path} HTTP/1.1\r\n${fields}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`;
}

/** Who cuts, and when; the backend does its part at the head, the caller once it has read that much. */
const BACKEND: Readonly<Record<string, (socket: net.Socket) => unknown>> = {
  "/reset": (socket) => reset(socket),
  "/end": (socket) => socket.end(),
  "/partial": (socket) => socket.end("HTTP/1.1 101 Swi"),
  "/switch-and-reset": (socket) => socket.write(SWITCH, () => reset(socket)),
  "/switch-and-talk-and-reset": (socket) => socket.write(`${SWITCH}${"x".repeat(50_000)}`, () => reset(socket)),
  "/switch": (socket) => socket.write(SWITCH),
  "/silent": () => undefined,
};
const CALLER: readonly ((socket: net.Socket, path: string) => Promise<unknown>)[] = [
  async (socket, path) => {
    socket.write(offer(path));
    if (path !== "/silent") await read(socket, (text) => text.includes("\r\n\r\n"));
    socket.resetAndDestroy();
  },
  async (socket, path) => {
    socket.write(offer(path));
    await turn();
    socket.resetAndDestroy();
  },
  async (socket, path) => {
    socket.write(`${offer(path)}early`);
    if (path === "/silent") return void socket.resetAndDestroy(); // an end is heard once the backend says something
    await read(socket, (text) => text.includes("\r\n\r\n"));
    socket.destroy();
  },
];

test.each(["http", "https"])(
  "WS-5: cycles of cuts by either side, before, during and after the 101, 200 at a time, %s backend",
  async (scheme) => {
    const { cert, key } = await certificateOf("127.0.0.1");
    const backend = await rawBackend(
      (socket) => onHeads(socket, (head) => BACKEND[head.split(" ")[1]!]!(socket)),
      scheme === "https" ? { cert, key } : {},
    );
    const gate = await Gate.start(`${scheme}://127.0.0.1:${backend.port}`, cert);
    const paths = Object.keys(BACKEND);
    const cycles = (times: number) =>
      inParallel(times, AT_ONCE, async (i) => {
        const socket = gate.connect();
        await once(socket, "connect");
        await CALLER[i % CALLER.length]!(socket, paths[Math.floor(i / CALLER.length) % paths.length]!);
      });
    await cycles(AT_ONCE);
    const before = await gate.empty();
    await cycles(CYCLES);
    let after = await gate.empty();
    while (after.descriptors > before.descriptors) after = await gate.usage();
    expect(gate.isAlive).toBe(true);
    expect(backend.connections.every(({ destroyed }) => destroyed)).toBe(true);
  },
  120_000,
);

test("WS-5: a backend that refuses, and callers who are gone before it does", async () => {
  const gate = await Gate.start("http://127.0.0.1:1");
  const before = await gate.usage();
  await inParallel(CYCLES, AT_ONCE, async (i) => {
    const socket = gate.connect();
    await once(socket, "connect");
    socket.write(offer("/"));
    if (i % 2 === 0) expect((await read(socket, (text) => text.endsWith("\n"))).text).toMatch(/^HTTP\/1.1 502 /);
    socket.resetAndDestroy();
  });
  expect((await gate.empty()).descriptors).toBeLessThanOrEqual(before.descriptors);
  expect(gate.isAlive).toBe(true);
}, 60_000);

/** Callers in memory cost no descriptor: 10,000 more of them would be above the limit of many machines. */
test.each(["by sockets", "in memory"])(
  `WS-6: ${IDLE} idle tunnels cost less than 32 KiB each, callers %s`,
  async (how) => {
    const backend = await rawBackend((socket) => onHeads(socket, () => socket.write(SWITCH)));
    const gate = await Gate.start(`http://127.0.0.1:${backend.port}`);
    const open = async (times: number): Promise<GateUsage> => {
      if (how === "in memory") return gate.usage({ tunnels: times, offer: offer("/") });
      await inParallel(times, AT_ONCE, async () => {
        const socket = gate.connect();
        socket.write(offer("/"));
        await read(socket, (text) => text.endsWith("\r\n\r\n"));
      });
      return gate.usage();
    };
    const before = await open(2 * AT_ONCE);
    const after = await open(IDLE);
    expect(after.open).toBe(2 * AT_ONCE + IDLE);
    expect((after.rss - before.rss) / IDLE).toBeLessThan(32 * 1024);
  },
  600_000,
);

/** A backend that switches, sends as much as is taken, and takes nothing. */
class Switching extends Duplex {
  sent = 0;
  #isTunnel = false;

  override _write(_chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    if (this.#isTunnel) return; // and never done
    this.#isTunnel = true;
    this.push(SWITCH);
    done();
  }

  override _read(bytes: number): void {
    if (!this.#isTunnel) return;
    this.sent += bytes;
    setImmediate(() => void this.push(Buffer.alloc(bytes)));
  }
}

const MOST_WAITING = 256 * 1024;

test.each([80, 443])(
  "WS-6: 1 GiB for a side that does not read, on port %d: what waits in the gateway, both ways, is bounded",
  async (port) => {
    const backend = new Switching();
    const scene = proxyScene(webConfig({ "/": { Proxy: "http://127.0.0.1:1" } }), { dialBackend: () => backend });
    const proof: Proof = {
      kind: "mesh",
      nodeKey: "aa",
      source: { address: "100.64.0.2", port: 40_000 },
      destination: { address: "100.64.0.1", port },
    };
    const [near, far] = connPair(proof);
    const { conn, came, left } = metered(far);
    scene.proxy.accept(conn, port);
    const wire = asDuplex(near);
    onClose(() => wire.destroy());
    const client = port === 80 ? wire : tls.connect({ socket: wire, servername: GATE, rejectUnauthorized: false });
    client.on("error", () => undefined);
    client.write(offer("/"));
    await new Promise<void>((resolve) => void client.once("data", () => resolve()));
    client.pause();
    let sent = 0;
    const part = Buffer.alloc(64 * 1024);
    const more = (): void => {
      for (let isRoomy = true; isRoomy && sent < 1024 * 1024 * 1024; sent += part.length) isRoomy = client.write(part);
    };
    client.on("drain", more);
    more();
    const moved = (): number => backend.sent + came() + left();
    for (let last = -1, turns = 0; turns < 200; turns++) {
      if (moved() !== last) turns = 0;
      last = moved();
      await turn();
    }
    expect(client.writableLength).toBeGreaterThan(0); // there was more to come
    expect(came()).toBeLessThanOrEqual(MOST_WAITING);
    expect(backend.sent - left()).toBeLessThanOrEqual(MOST_WAITING);
  },
);
