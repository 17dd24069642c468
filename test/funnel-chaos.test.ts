import { once } from "node:events";
import net from "node:net";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { seededShare } from "./real/udp-relay.ts";
import { type Outcome, visit, visitPlan } from "./suites/chaos-visit.ts";
import { ChaosWorld, HELLO, lineOf, ROOM } from "./suites/chaos-world.ts";

/** Thousands find what hundreds do not. */
const VISITS = Number(process.env["SALLYPORT_CHAOS"] ?? 160);
const SEED = Number(process.env["SALLYPORT_CHAOS_SEED"] ?? 1);
const AT_ONCE = 24;
/** Visitors who are brought between two blows. */
const BLOW_EVERY = 8;
/** What a visit may take, blows and patience and all; nothing here waits longer than half of it. */
const LIMIT_MS = 25_000;
const WAIT = { timeout: 30_000, interval: 20 };
/** Own alarms of a node that is at rest, with some to spare; each visit that forgot one would add to it. */
const OWN_ALARMS = 40;

let world: ChaosWorld;

beforeAll(async () => {
  world = await ChaosWorld.open();
}, 60_000);

afterAll(() => world.close());

async function timed(number: number, work: Promise<Outcome>): Promise<Outcome> {
  const { promise, resolve } = Promise.withResolvers<Outcome>();
  const timer = setTimeout(() => resolve({ wasBrought: false, lies: [`visit ${number} hangs`] }), LIMIT_MS);
  const outcome = await Promise.race([work, promise]);
  clearTimeout(timer);
  return outcome;
}

test(
  `FN-1 FN-13 ${VISITS} visitors who end in every manner while all else dies: no lie, nobody hangs, nothing is left (seed ${SEED})`,
  async () => {
    const draw = seededShare(SEED);
    const blows = Object.entries(world.blows);
    const struck: string[] = [];
    let storm: Promise<void> = Promise.resolve();
    const lies: string[] = [];
    let brought = 0;
    let next = 0;
    let isStriking = false;
    let strikesAt = BLOW_EVERY;
    const visitor = async (): Promise<void> => {
      while (next < VISITS) {
        const number = next++;
        if (!isStriking && brought >= strikesAt) {
          const [name, strike] = blows[Math.floor(draw() * blows.length)]!;
          struck.push(name);
          isStriking = true;
          storm = strike().then(() => {
            isStriking = false;
            strikesAt = brought + 2 * BLOW_EVERY * draw();
          });
        }
        const plan = visitPlan(seededShare(SEED * 1_000_003 + number), number);
        const outcome = await timed(number, visit(world, plan));
        if (outcome.wasBrought) brought++;
        else if (draw() < 0.9) await storm; // else all would come while nobody is there
        for (const lie of outcome.lies) lies.push(`${lie}; ${JSON.stringify(plan)}`);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, visitor));
    await storm;
    expect({ seed: SEED, struck, lies }).toEqual({ seed: SEED, struck, lies: [] });
    expect(brought).toBeGreaterThan(VISITS / 80); // 8 to 29 of 160: on a busy machine most come while something is down
    await expect
      .poll(async () => Object.entries(await world.left()).filter(([, count]) => count !== 0), WAIT)
      .toEqual([]);
    expect(world.alarms).toBeLessThan(OWN_ALARMS);
  },
  Math.max(60_000, 200 * VISITS),
);

test("FN-10 afterwards there is room for exactly as many as before", async () => {
  const sockets: net.Socket[] = [];
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
  });
  const silent = {
    bytes: 8,
    ending: "silence",
    reading: "all",
    patienceMs: LIMIT_MS,
    resetsAfterMs: LIMIT_MS,
  } as const;
  const come = async (number: number): Promise<string> => {
    world.expected.set(number, { number, back: silent });
    const socket = net.connect(world.portOf("raw"), "127.0.0.1");
    sockets.push(socket);
    socket.on("error", () => void socket.destroy());
    socket.write(Buffer.concat([HELLO, Buffer.from(lineOf(number))]));
    return Promise.race([
      once(socket, "data").then(
        ([chunk]) => (chunk.length === silent.bytes ? "brought" : "refused"), // an alert has 7
        () => "refused",
      ),
      new Promise<string>((resolve) => socket.once("close", () => resolve("refused"))),
    ]);
  };
  const outcomes = await Promise.all(Array.from({ length: ROOM }, (_, index) => come(VISITS + index)));
  expect(outcomes).toEqual(Array.from({ length: ROOM }, () => "brought"));
  expect(await come(VISITS + ROOM)).toBe("refused");
});
