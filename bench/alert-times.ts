/**
 * Does time tell a private name from an unknown one (FN-3)? node bench/alert-times.ts [hellos of each kind]
 * No test: a busy machine would fail it. The hellos are of one length, in turns, each on a connection of its own; a
 * kind differs from another where its median lies outside of what the other's halves differ by.
 */
import { once } from "node:events";
import { connect } from "node:net";
import { systemClock } from "../src/base/clock.ts";
import { silentLog } from "../src/base/log.ts";
import { Ingress } from "../src/funnel/ingress.ts";
import { NameTable } from "../src/funnel/public-names.ts";
import { extension, helloMessage, inRecords } from "../test/suites/client-hellos.ts";
import { median } from "./rounds.ts";

const EACH = Number(process.argv[2] ?? 5000);
const LENGTH = 600;
const UNRECOGNIZED = "15030300020270";

/** Filled up: what is longer takes longer, whatever it says. */
function helloOf(name: string | undefined): Buffer {
  const bare = helloMessage({ ...(name === undefined ? {} : { name }) }).length;
  const padding = extension(21, Buffer.alloc(LENGTH - bare - 4));
  return inRecords(helloMessage({ ...(name === undefined ? {} : { name }), after: [padding] }));
}

const KINDS: readonly (readonly [kind: string, hello: Buffer])[] = [
  ["unknown", helloOf("stranger.mesh.test")],
  ["private", helloOf("payroll.mesh.test")], // a node of the mesh: the ingress was never told of it
  ["below a public name", helloOf("x.web.mesh.test")],
  ["public, other port", helloOf("odd.mesh.test")],
  ["an IP address", helloOf("203.0.113.9")],
  ["no name", helloOf(undefined)],
];

const claim = (name: string, port: number) => ({ name, ports: new Set([port]), owner: name, peerApi: undefined });
const names = new NameTable([claim("web.mesh.test", 443), claim("odd.mesh.test", 8443)]);
const ingress = new Ingress({
  names: () => names,
  dial: () => Promise.reject(new Error("nobody is delivered here")),
  clock: systemClock,
  log: silentLog,
  limits: { visitorConnectionsPerSecond: 1e9 },
});
const port = await ingress.listen(0, "127.0.0.1", { publicPort: 443 });

async function timeOf(hello: Buffer): Promise<number> {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true });
  await once(socket, "connect");
  const start = process.hrtime.bigint();
  socket.write(hello);
  const [alert] = (await once(socket, "data")) as [Buffer];
  const took = Number(process.hrtime.bigint() - start) / 1000;
  if (alert.toString("hex") !== UNRECOGNIZED) throw new Error(`Another answer: ${alert.toString("hex")}`);
  socket.destroy();
  return took;
}

const times = new Map(KINDS.map(([kind]) => [kind, [] as number[]]));
for (let round = -EACH / 5; round < EACH; round++) {
  // Each kind is the first of a round as often as the others.
  for (let i = 0; i < KINDS.length; i++) {
    const [kind, hello] = KINDS[(i + round + 6 * EACH) % KINDS.length]!;
    const took = await timeOf(hello);
    if (round >= 0) times.get(kind)!.push(took);
  }
}
for (const [kind, all] of times) {
  const halves = [0, 1].map((half) => median(all.filter((_, i) => i % 2 === half)));
  const sorted = all.toSorted((a, b) => a - b);
  const at = (part: number): string => sorted[Math.floor(sorted.length * part)]!.toFixed(1);
  const noise = Math.abs(halves[0]! - halves[1]!).toFixed(2);
  console.log(`${kind.padEnd(20)} median ${at(0.5)} µs, 10 % ${at(0.1)}, 90 % ${at(0.9)}; halves differ by ${noise}`);
}
ingress.close();
