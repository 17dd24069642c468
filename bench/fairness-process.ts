import { systemClock } from "../src/base/clock.ts";
import { silentLog } from "../src/base/log.ts";
import { Ingress } from "../src/funnel/ingress.ts";
import { NameTable } from "../src/funnel/public-names.ts";
import { DialedConn } from "./dialed-conn.ts";

// Arguments: our port, the sink's, connections a second of one name. An ingress with two public names and its usual limits.
const [port, sink, perSecond] = process.argv.slice(2).map(Number);
const peerApi = { address: "127.0.0.1", port: sink! };
const names = ["loud.bench.test", "quiet.bench.test"].map((name) => ({
  name,
  ports: new Set([443]),
  owner: name,
  peerApi,
}));
const table = new NameTable(names);
const ingress = new Ingress({
  names: () => table,
  dial: ({ port }) => DialedConn.open(port),
  clock: systemClock,
  log: silentLog,
  limits: { nameConnectionsPerSecond: perSecond! },
});
await ingress.listen(port!, "127.0.0.1", { publicPort: 443 });
process.on("SIGTERM", () => process.exit());
console.log("{}");
