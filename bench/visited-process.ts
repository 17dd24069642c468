import { createServer, type Server } from "node:net";
import type { AddressPort } from "../src/base/address.ts";
import { systemClock } from "../src/base/clock.ts";
import { silentLog } from "../src/base/log.ts";
import { memoryStore } from "../src/base/store.ts";
import { MeshNode } from "../src/mesh/node.ts";
import { relay } from "../src/proxy/tcp-forward.ts";
import { Relay } from "../src/server/relay.ts";

/** Where visitors come in: Funnel's relay, or a member of the mesh that only forwards to one place there. */
export interface VisitedArguments {
  readonly controlUrl: string;
  readonly authKey: string;
  readonly hostname: string;
  /** Absent: a relay. */
  readonly forwardTo?: AddressPort;
}

const { forwardTo, ...options } = JSON.parse(process.argv[2]!) as VisitedArguments;
const common = {
  ...options,
  store: memoryStore(),
  log: silentLog,
  clock: systemClock,
  localAddresses: () => ["127.0.0.1"],
};
const Endless = Number.POSITIVE_INFINITY;
process.on("SIGTERM", () => process.exit());

async function openRelay(): Promise<readonly number[]> {
  const { node, ports } = await Relay.open({
    ...common,
    listeners: [443, 8443].map((publicPort) => ({ address: "127.0.0.1", port: 0, publicPort })),
    limits: {
      ...{ visitorOpen: Endless, visitorPending: Endless, visitorConnectionsPerSecond: Endless },
      ...{ nameOpen: Endless, nameConnectionsPerSecond: Endless },
    },
  });
  await node.ready();
  return ports;
}

async function openForwarder(target: AddressPort): Promise<readonly number[]> {
  const node = await MeshNode.open(common);
  await node.ready();
  const server: Server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, (socket) => {
    socket.on("error", () => undefined);
    node.dial(target).then(
      (conn) => {
        relay(conn, socket);
        socket.resume();
      },
      () => socket.destroy(),
    );
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", 1024, () => resolve());
  await promise;
  return [(server.address() as { port: number }).port];
}

const ports = forwardTo === undefined ? await openRelay() : await openForwarder(forwardTo);
console.log(JSON.stringify({ ports }));
