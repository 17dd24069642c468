import { expect } from "vitest";
import type { ProxyOptions } from "../../src/proxy/options.ts";
import { GATE, type ProxyScene, proxyScene, read, webConfig } from "./proxy-scene.ts";
import { type RecordingBackend, recordingBackend } from "./recording-backend.ts";

/** A proxy before a backend that notes what it is asked. */
export interface Http1Stage extends ProxyScene {
  readonly backend: RecordingBackend;
}

export async function http1Stage(options: Partial<ProxyOptions> = {}): Promise<Http1Stage> {
  const backend = await recordingBackend();
  const target = `http://127.0.0.1:${backend.port}`;
  return Object.assign(proxyScene(webConfig({ "/": { Proxy: target }, "/small": { Proxy: target } }), options), {
    backend,
  });
}

export const statusesIn = (text: string): string[] =>
  [...text.matchAll(/HTTP\/1\.1 ([2-5]\d\d) /g)].map((match) => match[1]!);

/** The status of the only answer; the connection was closed after it and no backend was reached. */
export async function refusalOf(
  stage: Http1Stage,
  bytes: string,
  by: "connect" | "visit" = "connect",
): Promise<string> {
  const { backend } = stage;
  const client = stage[by](80);
  const done = read(client);
  client.write(bytes, "latin1");
  const { text } = await done;
  expect(backend.connections).toHaveLength(0);
  expect(statusesIn(text)).toHaveLength(1);
  return statusesIn(text)[0]!;
}

/** Two requests, the first as given: what reached the backend when both were answered. */
export async function servedOf({ connect, backend }: Http1Stage, bytes: string): Promise<string> {
  const client = connect(80);
  const done = read(client, (text) => statusesIn(text).length === 2 && text.endsWith("ok"));
  client.write(`${bytes}GET /next HTTP/1.1\r\nHost: ${GATE}\r\n\r\n`, "latin1");
  expect(statusesIn((await done).text)).toEqual(["200", "200"]);
  expect(backend.requests).toHaveLength(2);
  expect(backend.requests[1]).toMatch(/^GET \/next HTTP\/1\.1\r\n/);
  return backend.requests[0]!;
}

/** The field that every request has, and the one of a body in chunks. */
export const H: string = `Host: ${GATE}\r\n`;
export const C = "Transfer-Encoding: chunked\r\n";
export const OFFER = "Connection: Upgrade\r\nUpgrade: ";
export const head = (fields: string, line = "GET / HTTP/1.1"): string => `${line}\r\n${H}${fields}\r\n`;
export const post = (fields: string, body: string): string => `POST / HTTP/1.1\r\n${H}${fields}\r\n${body}`;
export const chunked = (body: string): string => post(C, body);
export const hello = "5\r\nhello\r\n0\r\n\r\n";
