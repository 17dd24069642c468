import { silentLog } from "../src/base/log.ts";
import { memoryStore } from "../src/base/store.ts";
import { Gateway } from "../src/gateway/gateway.ts";

/** A gateway whose ports are public: 443 ends TLS, 8443 goes to `sink` as it comes. */
export interface FunnelGatewayArguments {
  readonly controlUrl: string;
  readonly authKey: string;
  readonly hostname: string;
  /** Port of loopback. */
  readonly sink: number;
}

const { controlUrl, authKey, hostname, sink } = JSON.parse(process.argv[2]!) as FunnelGatewayArguments;
const gateway = await Gateway.open({
  controlUrl,
  authKey,
  hostname,
  store: memoryStore(),
  log: silentLog,
  localAddresses: () => ["127.0.0.1"],
  allowsLoopbackVisitors: true,
});
await gateway.node.ready();
await gateway.setServeConfig({
  TCP: { 443: { HTTPS: true }, 8443: { TCPForward: `127.0.0.1:${sink}` } },
  Web: { [`${gateway.name}:443`]: { Handlers: { "/": { Text: "here" } } } },
  AllowFunnel: { [`${gateway.name}:443`]: true, [`${gateway.name}:8443`]: true },
});
process.on("SIGTERM", () => process.exit());
console.log(JSON.stringify({ address: gateway.node.addresses[0], ca: await gateway.certificates.authority() }));
