import type { ClientHttp2Session } from "node:http2";
import { afterEach, expect, test } from "vitest";
import {
  closeScenes,
  GATE,
  http2Client,
  type ProxyScene,
  proxyScene,
  read,
  webConfig,
} from "../../test/suites/proxy-scene.ts";
import { type RecordingBackend, recordingBackend } from "../../test/suites/recording-backend.ts";
import type { ConnDuplex } from "../base/duplex.ts";
import { mountRules } from "../config/node-serve-config.ts";
import { parseServices, type ServicesConfig } from "../config/services.ts";

afterEach(closeScenes);

interface Stage extends ProxyScene {
  readonly backend: RecordingBackend;
  /** As on SIGHUP. */
  declare(members: string): void;
}

/** A proxy that goes by the text of a services file. */
async function stage(members: string): Promise<Stage> {
  const backend = await recordingBackend();
  const target = `http://127.0.0.1:${backend.port}`;
  const endpoint = `{ "listen": "http", "target": "${target}", "mounts": { "/small": { "target": "${target}", "bodyBytes": 4 } } }`;
  const readFile = (text: string): ServicesConfig =>
    parseServices(`{ "version": "0.0.1", ${text} "node": { "endpoints": { "tcp:80": ${endpoint} } } }`, "s.hujson");
  let services = readFile(members);
  const scene = proxyScene(webConfig({ "/": { Proxy: target }, "/small": { Proxy: target } }), {
    rulesOf: (place) => mountRules(services, place),
  });
  scene.proxy.limit(services.limits);
  const declare = (text: string): void => {
    services = readFile(text);
    scene.proxy.limit(services.limits);
  };
  return Object.assign(scene, { backend, declare });
}

const H = `Host: ${GATE}\r\n`;
/** Fields of so many bytes as our count has it: names, values and four bytes a line, behind the target "/". */
const fields = (bytes: number): string => `${H}X: ${"y".repeat(bytes - `/${H}X: \r\n`.length)}\r\n`;
const lines = (count: number): string => H + "X: y\r\n".repeat(count - 1);
const get = (head: string, target = "/"): string => `GET ${target} HTTP/1.1\r\n${head}\r\n`;
const path = (bytes: number): string => `/${"a".repeat(bytes - 1)}`;
const post = (target: string, bytes: number): string =>
  `POST ${target} HTTP/1.1\r\n${H}Content-Length: ${bytes}\r\n\r\n${"x".repeat(bytes)}`;

async function statusOf(client: ConnDuplex, request: string): Promise<string> {
  const done = read(client, (text) => text.endsWith("ok"));
  client.write(request);
  return /^HTTP\/1\.1 (\d+)/.exec((await done).text)?.[1] ?? "none";
}

const MATRIX = '"limits": { "headBytes": 32768, "headFields": 100, "targetBytes": 8192, "bodyBytes": 65536 },';

test.each([
  ["a head of 32 KiB", get(fields(32_768)), "200"],
  ["a byte more", get(fields(32_769)), "431"],
  ["100 lines", get(lines(100)), "200"],
  ["101 lines", get(lines(101)), "431"],
  ["a target of 8 KiB", get(H, path(8192)), "200"],
  ["a byte more of it", get(H, path(8193)), "414"],
  ["a body of 64 KiB", post("/", 65_536), "200"],
  ["a byte more of that", post("/", 65_537), "413"],
  ["the four bytes of a mount", post("/small", 4), "200"],
  ["five", post("/small", 5), "413"],
])("H1-13: by the limits of the services file, %s", async (_, request, status) => {
  const { connect, visit, backend } = await stage(MATRIX);
  expect(await statusOf(connect(80), request)).toBe(status);
  expect(await statusOf(visit(80), request)).toBe(status);
  expect(backend.requests).toHaveLength(status === "200" ? 2 : 0);
});

test("H1-13: visitors from the Internet have limits of their own where the file says so", async () => {
  const { connect, visit } = await stage('"limits": { "targetBytes": 1024, "visitors": { "targetBytes": 256 } },');
  expect(await statusOf(connect(80), get(H, path(1024)))).toBe("200");
  expect(await statusOf(connect(80), get(H, path(1025)))).toBe("414");
  expect(await statusOf(visit(80), get(H, path(256)))).toBe("200");
  expect(await statusOf(visit(80), get(H, path(257)))).toBe("414");
});

test("H1-13: a file that is read again counts for the next connection, in both directions", async () => {
  const made = await stage("");
  const large = get(fields(40_000));
  expect(await statusOf(made.connect(80), large)).toBe("200"); // our own limit is 64 KiB
  made.declare('"limits": { "headBytes": 2048 },');
  expect(await statusOf(made.connect(80), large)).toBe("431");
  made.declare('"limits": { "headBytes": 131072 },');
  expect(await statusOf(made.connect(80), get(fields(100_000)))).toBe("200");
  made.declare("");
  expect(await statusOf(made.connect(80), get(fields(100_000)))).toBe("431");
});

test("H1-13: a connection that was open before goes by the new limits from its next request on", async () => {
  const made = await stage("");
  const client = made.connect(80);
  expect(await statusOf(client, get(H, path(500)))).toBe("200");
  made.declare('"limits": { "targetBytes": 256 },');
  expect(await statusOf(client, get(H, path(500)))).toBe("414");
});

test("H1-13 H2-11: the limits of the file over HTTP/2", async () => {
  const made = await stage('"limits": { "headBytes": 4096, "headFields": 20, "targetBytes": 256, "bodyBytes": 10 },');
  const asked = (session: ClientHttp2Session, head: Readonly<Record<string, string>>, body = ""): Promise<unknown> =>
    new Promise((resolve) => {
      const stream = session.request({ ":path": "/", ":method": body === "" ? "GET" : "POST", ...head });
      stream.once("response", (answer) => resolve(answer[":status"]));
      stream.once("error", () => resolve("reset"));
      stream.resume();
      if (body !== "") stream.end(body);
    });
  const session = await http2Client(made);
  expect(await asked(session, {})).toBe(200);
  expect(session.remoteSettings.maxHeaderListSize).toBe(4096);
  expect(await asked(session, { ":path": path(257) })).toBe(414);
  const many = Object.fromEntries(Array.from({ length: 21 }, (_, i) => [`x-${i}`, "y"]));
  expect(await asked(session, many)).toBe(431);
  expect(await asked(session, {}, "x".repeat(11))).toBe(413);
  expect(await asked(session, { x: "y".repeat(4096) })).toBe("reset");
  made.declare("");
  const next = await http2Client(made);
  expect(await asked(next, many)).toBe(200);
  expect(next.remoteSettings.maxHeaderListSize).toBe(65_536);
});
