/**
 * How long a switched-off public name stays (FN-8)? node bench/off-times.ts [rounds]
 * Server, relay and gateway in one process on loopback, 100 visitors connected through the relay's mesh. From the start of
 * `sallyport funnel … off`: until the last of them is cut, until a new one is refused for good, until the command ends.
 */
import net from "node:net";
import type { Store } from "../src/base/store.ts";
import { memoryStore } from "../src/base/store.ts";
import type { Gateway } from "../src/gateway/gateway.ts";
import type { ServeConfig } from "../src/wire/serve-config.ts";
import { makeHello } from "../test/suites/client-hellos.ts";
import { brings, FunnelMesh, funnelPolicy } from "../test/suites/funnel-mesh.ts";
import { typedFunnel } from "../test/suites/typed-command.ts";
import { median } from "./rounds.ts";

const ROUNDS = Number(process.argv[2] ?? 5);
const VISITORS = 100;
const PORT = 8443;
const NAME = "web.tail.test";
const HELLO = makeHello({ name: NAME });

interface Scene {
  readonly mesh: FunnelMesh;
  readonly gateway: Gateway;
  readonly disk: { set: Store["set"] };
  readonly config: ServeConfig;
}

const full = async (): Promise<never> => {
  throw new Error("ENOSPC: no space left on device");
};

/** What is broken before it is switched off. */
const STATES: Readonly<Record<string, (scene: Scene) => unknown>> = {
  "nothing is broken": () => undefined,
  "the disk is full": ({ disk }) => {
    disk.set = full;
  },
  "the disk takes 3 s": ({ disk }) => {
    disk.set = () => new Promise((resolve) => setTimeout(resolve, 3000));
  },
  "another entry is refused": ({ gateway }) => {
    gateway.check = () => {
      throw new Error("another entry is refused");
    };
  },
  "another entry has no backend": ({ gateway, config }) =>
    gateway.setServeConfig({ ...config, TCP: { ...config.TCP, 9000: { TCPForward: "127.0.0.1:1" } } }),
  "the server is away": ({ mesh }) => mesh.server.close(),
};

/** Connects, says its hello, and tells what came of it. */
async function visit(port: number): Promise<{ socket: net.Socket; isServed: boolean }> {
  const socket = net.connect(port, "127.0.0.1");
  socket.on("error", () => undefined);
  socket.write(HELLO);
  let heard = 0;
  const isServed = await new Promise<boolean>((resolve) => {
    socket.on("data", (chunk: Buffer) => {
      heard += chunk.length;
      if (heard >= HELLO.length) resolve(true);
    });
    socket.on("close", () => resolve(false));
  });
  return { socket, isServed };
}

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 5));
}

async function timesOf(spoil: (scene: Scene) => unknown): Promise<readonly number[]> {
  const mesh = await FunnelMesh.open({ policy: funnelPolicy('"attr": ["funnel", "https"]') });
  try {
    const backend = await mesh.echo();
    const relay = await mesh.relay({ listeners: [{ address: "127.0.0.1", port: 0, publicPort: PORT }] });
    const disk = memoryStore();
    const gateway = await mesh.gateway({ store: disk });
    const config: ServeConfig = {
      TCP: { [PORT]: { TCPForward: `127.0.0.1:${backend}` } },
      AllowFunnel: { [`${NAME}:${PORT}`]: true },
    };
    await gateway.setServeConfig(config);
    await until(() => brings(relay, NAME, PORT));
    const port = relay.ports[0]!;
    const open: net.Socket[] = [];
    while (open.length < VISITORS) {
      const { socket, isServed } = await visit(port);
      if (isServed) open.push(socket);
    }
    const closed = open.map((socket) => new Promise<void>((resolve) => socket.once("close", () => resolve())));
    await spoil({ mesh, gateway, disk, config });
    const start = performance.now();
    const since = (): number => performance.now() - start;
    const command = typedFunnel(gateway, [`--tcp=${PORT}`, "off"]).then(since);
    const cut = Promise.all(closed).then(since);
    let lastServed = 0;
    let isOver = false;
    const asking = (async () => {
      for (let refused = 0; refused < 10 || !isOver; ) {
        const { socket, isServed } = await visit(port);
        socket.destroy();
        refused = isServed ? 0 : refused + 1;
        if (isServed) lastServed = since();
      }
      return lastServed;
    })();
    const ended = await Promise.all([cut, command]);
    isOver = true;
    return [ended[0], await asking, ended[1]];
  } finally {
    await mesh.close();
  }
}

console.log(`${ROUNDS} rounds each, ms: median (worst)`);
for (const [state, spoil] of Object.entries(STATES)) {
  const rounds: (readonly number[])[] = [];
  for (let round = 0; round < ROUNDS; round++) rounds.push(await timesOf(spoil));
  const [cut, refused, command] = [0, 1, 2].map((at) => {
    const all = rounds.map((times) => times[at]!);
    return `${median(all)!.toFixed(0)} (${Math.max(...all).toFixed(0)})`;
  });
  console.log(
    `${state.padEnd(30)} last of ${VISITORS} cut ${cut}, last one let in ${refused}, command over ${command}`,
  );
}
process.exit();
