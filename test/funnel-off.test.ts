import { expect, onTestFinished, test } from "vitest";
import { type Clock, systemClock } from "../src/base/clock.ts";
import { Gateway } from "../src/gateway/gateway.ts";
import { brings } from "./suites/funnel-mesh.ts";
import { NAME, OffScene, type OffSceneOptions, PORT, type Visit } from "./suites/off-scene.ts";
import { OFF_STATES, takesBack } from "./suites/off-states.ts";
import { typedFunnel } from "./suites/typed-command.ts";

const WAIT = { timeout: 30_000, interval: 10 };
/** `SALLYPORT_OFF_VISITORS=100`: the row's crowd, and its limits. A busy machine stands still for longer than those. */
const VISITORS = Number(process.env["SALLYPORT_OFF_VISITORS"] ?? 3);
const HAS_LIMITS = process.env["SALLYPORT_OFF_VISITORS"] !== undefined;
const CUT_MS = 5000;
const REFUSED_MS = 1000;

(HAS_LIMITS ? test : test.concurrent).each(Object.entries(OFF_STATES))(
  `FN-8 off is off with ${VISITORS} visitors where %s`,
  async (_, state) => {
    const { command, cutMs, letInMs, commandMs, isKept } = await takesBack(state, VISITORS);
    if (state.isEndless === true) expect(commandMs).toBe(Infinity);
    else if (state.says !== undefined)
      expect([command.code, command.stderr]).toEqual([1, expect.stringMatching(state.says)]);
    else expect([command.code, command.stderr]).toEqual([0, ""]);
    expect(isKept).toBe(state.isKept === true);
    if (!HAS_LIMITS) return;
    expect(cutMs).toBeLessThan(CUT_MS);
    expect(letInMs).toBeLessThan(REFUSED_MS);
  },
  120_000,
);

async function opened(options: OffSceneOptions = {}): Promise<OffScene> {
  const scene = await OffScene.open(options);
  onTestFinished(() => scene.close());
  await scene.publish();
  return scene;
}

const off = ({ gateway }: Pick<OffScene, "gateway">) => typedFunnel(gateway, [`--tcp=${PORT}`, "off"]);

/** The machine's, until it stops; then no alarm of anybody's goes off, those that were set before neither. */
class StoppableClock implements Clock {
  readonly #held: Set<() => void> = new Set();
  #stoppedAt: number | undefined;

  now(): number {
    return this.#stoppedAt ?? systemClock.now();
  }

  wall(): number {
    return systemClock.wall();
  }

  at(deadline: number, wake: () => void): () => void {
    const due = (): void => void (this.#stoppedAt === undefined ? wake() : this.#held.add(wake));
    const cancel = systemClock.at(deadline, due);
    return () => {
      cancel();
      this.#held.delete(wake);
    };
  }

  stop(): void {
    this.#stoppedAt = systemClock.now();
  }

  goOn(): void {
    this.#stoppedAt = undefined;
    for (const wake of this.#held) wake();
    this.#held.clear();
  }
}

test("FN-8 off waits for no timer, no disk and no answer: 100 visitors are cut, and new ones refused, all the same", async () => {
  const clock = new StoppableClock();
  const scene = await opened({ gateway: { clock } });
  const open: Visit[] = [];
  while (open.length < 100) open.push(await scene.guest());

  const written = Promise.withResolvers<void>();
  scene.disk.before = () => written.promise;
  clock.stop(); // from now on the server hears nothing either: what it is told waits a moment first
  onTestFinished(() => clock.goOn());
  let isOver = false;
  const ended = off(scene).finally(() => {
    isOver = true;
  });
  await expect.poll(() => open.filter((one) => !one.isOver()).length, WAIT).toBe(0);
  await expect.poll(() => scene.callers.size, WAIT).toBe(0);
  expect(brings(scene.relay, NAME, PORT)).toBe(true); // so it is the node that refuses the next one
  const late = scene.visit();
  await expect.poll(late.isOver, WAIT).toBe(true);
  expect(late.heard()).toBe("15030300020270");
  expect(isOver).toBe(false);
  written.resolve();
  clock.goOn();
  expect(await ended).toMatchObject({ code: 0, stderr: "" });
}, 60_000);

test("FN-8 a node that has heard nothing since it began, for the server is away, takes back what it was left with", async () => {
  const { mesh, gateway, disk } = await opened();
  const config = gateway.storedServeConfig;
  await gateway.close();
  const again = await Gateway.open({ ...(await mesh.joining("web")), controlUrl: "http://127.0.0.1:1", store: disk });
  onTestFinished(() => again.close());
  expect(again.storedServeConfig).toEqual(config);
  expect(await off({ gateway: again })).toMatchObject({ code: 0, stderr: "" });
  expect(again.storedServeConfig).toEqual({});
}, 60_000);
