import { flushCompileCache } from "node:module";
import { silentLog } from "../src/base/log.ts";
import { memoryStore } from "../src/base/store.ts";
import { Gateway } from "../src/gateway/gateway.ts";
import type { UdpKind } from "../src/mesh/udp/udp-io.ts";

/** A gateway that serves one backend to the mesh. */
export interface ServeArguments {
  readonly controlUrl: string;
  readonly authKey: string;
  readonly hostname: string;
  /** Port on loopback. */
  readonly backend: number;
  /** Forwarded as they are, to the same port of loopback. */
  readonly forwarded: readonly number[];
  readonly udp?: UdpKind;
}

const { controlUrl, authKey, hostname, backend, forwarded, udp } = JSON.parse(process.argv[2]!) as ServeArguments;
process.on("SIGTERM", () => process.exit());
const gateway = await Gateway.open({
  controlUrl,
  authKey,
  hostname,
  store: memoryStore(),
  log: silentLog,
  ...(udp === undefined ? {} : { udp }),
});
await gateway.node.ready();
await gateway.setServeConfig({
  TCP: {
    "80": { HTTP: true },
    ...Object.fromEntries(forwarded.map((port) => [String(port), { TCPForward: `127.0.0.1:${port}` }])),
  },
  Web: { [`${gateway.name}:80`]: { Handlers: { "/": { Proxy: `http://127.0.0.1:${backend}` } } } },
});
console.log(JSON.stringify({ address: gateway.node.addresses[0], name: gateway.name }));
flushCompileCache();
