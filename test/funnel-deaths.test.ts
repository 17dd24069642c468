import { once } from "node:events";
import net from "node:net";
import type { Duplex } from "node:stream";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import type { Gateway } from "../src/gateway/gateway.ts";
import type { Relay } from "../src/server/relay.ts";
import { makeHello } from "./suites/client-hellos.ts";
import { FunnelMesh, funnelPolicy } from "./suites/funnel-mesh.ts";
import { MortalNode } from "./suites/mortal-node.ts";

const WAIT = { timeout: 30_000, interval: 10 };
const NAME = "web.tail.test";
const HELLO = makeHello({ name: NAME });
const LISTENERS = [{ address: "127.0.0.1", port: 0, publicPort: 443 }];

let mesh: FunnelMesh;
/** The backend's side of each visitor. */
let guests: Set<net.Socket>;

beforeEach(async () => {
  mesh = await FunnelMesh.open({ policy: funnelPolicy() });
  onTestFinished(() => mesh.close());
  guests = new Set();
});

async function serve(gateway: Gateway): Promise<void> {
  const backend = await mesh.listen(
    net.createServer((socket) => {
      guests.add(socket);
      socket.on("error", () => undefined).once("close", () => guests.delete(socket));
      socket.pipe(socket);
    }),
  );
  await gateway.setServeConfig({
    TCP: { 443: { TCPForward: `127.0.0.1:${backend}` } },
    AllowFunnel: { [`${NAME}:443`]: true },
  });
}

/** A visitor who was answered, and says nothing more. */
async function idleVisitor(relay: Relay): Promise<{ readonly ended: Promise<string> }> {
  await expect.poll(() => relay.names.find(NAME, 443)?.peerApi !== undefined, WAIT).toBe(true);
  const socket = net.connect(relay.ports[0]!, "127.0.0.1");
  onTestFinished(() => void socket.destroy());
  let isEnded = false;
  const ended = new Promise<string>((resolve) => {
    socket.on("error", () => undefined);
    socket.once("end", () => {
      isEnded = true;
    });
    socket.once("close", () => resolve(isEnded ? "ended" : "reset"));
  });
  socket.write(HELLO);
  await once(socket, "data");
  return { ended };
}

const connectionsOf = ({ node }: Relay | Gateway): number => {
  const { connections = 0, timeWait = 0 } = node.counters["netstack"]!;
  return connections - timeWait;
};

test("FN-8 an idle visitor does not hang when the node hears that the relay is none any more, and the relay hears nothing", async () => {
  let isCut = false;
  const streams: Duplex[] = [];
  const relay = await mesh.relay({
    listeners: LISTENERS,
    connect: async ({ hostname, port }, signal) => {
      if (isCut) throw new Error("the server cannot be reached");
      const stream = net.connect({ host: hostname, port: Number(port), signal });
      streams.push(stream);
      await once(stream, "connect");
      return stream;
    },
  });
  await serve(await mesh.gateway());
  const visitor = await idleVisitor(relay);
  isCut = true;
  for (const stream of streams) stream.destroy();
  const { coordinator } = mesh.server;
  await coordinator.deleteNode(relay.node.map!.self.ID, "test");
  expect(await visitor.ended).toBe("reset");
  await expect.poll(() => guests.size, WAIT).toBe(0);
});

test("FN-13 a visitor does not wait for hours for a node that was killed and stays away", async () => {
  const relay = await mesh.relay({ listeners: LISTENERS, keepalive: { idleMs: 500, intervalMs: 200, probes: 4 } });
  const mortal = new MortalNode();
  const gateway = await mesh.gateway({ ...mortal });
  await serve(gateway);
  const visitor = await idleVisitor(relay);
  mortal.die();
  await gateway.close();
  expect(await visitor.ended).toBe("reset");
  await expect.poll(() => connectionsOf(relay), WAIT).toBe(0);
  await expect.poll(() => relay.ingress.open, WAIT).toBe(0);
});
