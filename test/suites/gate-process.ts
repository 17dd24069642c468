import net, { type AddressInfo } from "node:net";
import { setImmediate as turn } from "node:timers/promises";
import tls from "node:tls";
import { SocketConn } from "../../bench/socket-conn.ts";
import type { Proof } from "../../src/base/conn.ts";
import { certificateOf, GATE, proxyScene, webConfig } from "./proxy-scene.ts";

// Argument: the backend's URL. A gate on kernel sockets in a process of its own, so that its memory is its own too. Says
// its port once it listens, and what it uses, after a collection, whenever it is asked.
const context = tls.createSecureContext(await certificateOf(GATE));
const handlers = { "/": { Proxy: process.argv[2]! }, "/text": { Text: "hello" } };
const { proxy } = proxyScene(webConfig(handlers), { secureContext: () => context });
let open = 0;
const server = net.createServer({ allowHalfOpen: true }, (socket) => {
  open += 1;
  socket.once("close", () => {
    open -= 1;
  });
  const source = { address: "100.64.0.2", port: socket.remotePort ?? 0 };
  const proof: Proof = {
    kind: "mesh",
    nodeKey: `peer ${source.port % 64}`,
    source,
    destination: { address: "100.64.0.1", port: 443 },
  };
  proxy.accept(new SocketConn(socket, proof), 443);
});
process.on("message", async () => {
  for (let i = 0; i < 3; i++) {
    globalThis.gc?.();
    await turn();
  }
  const usage: GateUsage = { rss: process.memoryUsage.rss(), peak: process.resourceUsage().maxRSS * 1024, open };
  process.send?.(usage);
});
server.listen(0, "127.0.0.1", () => process.send?.({ port: (server.address() as AddressInfo).port }));

export interface GateUsage {
  readonly rss: number;
  /** The highest that `rss` ever was. */
  readonly peak: number;
  /** Callers' connections. */
  readonly open: number;
}
