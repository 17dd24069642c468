import http from "node:http";
import type net from "node:net";
import { afterEach, expect, test } from "vitest";
import { listening } from "../../test/suites/listening.ts";
import {
  closeScenes,
  GATE,
  onClose,
  type ProxyScene,
  proxyScene,
  rawBackend,
  read,
  webConfig,
} from "../../test/suites/proxy-scene.ts";
import type { ConnDuplex } from "../base/duplex.ts";

afterEach(closeScenes);

interface Heard {
  /** Which of the backend's connections it came on. */
  readonly connection: number;
  readonly isLast: boolean;
  readonly body: string;
}

/** A backend that reads every body to its end before it answers. */
async function attentive(): Promise<{ url: string; heard: Heard[] }> {
  const heard: Heard[] = [];
  const connections: net.Socket[] = [];
  const server = http.createServer((request, response) => {
    const connection = connections.includes(request.socket)
      ? connections.indexOf(request.socket)
      : connections.push(request.socket) - 1;
    let body = "";
    request.on("data", (part) => {
      body += String(part);
    });
    request.on("end", () => {
      heard.push({ connection, isLast: request.headers.connection === "close", body });
      response.end("ok");
    });
  });
  onClose(() => void server.close().closeAllConnections());
  return { url: `http://127.0.0.1:${await listening(server)}`, heard };
}

/** A gate before `url`, whose operator vouches for the backend `vouched`. */
function gate(url: string, vouched: string | undefined): ProxyScene {
  const rules = vouched === undefined ? {} : { keepAliveAfterBody: vouched };
  return proxyScene(webConfig({ "/": { Proxy: url } }), { rulesOf: () => rules });
}

async function post(client: ConnDuplex, body: string): Promise<void> {
  client.write(`POST / HTTP/1.1\r\nHost: ${GATE}\r\n${body}`);
  await read(client, (text) => /\r\n\r\n(?:2\r\n)?ok/.test(text));
}

const LENGTH = "Content-Length: 5\r\n\r\nhello";
const CHUNKS = "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";

test("a POST costs no connection where the operator vouches for the backend, and one where nobody does or for another", async () => {
  const { url, heard } = await attentive();
  for (const vouched of [url, undefined, "http://127.0.0.1:1"]) {
    const client = gate(url, vouched).connect(80);
    for (const body of [LENGTH, CHUNKS, LENGTH]) await post(client, body);
    const [first, ...more] = heard.splice(0);
    const connections = more.map(({ connection }) => connection - first!.connection);
    expect(connections).toEqual(vouched === url ? [0, 0] : [1, 2]);
    expect([first, ...more].map((one) => [one!.isLast, one!.body])).toEqual(Array(3).fill([vouched !== url, "hello"]));
  }
});

test("a connection that is kept after a body is never another caller's", async () => {
  const { url, heard } = await attentive();
  const scene = gate(url, url);
  for (const nodeKey of ["aa", "bb", "aa"]) {
    scene.caller = { ...(scene.caller as object), nodeKey } as ProxyScene["caller"];
    await post(scene.connect(80, nodeKey), LENGTH);
  }
  expect(heard.map(({ connection }) => connection)).toEqual([0, 1, 0]);
});

test("H1-11: who answers before the body is there gets no other request there, whoever vouches for it", async () => {
  const backend = await rawBackend((socket) => {
    socket.once("data", () => void socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"));
    let text = "";
    socket.on("data", (chunk) => {
      text += String(chunk);
      if (text.endsWith("hello")) socket.write("ok");
    });
  });
  const url = `http://127.0.0.1:${backend.port}`;
  const client = gate(url, url).connect(80);
  for (let i = 0; i < 2; i++) {
    client.write(`POST / HTTP/1.1\r\nHost: ${GATE}\r\nContent-Length: 5\r\n\r\n`);
    await read(client, (text) => text.endsWith("\r\n\r\n")); // its answer has begun
    client.write("hello");
    await read(client, (text) => text.endsWith("ok"));
  }
  expect(backend.connections).toHaveLength(2);
});

test("H1-11: node:http, whose handler reads no body, takes none for a request on a kept connection", async () => {
  const asked: string[] = [];
  const connections = new Set<unknown>();
  const server = http.createServer((request, response) => {
    connections.add(request.socket);
    asked.push(`${request.method} ${request.url}`);
    response.end("ok");
  });
  onClose(() => void server.close().closeAllConnections());
  const url = `http://127.0.0.1:${await listening(server)}`;
  const client = gate(url, url).connect(80);
  const forged = `GET /smuggled HTTP/1.1\r\nHost: ${GATE}\r\nTailscale-User-Login: boss@example.com\r\n\r\n`;
  const bodies = [
    `Content-Length: ${forged.length}\r\n\r\n${forged}`,
    `Transfer-Encoding: chunked\r\n\r\n${forged.length.toString(16)}\r\n${forged}\r\n0\r\n\r\n`,
  ];
  for (const body of bodies) await post(client, body);
  await post(client, LENGTH);
  expect(asked).toEqual(Array(3).fill("POST /"));
  expect(connections.size).toBe(1);
});
