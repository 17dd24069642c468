import { systemClock } from "../src/base/clock.ts";
import { silentLog } from "../src/base/log.ts";
import { Ingress } from "../src/funnel/ingress.ts";
import { NameTable } from "../src/funnel/public-names.ts";
import { DialedConn } from "./dialed-conn.ts";

// Arguments: our port, the sink's. The public half alone: nodes are a TCP sink that speaks the peerapi's words.
const [port, sink] = process.argv.slice(2).map(Number);
const peerApi = { address: "127.0.0.1", port: sink! };
const names = new NameTable([{ name: "web.bench.test", ports: new Set([443]), owner: "1", peerApi }]);
const Endless = Number.POSITIVE_INFINITY;
const ingress = new Ingress({
  names: () => names,
  dial: ({ port }) => DialedConn.open(port),
  clock: systemClock,
  log: silentLog,
  limits: {
    ...{ visitorOpen: Endless, visitorPending: Endless, visitorConnectionsPerSecond: Endless },
    ...{ nameOpen: Endless, nameConnectionsPerSecond: Endless },
  },
});
await ingress.listen(port!, "127.0.0.1", { publicPort: 443 });
process.on("SIGTERM", () => process.exit());
console.log("{}");
