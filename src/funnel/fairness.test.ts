import { connect, type Socket } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { makeHello } from "../../test/suites/client-hellos.ts";
import { nodeSide, openIngress, publicName } from "../../test/suites/ingress-scene.ts";

const WAIT = { timeout: 60_000, interval: 20 };
const LOUD = "loud.tail.test";
const QUIET = "quiet.tail.test";
const VISITORS = 40;

interface Flood {
  /** Connections begun and over. */
  readonly ended: () => number;
  /** Of them, told by an alert that they cannot come in. */
  readonly alerted: () => number;
  readonly stop: () => void;
}

/** Comes again as fast as this machine lets it, from 200 addresses, `atOnce` at a time; who `stays` does so once let in. */
function flood(port: number, first: Uint8Array, atOnce: number, stays = false): Flood {
  const sockets = new Set<Socket>();
  let begun = 0;
  let ended = 0;
  let alerted = 0;
  let isOver = false;
  const begin = (): void => {
    if (isOver) return;
    begun++;
    const localAddress = `127.0.${1 + (begun % 4)}.${1 + ((begun >> 2) % 50)}`;
    const socket = connect({ port, host: "127.0.0.1", localAddress });
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => {
      ended++;
      sockets.delete(socket);
      setImmediate(begin);
    });
    socket.on("data", (bytes: Buffer) => {
      if (bytes[0] === 21) alerted++;
      if (!stays) socket.resetAndDestroy();
    });
    socket.write(first);
  };
  for (let i = 0; i < atOnce; i++) begin();
  const stop = (): void => {
    isOver = true;
    for (const socket of sockets) socket.resetAndDestroy();
  };
  onTestFinished(stop);
  return { ended: () => ended, alerted: () => alerted, stop };
}

/** Visitors of the other name, one after another: what each was answered. */
async function quietVisits(port: number): Promise<readonly string[]> {
  const hello = makeHello({ name: QUIET });
  const answers: string[] = [];
  for (let i = 0; i < VISITORS; i++) {
    const socket = connect({ port, host: "127.0.0.1", localAddress: `127.0.9.${1 + (i % 10)}` });
    onTestFinished(() => void socket.destroy());
    answers.push(
      await new Promise<string>((resolve) => {
        socket.on("error", (error) => resolve(String(error)));
        socket.on("data", (chunk: Buffer) => resolve(chunk.toString("latin1")));
        socket.on("close", () => resolve("closed"));
        socket.write(hello);
      }),
    );
    socket.resetAndDestroy();
  }
  return answers;
}

/** Nodes that answer whoever comes. */
function answering() {
  const side = nodeSide({ answer: () => "HTTP/1.1 101 Switching Protocols\r\n\r\nwelcome" });
  const at = (name: string): number =>
    side.deliveries.filter(({ head }) => head.includes(`\r\nTailscale-Ingress-Target: ${name}:443\r\n`)).length;
  return { dial: side.dial, at };
}

const welcomed = Array.from({ length: VISITORS }, () => "welcome");
const names = [publicName(LOUD), publicName(QUIET, { owner: "node-6" })];

test("FN-10 a name that is asked for without end gets what it may have, and another name's visitors all come in", {
  timeout: 120_000,
}, async () => {
  const { dial, at } = answering();
  const limits = { nameConnectionsPerSecond: 250, visitorConnectionsPerSecond: 1_000_000 };
  const { port, ingress } = await openIngress(names, dial, { limits }); // time stands still: twice a second's worth
  const loud = flood(port, makeHello({ name: LOUD }), 32);
  await expect.poll(loud.ended, WAIT).toBeGreaterThan(1000);
  expect(await quietVisits(port)).toEqual(welcomed);
  await expect.poll(loud.ended, WAIT).toBeGreaterThan(2500);
  expect(at(LOUD)).toBe(500);
  expect(at(QUIET)).toBe(VISITORS);
  expect(ingress.counts.over_limit).toBeGreaterThan(1500);
  expect(loud.alerted()).toBeGreaterThan(0);
  expect(loud.alerted()).toBeLessThanOrEqual(200); // the others are reset: it costs least
  loud.stop();
  await expect.poll(() => ingress.open, WAIT).toBe(0);
});

test("FN-10 a name that holds as many visitors as it may leaves room for others", { timeout: 120_000 }, async () => {
  const { dial, at } = answering();
  const limits = { nameOpen: 400, open: 800, visitorConnectionsPerSecond: 1_000_000 };
  const { port, ingress } = await openIngress(names, dial, { limits });
  flood(port, makeHello({ name: LOUD }), 432, true);
  await expect.poll(() => at(LOUD), WAIT).toBe(400);
  await expect.poll(() => ingress.counts.over_limit, WAIT).toBeGreaterThan(1000);
  expect(await quietVisits(port)).toEqual(welcomed);
  expect(at(LOUD)).toBe(400);
});

test("FN-10 strangers who ask for nothing that is public, without end, keep nobody out", {
  timeout: 120_000,
}, async () => {
  const { dial, at } = answering();
  const limits = { visitorConnectionsPerSecond: 1_000_000 };
  const { port, ingress } = await openIngress(names, dial, { limits });
  const noise = [makeHello({ name: "none.tail.test" }), makeHello({}), Buffer.from("GET / HTTP/1.1\r\n\r\n")];
  const floods = noise.map((first) => flood(port, first, 12));
  await expect.poll(() => Math.min(...floods.map(({ ended }) => ended())), WAIT).toBeGreaterThan(300);
  expect(await quietVisits(port)).toEqual(welcomed);
  expect(at(LOUD)).toBe(0);
  expect(ingress.counts.unknown_name).toBeGreaterThan(600);
});
