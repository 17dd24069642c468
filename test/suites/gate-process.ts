import { readdirSync, readFileSync } from "node:fs";
import net, { type AddressInfo } from "node:net";
import { setImmediate as turn } from "node:timers/promises";
import tls from "node:tls";
import { queryObjects } from "node:v8";
import { SocketConn } from "../../bench/socket-conn.ts";
import type { Proof } from "../../src/base/conn.ts";
import { ConnDuplex } from "../../src/base/duplex.ts";
import { inParallel } from "./in-parallel.ts";
import { ALICE, certificateOf, GATE, proxyScene, read, webConfig } from "./proxy-scene.ts";

// Arguments: the backend's URL, a certificate that may sign the backend's, and how many peers the callers are. A gate on kernel
// sockets in a process of its own, so that its memory is its own too. Says its ports once it listens, and what it uses, after a
// collection, whenever it is asked.
const [url, root = "", peers = "64"] = process.argv.slice(2);
const context = tls.createSecureContext(await certificateOf(GATE));
const handlers = { "/": { Proxy: url! }, "/text": { Text: "hello" } };
const backendRoots = root === "" ? [] : [root];
const scene = proxyScene(webConfig(handlers), { secureContext: () => context, backendRoots });
/** Each may have only so many connections, and break HTTP/2's rules only so often. */
const PEERS = Number(peers);
let open = 0;

async function listen(port: number): Promise<number> {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    open += 1;
    socket.once("close", () => {
      open -= 1;
    });
    const source = { address: "100.64.0.2", port: socket.remotePort ?? 0 };
    const destination = { address: "100.64.0.1", port };
    const proof: Proof = { kind: "mesh", nodeKey: `peer ${source.port % PEERS}`, source, destination };
    scene.proxy.accept(new SocketConn(socket, proof), port);
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", 1024, resolve);
  await promise;
  return (server.address() as AddressInfo).port;
}

/** Not by getrusage(2), which begins with what the parent had when it forked. */
function highestResidentBytes(): number {
  const [, kib] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "latin1")) ?? [];
  return Number(kib) * 1024;
}

/** Callers in this process, who cost no descriptor; what they weigh is in the account. */
const tunnels: ConnDuplex[] = [];

async function openTunnel(offer: string, index: number): Promise<void> {
  const nodeKey = `peer ${index % PEERS}`;
  scene.caller = { ...ALICE, nodeKey };
  const client = scene.connect(80, nodeKey);
  client.write(offer);
  await read(client, (text) => text.endsWith("\r\n\r\n"));
  tunnels.push(client);
}

process.on("message", async (question: GateQuestion) => {
  if (typeof question === "object") await inParallel(question.tunnels, 200, (i) => openTunnel(question.offer, i));
  for (let i = 0; i < 3; i++) {
    globalThis.gc?.();
    await turn();
  }
  const usage: GateUsage = {
    rss: process.memoryUsage.rss(),
    peak: highestResidentBytes(),
    open: open + tunnels.length,
    descriptors: readdirSync("/proc/self/fd").length,
    ...(question === "held" ? { held: queryObjects(ConnDuplex, { format: "count" }) } : {}),
  };
  process.send?.(usage);
});
process.send?.({ port: await listen(80), securePort: await listen(443) } satisfies GatePorts);

export interface GatePorts {
  readonly port: number;
  readonly securePort: number;
}

export interface GateUsage {
  readonly rss: number;
  /** The highest that `rss` ever was. */
  readonly peak: number;
  /** Callers' connections. */
  readonly open: number;
  readonly descriptors: number;
  /** Callers' connections that memory still knows, open or not; where that was asked. */
  readonly held?: number;
}

export type GateQuestion = "usage" | "held" | { readonly tunnels: number; readonly offer: string };
