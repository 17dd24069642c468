import http from "node:http";
import { afterEach, expect, test } from "vitest";
import { listening } from "../../../test/suites/listening.ts";
import {
  closeScenes,
  GATE,
  onClose,
  type ProxyScene,
  proxyScene,
  read,
  webConfig,
} from "../../../test/suites/proxy-scene.ts";

afterEach(closeScenes);

const ASKS = `GET / HTTP/1.1\r\nHost: ${GATE}\r\n\r\n`;
const OFFER = `GET / HTTP/1.1\r\nHost: ${GATE}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n`;

interface Stage extends ProxyScene {
  readonly events: string[];
  /** Requests that nobody answers. */
  readonly held: http.ServerResponse[];
}

async function stage(limits: { connections: number; connectionsPerCaller: number }): Promise<Stage> {
  const held: http.ServerResponse[] = [];
  const backend = http.createServer((_, response) => void held.push(response));
  backend.on("upgrade", (_, socket) => {
    socket.on("error", () => undefined);
    socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
  });
  onClose(() => {
    backend.close();
    backend.closeAllConnections();
  });
  const target = `http://127.0.0.1:${await listening(backend)}`;
  const events: string[] = [];
  const config = webConfig({ "/": { Proxy: target } });
  return Object.assign(proxyScene(config, { limits, count: (event) => events.push(event) }), { events, held });
}

test("a node that held any number of connections on a plain port: the one that is idle for longest makes room", async () => {
  const { connect, events, held } = await stage({ connections: 100, connectionsPerCaller: 4 });
  const busy = connect(80);
  busy.write(ASKS);
  await expect.poll(() => held.length, { timeout: 10_000 }).toBe(1);
  const idle = [connect(80), connect(80), connect(80)];
  idle[0]!.write("GET / HTT"); // which is no request yet
  const others = Array.from({ length: 4 }, () => connect(80, "other"));
  const first = read(idle[0]!);
  const late = connect(80);
  expect((await first).text).toBe("");
  expect(events).toEqual(["connections_crowded"]);
  late.write(ASKS);
  await expect.poll(() => held.length, { timeout: 10_000 }).toBe(2);
  const answers = [busy, late].map((one) => read(one, (text) => text.endsWith("ok")));
  for (const response of held) response.end("ok");
  for (const answer of answers) expect((await answer).text).toMatch(/^HTTP\/1\.1 200 /);
  expect([...idle.slice(1), ...others].some(({ destroyed }) => destroyed)).toBe(false);

  // Answered, it is idle, and not for as long as the others.
  const second = read(idle[1]!);
  connect(80);
  await second;
  expect([busy, late, idle[2]!].some(({ destroyed }) => destroyed)).toBe(false);
});

test.each([
  ["of one caller", { connections: 100, connectionsPerCaller: 2 }, "peer"],
  ["in all", { connections: 2, connectionsPerCaller: 100 }, "other"],
])("where all connections %s are at work, tunnels too, who comes is told so", async (_, limits, newcomer) => {
  const { connect, events, held } = await stage(limits);
  const tunnel = connect(80);
  const switched = read(tunnel, (text) => text.includes("\r\n\r\n"));
  tunnel.write(OFFER);
  expect((await switched).text).toMatch(/^HTTP\/1\.1 101 /);
  const busy = connect(80);
  busy.write(ASKS);
  await expect.poll(() => held.length, { timeout: 10_000 }).toBe(1);
  const { text } = await read(newcomer === "peer" ? connect(80) : connect(80, newcomer));
  expect(text).toMatch(/^HTTP\/1\.1 503 Service Unavailable\r\n[\s\S]*\r\nConnection: close\r\n/);
  expect(events).toEqual(["connections_crowded"]);
  busy.destroy();
  await expect.poll(() => held[0]!.closed, { timeout: 10_000 }).toBe(true);
  const late = connect(80);
  late.write(ASKS);
  await expect.poll(() => held.length, { timeout: 10_000 }).toBe(2);
});
