import { createHash } from "node:crypto";
import { once } from "node:events";
import http, { createServer, type IncomingMessage } from "node:http";
import http2, { type ClientHttp2Session } from "node:http2";
import type { AddressInfo } from "node:net";
import type { Readable } from "node:stream";
import tls from "node:tls";
import { constants, deflateRawSync, gunzipSync } from "node:zlib";
import { afterEach, expect, test } from "vitest";
import { Gate } from "../../test/suites/gate.ts";
import { inParallel } from "../../test/suites/in-parallel.ts";
import { closeScenes, GATE, onClose } from "../../test/suites/proxy-scene.ts";

afterEach(closeScenes);

const MIB = 1024 * 1024;
/** A mebibyte of nothing, in a kilobyte (RFC 1951), so often that 10 GiB come of 10 MiB. */
const BLOCK = deflateRawSync(Buffer.alloc(MIB), { finishFlush: constants.Z_FULL_FLUSH });
const START = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
const BOMB = Buffer.concat([START, ...Array.from({ length: Math.ceil((10 * MIB) / BLOCK.length) }, () => BLOCK)]);
const digest = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");
const WANTED = digest(BOMB);
/** Codings upon codings, as a client of CVE-2026-22036 would undo them all. */
const STACKED = Array.from({ length: 1000 }, () => "gzip").join(", ");
/** As long as an ordinary answer. */
const HARMLESS = Buffer.alloc(MIB, "x");
const AT_ONCE = 4;
const ROUNDS = 3;

async function digestOf(stream: Readable): Promise<string> {
  const hash = createHash("sha256");
  for await (const part of stream) hash.update(part);
  return hash.digest("hex");
}

/** Answers with the bomb under the codings that it is asked for by path, or says what it was sent. */
async function bombBackend(): Promise<string> {
  const backend = createServer(async (request, response) => {
    if (request.method === "POST") return void response.end(await digestOf(request));
    if (request.url === "/harmless") return void response.end(HARMLESS);
    const coding = request.url === "/stacked" ? STACKED : "gzip";
    response.writeHead(200, { "content-encoding": coding }).end(BOMB);
  });
  backend.listen(0, "127.0.0.1");
  onClose(() => backend.close());
  await once(backend, "listening");
  return `http://127.0.0.1:${(backend.address() as AddressInfo).port}`;
}

/** Coding and digest of an answer. */
type Taken = readonly [coding: string | undefined, digest: string];

async function take(gate: Gate, path: string, body?: Buffer): Promise<Taken> {
  const headers = {
    host: GATE,
    "accept-encoding": "gzip",
    ...(body === undefined ? {} : { "content-encoding": "gzip" }),
  };
  const method = body === undefined ? "GET" : "POST";
  const request = http.request({ path, method, headers, createConnection: () => gate.connect() });
  request.end(body);
  const [answer] = (await once(request, "response")) as [IncomingMessage];
  if (body === undefined) return [answer.headers["content-encoding"], await digestOf(answer)];
  return [answer.headers["content-encoding"], Buffer.concat(await answer.toArray()).toString()];
}

async function takeByHttp2(gate: Gate, path: string): Promise<Taken> {
  const secure = tls.connect({
    socket: gate.connect(true),
    servername: GATE,
    rejectUnauthorized: false,
    ALPNProtocols: ["h2"],
  });
  const session: ClientHttp2Session = http2.connect(`https://${GATE}`, { createConnection: () => secure });
  const stream = session.request({ ":path": path });
  const [head] = (await once(stream, "response")) as [http2.IncomingHttpHeaders];
  const found = await digestOf(stream);
  session.destroy();
  return [head["content-encoding"] as string | undefined, found];
}

test("H1-23: 10 MiB that are 10 GiB, and a thousand codings, pass as they are, both ways, for less than 32 MiB", async () => {
  expect(
    gunzipSync(BOMB.subarray(0, START.length + BLOCK.length), { finishFlush: constants.Z_SYNC_FLUSH }),
  ).toHaveLength(MIB);
  expect(BOMB.length * 1000).toBeLessThan(MIB * Math.floor(BOMB.length / BLOCK.length));
  const gate = await Gate.start(await bombBackend());
  // What ordinary requests make a process take stays out of the account.
  await inParallel(ROUNDS * AT_ONCE, AT_ONCE, async () => {
    await take(gate, "/harmless");
    await take(gate, "/", HARMLESS);
    await takeByHttp2(gate, "/harmless");
  });
  const before = await gate.empty();
  await inParallel(ROUNDS * AT_ONCE, AT_ONCE, async (i) => {
    switch (i % 4) {
      case 0:
        return expect(await take(gate, "/")).toEqual(["gzip", WANTED]);
      case 1:
        return expect(await take(gate, "/stacked")).toEqual([STACKED, WANTED]);
      case 2:
        return expect(await take(gate, "/", BOMB)).toEqual([undefined, WANTED]);
      default:
        return expect(await takeByHttp2(gate, "/stacked")).toEqual([STACKED, WANTED]);
    }
  });
  const { peak } = await gate.empty();
  expect(peak - before.rss).toBeLessThan(32 * MIB);
}, 60_000);
