import { Duplex } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import tls from "node:tls";
import { afterEach, expect, test } from "vitest";
import { metered } from "../../test/suites/metered-conn.ts";
import {
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
import { recordingBackend } from "../../test/suites/recording-backend.ts";
import { FakeClock } from "../base/clock.ts";
import { connPair } from "../base/conn-pair.ts";
import { asDuplex, type ConnDuplex } from "../base/duplex.ts";

afterEach(closeScenes);

const WAIT = { timeout: 20_000 };
const HEAD = `GET / HTTP/1.1\r\nHost: ${GATE}\r\n`;

interface Stage extends ProxyScene {
  readonly clock: FakeClock;
}

function before({ port }: RawBackend): Stage {
  const clock = new FakeClock();
  return Object.assign(proxyScene(webConfig({ "/": { Proxy: `http://127.0.0.1:${port}` } }), { clock }), { clock });
}

/** Time passes in steps, with turns for whatever wakes. */
async function pass(clock: FakeClock, ms: number, step: number, each: () => void = () => {}): Promise<void> {
  for (let at = 0; at < ms; at += step) {
    clock.advance(step);
    each();
    for (let i = 0; i < 5; i++) await turn();
  }
}

async function served({ connect }: ProxyScene, nodeKey: string): Promise<string> {
  const client = connect(80, nodeKey);
  const done = read(client, (text) => text.endsWith("ok"));
  client.write(`${HEAD}\r\n`);
  const { text } = await done;
  client.destroy();
  return text.slice(9, 12);
}

/** `SALLYPORT_FUZZ`: all of the row. */
const [ONE, EACH] = process.env["SALLYPORT_FUZZ"] === undefined ? [2000, 20] : [5000, 200];

test.each([
  [`${ONE} connections of one peer`, ONE, 1],
  [`${EACH} connections of each of 50 peers`, EACH, 50],
])(
  "H1-14 %s send a byte of a head now and then: closed 10 s after the first, others are served",
  async (_, each, peers) => {
    const scene = before(await recordingBackend());
    const slow: ConnDuplex[] = [];
    for (let peer = 0; peer < peers; peer++) for (let i = 0; i < each; i++) slow.push(scene.connect(80, `slow${peer}`));
    let sent = 0;
    const drip = (): void => {
      const byte = HEAD[sent++] ?? "x";
      for (const client of slow) if (client.writable) client.write(byte);
    };
    drip();
    expect(await served(scene, "other")).toBe("200");
    await pass(scene.clock, 9_000, 3_000, drip);
    expect(slow.every(({ destroyed }) => !destroyed)).toBe(true);
    expect(await served(scene, "other")).toBe("200");
    await pass(scene.clock, 2_000, 2_000, drip);
    await expect.poll(() => slow.filter(({ destroyed }) => !destroyed).length, WAIT).toBe(0);
    expect(await served(scene, "other")).toBe("200");
  },
);

test("H1-14 a body that comes a byte a minute is waited for, one that stops is not", async () => {
  const backend = await rawBackend((socket) => void socket.resume());
  const { clock, connect } = before(backend);
  const client = connect(80);
  client.write(`POST / HTTP/1.1\r\nHost: ${GATE}\r\nContent-Length: 100\r\n\r\n`);
  await expect.poll(() => backend.connections.length, WAIT).toBe(1);
  await pass(clock, 10 * 59_000, 59_000, () => void client.write("x"));
  expect(client.destroyed).toBe(false);
  await pass(clock, 61_000, 61_000);
  await expect.poll(() => client.destroyed, WAIT).toBe(true);
  await expect.poll(() => backend.connections[0]!.destroyed, WAIT).toBe(true);
});

test("H1-14 an upload is not cut because its backend does not read for ten minutes", async () => {
  const backend = await rawBackend((socket) => void socket.pause());
  const { clock, connect } = before(backend);
  const client = connect(80);
  const length = 64 * 1024 * 1024;
  client.write(`POST / HTTP/1.1\r\nHost: ${GATE}\r\nContent-Length: ${length}\r\n\r\n`);
  let left = length;
  const part = Buffer.alloc(64 * 1024);
  const more = (): void => {
    while (left > 0 && client.write(part)) left -= part.length;
    if (left > 0) left -= part.length;
    if (left > 0) client.once("drain", more);
  };
  more();
  await expect.poll(() => backend.connections.length, WAIT).toBe(1);
  for (let last = -1; last !== left; ) {
    last = left;
    for (let i = 0; i < 100; i++) await turn();
  }
  expect(left).toBeGreaterThan(0);
  await pass(clock, 600_000, 30_000);
  expect(client.destroyed).toBe(false);
  const done = read(client, (text) => text.endsWith("ok"));
  let got = 0;
  backend.connections[0]!.on("data", (bytes: Buffer) => {
    got += bytes.length;
    if (got > length) backend.connections[0]!.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  });
  backend.connections[0]!.resume();
  expect((await done).text).toMatch(/^HTTP\/1\.1 200 /);
});

/** Answers without end, as fast as it is read. */
function endless(): Promise<RawBackend> {
  return rawBackend((socket) =>
    onHeads(socket, () => {
      socket.write("HTTP/1.1 200 OK\r\n\r\n");
      const part = Buffer.alloc(64 * 1024);
      const more = (): void => {
        while (socket.write(part));
        socket.once("drain", more);
      };
      more();
    }),
  );
}

test.each([80, 443])("H1-14 on port %d a caller who reads nothing of its answer is closed after 60 s", async (port) => {
  const backend = await endless();
  const { clock, connect } = before(backend);
  const conn = connect(port);
  const client = port === 80 ? conn : tls.connect({ socket: conn, servername: GATE, rejectUnauthorized: false });
  client.on("error", () => undefined);
  client.once("readable", () => undefined); // nothing is ever read
  client.write(`${HEAD}\r\n`);
  await expect.poll(() => client.readableLength, WAIT).toBeGreaterThan(0);
  conn.pause();
  await pass(clock, 45_000, 15_000);
  expect(backend.connections[0]!.destroyed).toBe(false);
  await pass(clock, 60_000, 15_000);
  await expect.poll(() => backend.connections[0]!.destroyed, WAIT).toBe(true);
});

test("H1-14 a caller who reads a little now and then is served on", async () => {
  const backend = await endless();
  const { clock, connect } = before(backend);
  const client = connect(80);
  client.write(`${HEAD}\r\n`);
  await expect.poll(() => client.readableLength, WAIT).toBeGreaterThan(0);
  await pass(clock, 600_000, 15_000, () => void client.read(Math.min(client.readableLength, 128 * 1024)));
  expect(backend.connections[0]!.destroyed).toBe(false);
  expect(client.destroyed).toBe(false);
});

test("H1-14 an answer that is long in coming is waited for", async () => {
  const backend = await rawBackend((socket) => onHeads(socket, () => undefined));
  const { clock, connect } = before(backend);
  const client = connect(80);
  const done = read(client, (text) => text.endsWith("ok"));
  client.write(`${HEAD}\r\n`);
  await expect.poll(() => backend.connections.length, WAIT).toBe(1);
  await pass(clock, 3_600_000, 60_000);
  backend.connections[0]!.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  expect((await done).text).toMatch(/^HTTP\/1\.1 200 /);
});

/** A backend's connection with an answer that has no end; `sent` is what was taken of it. */
class Endless extends Duplex {
  sent = 0;
  #mayGo = false;

  override _write(_chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#mayGo = true;
    this.push("HTTP/1.1 200 OK\r\n\r\n");
    done();
  }

  override _read(bytes: number): void {
    if (!this.#mayGo) return;
    this.sent += bytes;
    setImmediate(() => void this.push(Buffer.alloc(bytes)));
  }
}

test("H1-14 of an answer that nobody reads 256 KiB wait here at most, beside what its connection holds", async () => {
  const backend = new Endless();
  const scene = proxyScene(webConfig({ "/": { Proxy: "http://127.0.0.1:1" } }), { dialBackend: () => backend });
  const source = { address: "100.64.0.2", port: 40_000 };
  const destination = { address: "100.64.0.1", port: 80 };
  const [near, far] = connPair({ kind: "mesh", nodeKey: "aa", source, destination });
  const { conn, left } = metered(far);
  scene.proxy.accept(conn, 80);
  const client = asDuplex(near);
  onClose(() => client.destroy());
  client.write(`${HEAD}\r\n`);
  for (let last = -1, turns = 0; turns < 200; turns++) {
    if (backend.sent + left() !== last) turns = 0;
    last = backend.sent + left();
    await turn();
  }
  expect(left()).toBeGreaterThan(0);
  expect(backend.sent - left()).toBeLessThanOrEqual(256 * 1024);
});
