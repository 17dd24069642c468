import net from "node:net";
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from "vitest";
import { type Clock, systemClock } from "../src/base/clock.ts";
import { Fault } from "../src/base/fault.ts";
import { memoryStore, type Store } from "../src/base/store.ts";
import { GatewayAdmin } from "../src/gateway/admin.ts";
import { Gateway, type GatewayOptions } from "../src/gateway/gateway.ts";
import type { Relay } from "../src/server/relay.ts";
import type { Server } from "../src/server/server.ts";
import type { ServeConfig } from "../src/wire/serve-config.ts";
import { makeHello } from "./suites/client-hellos.ts";
import { brings, FunnelMesh, funnelPolicy } from "./suites/funnel-mesh.ts";
import { typedFunnel } from "./suites/typed-command.ts";

const WAIT = { timeout: 30_000, interval: 10 };
const PORT = 8443;
const policy = (attributes: string): string => funnelPolicy(`"attr": [${attributes}]`);
const POLICY = policy('"funnel", "https"');

interface Disk extends Store {
  fails: (name: string) => boolean;
}

/** A gateway, and a disk of its own that can break. */
interface Node {
  readonly gateway: Gateway;
  readonly name: string;
  readonly disk: Disk;
}

let mesh: FunnelMesh;
let server: Server;
let relay: Relay;
let web: Node;
let backend: number;
/** Of the backend: callers, and whether it reads and talks. */
const callers = new Set<net.Socket>();
function diskOf(inner: Store): Disk {
  return {
    fails: () => false,
    get: inner.get,
    delete: inner.delete,
    async set(name, value) {
      if (this.fails(name)) throw new Error("ENOSPC: no space left on device");
      await inner.set(name, value);
    },
  };
}

async function join(
  hostname: string,
  disk: Disk = diskOf(memoryStore()),
  more: Partial<GatewayOptions> = {},
): Promise<Node> {
  const gateway = await mesh.gateway({ hostname, store: disk, ...more });
  return { gateway, name: `${hostname}.tail.test`, disk };
}

beforeAll(async () => {
  const made = net.createServer((socket) => {
    callers.add(socket);
    socket.on("error", () => undefined).once("close", () => callers.delete(socket));
    socket.on("data", (chunk: Buffer) => socket.write(chunk));
  });
  mesh = await FunnelMesh.open({ policy: POLICY });
  ({ server } = mesh);
  backend = await mesh.listen(made);
  relay = await mesh.relay({ listeners: [{ address: "127.0.0.1", port: 0, publicPort: PORT }] });
  web = await join("web");
}, 60_000);

afterAll(async () => {
  await mesh.close();
});

const typed = async ({ gateway }: Node, ...words: readonly string[]): Promise<{ code: number; stderr: string }> => {
  const { code, stderr } = await typedFunnel(gateway, words);
  return { code, stderr };
};

const configOf = ({ name }: Node, more: Partial<ServeConfig> = {}): ServeConfig => ({
  ...more,
  TCP: { ...more.TCP, [PORT]: { TCPForward: `127.0.0.1:${backend}` } },
  AllowFunnel: { ...more.AllowFunnel, [`${name}:${PORT}`]: true },
});

interface Visit {
  readonly isOver: () => boolean;
  readonly heard: () => string;
  readonly socket: net.Socket;
}

/** A stranger. `bytes`: what he says. */
function visit(bytes: Uint8Array): Visit {
  const socket = net.connect(relay.ports[0]!, "127.0.0.1");
  onTestFinished(() => void socket.destroy());
  let heard = "";
  let isOver = false;
  socket.on("error", () => undefined);
  socket.once("close", () => {
    isOver = true;
  });
  socket.on("data", (chunk: Buffer) => {
    heard += chunk.toString("hex");
  });
  socket.write(bytes);
  return { socket, isOver: () => isOver, heard: () => heard };
}

const isRouted = (node: Node) => expect.poll(() => brings(relay, node.name, PORT), WAIT).toBe(true);

/** Somebody who is here, and was answered. */
async function guest({ name }: Node): Promise<Visit> {
  const hello = makeHello({ name });
  const wanted = hello.toString("hex");
  for (;;) {
    const one = visit(hello);
    await expect.poll(() => one.heard() === wanted || one.isOver(), WAIT).toBe(true);
    if (one.heard() === wanted) return one; // else the relay has not heard yet that the name is public again
  }
}

interface Broken {
  /** The configuration before, beside what is to be taken back. */
  readonly more?: Partial<ServeConfig>;
  readonly break?: (node: Node) => unknown;
  readonly repair?: (node: Node) => unknown;
  /** Visitors who are not like others. */
  readonly visitors?: (node: Node) => Promise<readonly Visit[]> | readonly Visit[];
  /** The command cannot do all of it, and says so. */
  readonly says?: RegExp;
  /** Then it is not written down either, but for this. */
  readonly isUnwritten?: false;
  /** Nobody can reach the node in any case. */
  readonly isAway?: true;
}

const failing = (fails: (name: string) => boolean) => ({
  break: ({ disk }: Node) => {
    disk.fails = fails;
  },
  repair: ({ disk }: Node) => {
    disk.fails = () => false;
  },
});
const spied: { mockRestore(): void }[] = [];
const restore = (): void => {
  for (const one of spied.splice(0)) one.mockRestore();
};

/** Until the node has heard it: what it refuses goes by what it knows. */
const allow = async ({ gateway }: Node): Promise<void> => {
  await server.setPolicy(POLICY, "test");
  const words = (): readonly string[] => Object.keys(gateway.node.map?.self.CapMap ?? {});
  await expect
    .poll(() => words().includes("funnel") && !words().includes("sallyport.dev/door-required"), WAIT)
    .toBe(true);
};

const STATES: Readonly<Record<string, Broken>> = {
  "nothing is broken": {},
  "the disk is full": { ...failing(() => true), says: /no space left/ },
  "the disk is full for the configuration alone": {
    ...failing((name) => name === "serve.json"),
    says: /no space left/,
  },
  "certificates cannot be looked after": {
    break: ({ gateway }) => {
      const broken = vi.spyOn(gateway.certificates, "refresh");
      spied.push(
        broken.mockImplementation(() => {
          throw new Error("no certificates");
        }),
      );
    },
    repair: restore,
    says: /no certificates/,
    isUnwritten: false,
  },
  "doors cannot be settled": {
    break: ({ gateway }) => {
      spied.push(vi.spyOn(gateway.commandDoors, "settle").mockRejectedValue(new Error("no doors")));
    },
    repair: restore,
    says: /no doors/,
    isUnwritten: false,
  },
  "the configuration is refused for another entry": {
    break: ({ gateway }) => {
      const refused = new Fault("GATEWAY_TARGET_REFUSED", "Cannot serve it: another entry is refused");
      spied.push(
        vi.spyOn(gateway, "check").mockImplementation(() => {
          throw refused;
        }),
      );
    },
    repair: restore,
    says: /another entry is refused/,
  },
  "another entry has no backend": { more: { TCP: { 9000: { TCPForward: "127.0.0.1:1" } } } },
  "another entry's target is none": { more: { TCP: { 9000: { TCPForward: "nonsense" } } } },
  "another entry's name is none": {
    more: { TCP: { 443: { HTTPS: true } }, Web: { "..:443": { Handlers: { "/": { Text: "x" } } } } },
  },
  "another entry has no handlers": {
    more: { TCP: { 443: { HTTPS: true } }, Web: { "web.tail.test:443": { Handlers: null } } },
  },
  "another public entry is served by nothing": { more: { AllowFunnel: { "web.tail.test:10000": true } } },
  "another entry claims a domain that it may not have": { more: { AllowFunnel: { "shop.example.org:8443": true } } },
  "another entry claims a port that it may not have": {
    more: { TCP: { 2222: { TCPForward: "127.0.0.1:1" } }, AllowFunnel: { "*:2222": true } },
  },
  "the backend is gone with its callers still here": {
    break: () => {
      for (const socket of callers) socket.pause();
    },
  },
  "visitors do not read": {
    visitors: async (node) => {
      const slow = await guest(node);
      slow.socket.pause();
      slow.socket.write(Buffer.alloc(4_000_000));
      return [slow];
    },
  },
  "the policy demands doors": {
    break: () => server.setPolicy(policy('"funnel", "https", "sallyport.dev/door-required"'), "test"),
    repair: allow,
  },
  "the policy has taken `funnel` back": {
    break: () => server.setPolicy(policy('"https"'), "test"),
    repair: allow,
  },
  "the node has left the mesh for a while": {
    break: ({ gateway }) => gateway.setPreferences({ ...gateway.preferences.now, WantRunning: false }),
    repair: ({ gateway }) => gateway.setPreferences({ ...gateway.preferences.now, WantRunning: true }),
    isAway: true,
  },
};

async function takesBack(node: Node, state: Broken): Promise<void> {
  await node.gateway.setServeConfig(configOf(node, state.more)).catch(() => undefined);
  const { gateway } = node;
  await isRouted(node);
  const open = [await guest(node), await guest(node), ...((await state.visitors?.(node)) ?? [])];
  await state.break?.(node);
  onTestFinished(async () => void (await state.repair?.(node)));
  const { code, stderr } = await typed(node, `--tcp=${PORT}`, "off");
  if (state.says === undefined) expect([code, stderr]).toEqual([0, ""]);
  else expect([code, stderr]).toEqual([1, expect.stringMatching(state.says)]);
  // In force when the command ends, whatever it could not do.
  for (const one of open) {
    one.socket.resume();
    await expect.poll(one.isOver, WAIT).toBe(true);
  }
  await expect.poll(() => callers.size, WAIT).toBe(0);
  if (state.isAway !== true) {
    const late = visit(makeHello({ name: node.name }));
    await expect.poll(late.isOver, WAIT).toBe(true);
    expect(late.heard()).toMatch(/^150303000202(?:70|50)$/); // no such name, or a node that is away
  }
  const isKept = gateway.storedServeConfig?.AllowFunnel?.[`${node.name}:${PORT}`] === true;
  expect(isKept).toBe(state.says !== undefined && state.isUnwritten !== false);
}

test.each(Object.entries(STATES))("FN-8 off is off where %s", async (_, state) => takesBack(web, state), 60_000);

test.each<readonly [why: string, hostname: string, end: (node: Node) => unknown]>([
  ["the node's key has run out", "expired", ({ name }) => server.coordinator.expireNode(name, "test")],
  ["the node was removed from the network", "removed", ({ name }) => server.coordinator.deleteNode(name, "test")],
  ["the node is logged out", "gone", ({ gateway }) => new GatewayAdmin(gateway).logout()],
])(
  "FN-8 off is off where %s",
  async (_, hostname, end) => {
    await takesBack(await join(hostname), { break: end });
  },
  60_000,
);

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
  const disk = diskOf(memoryStore());
  const node = await join("stopped", disk, { clock });
  await node.gateway.setServeConfig(configOf(node));
  await isRouted(node);
  const open: Visit[] = [];
  while (open.length < 100) open.push(await guest(node));

  const written = Promise.withResolvers<void>();
  const { set } = disk;
  disk.set = async (...file) => {
    await written.promise;
    await set.apply(disk, file);
  };
  clock.stop(); // from now on the server hears nothing either: what it is told waits a moment first
  onTestFinished(() => clock.goOn());
  let isOver = false;
  const off = typed(node, `--tcp=${PORT}`, "off").finally(() => {
    isOver = true;
  });
  await expect.poll(() => open.filter((one) => !one.isOver()).length, WAIT).toBe(0);
  await expect.poll(() => callers.size, WAIT).toBe(0);
  expect(brings(relay, node.name, PORT)).toBe(true); // so it is the node that refuses the next one
  const late = visit(makeHello({ name: node.name }));
  await expect.poll(late.isOver, WAIT).toBe(true);
  expect(late.heard()).toMatch(/^15030300020270$/);
  expect(isOver).toBe(false);
  written.resolve();
  clock.goOn();
  expect(await off).toEqual({ code: 0, stderr: "" });
}, 60_000);

test("FN-8 a node that has heard nothing since it began, for the server is away, takes back what it was left with", async () => {
  const node = await join("late");
  await node.gateway.setServeConfig(configOf(node));
  await isRouted(node);
  await node.gateway.close();
  const gateway = await Gateway.open({
    ...(await mesh.joining("web", "late")),
    controlUrl: "http://127.0.0.1:1",
    store: node.disk,
  });
  mesh.defer(() => gateway.close());
  const again = { ...node, gateway };
  expect(gateway.storedServeConfig).toEqual(configOf(node));
  expect(await typed(again, `--tcp=${PORT}`, "off")).toEqual({ code: 0, stderr: "" });
  expect(gateway.storedServeConfig).toEqual({});
}, 60_000);

test("FN-8 off is off where the server is away, and where the relay is, too", async () => {
  await web.gateway.setServeConfig(configOf(web));
  await isRouted(web);
  await guest(web);
  await server.close();
  await takesBack(web, {});
  await web.gateway.setServeConfig(configOf(web));
  await guest(web);
  await relay.close();
  expect(await typed(web, `--tcp=${PORT}`, "off")).toEqual({ code: 0, stderr: "" });
  await expect.poll(() => callers.size, WAIT).toBe(0);
  expect(web.gateway.storedServeConfig).toEqual({});
}, 60_000);
