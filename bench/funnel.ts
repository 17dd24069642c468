import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { FunnelMesh } from "./funnel-mesh.ts";
import { isHere, type Subject, startPeer } from "./ingress.ts";
import { eventually } from "./link.ts";
import { interleaved, median } from "./rounds.ts";
import type { Figure, Group } from "./table.ts";
import { Visitors, type Visits } from "./visits.ts";

const ROUNDS = 3;
/** Rounds that are not counted: V8 needs some ten seconds of visits to compile what is hot, on either side. */
const WARM_UPS = 3;

/**
 * Funnel whole: visitor, relay, mesh, gateway, sink. Beside it the same without Funnel: a member of the mesh forwards to
 * a TCP port of the same gateway, as with `serve --tcp`. The relay or member has core 0, the gateway shares the other.
 */
async function* run(): AsyncIterable<Figure> {
  const scratch = mkdtempSync(path.join(tmpdir(), "spb-"));
  const mesh = await FunnelMesh.open();
  const visitors = new Visitors();
  const peers: Subject[] = [];
  try {
    await visitors.ready();
    const gateway = mesh.gateway.child.pid!;
    const [relay, member] = [await mesh.relay(), await mesh.member()];
    const funnel = { port: relay.ports[1]!, pids: [relay.process.child.pid!, gateway] };
    const serve = { port: member.ports[0]!, pids: [member.process.child.pid!, gateway] };
    if (isHere("haproxy")) peers.push(await startPeer("haproxy", mesh.sink, scratch));
    const cases = [funnel, serve, ...peers];
    for (const one of cases) {
      // The first visits come before the map of the mesh.
      await eventually("a visitor to come through", () => visitors.measure(one).catch(() => undefined));
    }
    await interleaved(cases, WARM_UPS, (one) => visitors.measure(one));
    const seen = await interleaved(cases, ROUNDS, (one) => visitors.measure(one));
    const of = (one: (typeof cases)[number] | undefined, what: (seen: Visits) => number) =>
      one === undefined ? undefined : median(seen.get(one)!.map(what));
    const rows = [
      ["new connections", "1/s", ({ connections }: Visits) => connections],
      ["4 downloads", "MB/s", ({ megabytes }: Visits) => megabytes],
      ["entrance's CPU a connection", "µs", ({ cost }: Visits) => cost[0]!],
      ["entrance's CPU a gigabyte", "s", ({ bulkCost }: Visits) => bulkCost[0]!],
    ] as const;
    for (const [name, unit, what] of rows) {
      const figure = { name: `funnel, ${name}`, value: of(funnel, what), unit };
      yield { ...figure, peer: "serve --tcp", peerValue: of(serve, what) };
      yield { ...figure, peer: "haproxy", peerValue: of(peers[0], what) };
    }
    for (const [name, unit, what] of [
      ["gateway's CPU a connection", "µs", ({ cost }: Visits) => cost[1]!],
      ["gateway's CPU a gigabyte", "s", ({ bulkCost }: Visits) => bulkCost[1]!],
    ] as const) {
      const figure = { name: `funnel, ${name}`, value: of(funnel, what), unit };
      yield { ...figure, peer: "serve --tcp", peerValue: of(serve, what) };
    }
  } finally {
    for (const peer of peers) await peer.end();
    await Promise.all([mesh.end(), visitors.end()]);
    rmSync(scratch, { recursive: true, force: true });
  }
}

export const group: Group = { name: "funnel", run };
