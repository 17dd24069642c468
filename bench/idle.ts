import { setTimeout as sleep } from "node:timers/promises";
import { FunnelMesh } from "./funnel-mesh.ts";
import { cpuSeconds, LOAD_CORE, OwnProcess, residentMb } from "./processes.ts";
import type { Figure, Group } from "./table.ts";

const VISITORS = 10_000;
/** Who came before, so that what is loaded and compiled once is not counted. */
const FIRST = 500;
const SETTLE_MS = 5000;
const REST_SECONDS = 20;

/** Visitors who have a TLS connection through relay and mesh, asked once and do nothing: what that costs. */
async function* run(): AsyncIterable<Figure> {
  const mesh = await FunnelMesh.open();
  let visitors: OwnProcess | undefined;
  try {
    const relay = await mesh.relay();
    visitors = OwnProcess.start(LOAD_CORE, "idle-visitors-process.ts", [String(relay.ports[0]), mesh.ca]);
    await visitors.next();
    const parts = [
      ["ingress", relay.process.child.pid!],
      ["gateway", mesh.gateway.child.pid!],
    ] as const;
    const memory = () => parts.map(([, pid]) => residentMb(pid));
    const bring = async (count: number) =>
      (await visitors!.ask(String(count))) as { readonly here: number; readonly lost: number };
    await bring(FIRST);
    await sleep(SETTLE_MS);
    const before = memory();
    const { here, lost } = await bring(VISITORS - FIRST);
    await sleep(SETTLE_MS);
    const after = memory();
    const times = parts.map(([, pid]) => cpuSeconds(pid));
    await sleep(REST_SECONDS * 1000);
    const note = lost === 0 ? {} : { note: `${lost} lost` };
    yield { name: "idle visitors", value: here, unit: "", ...note };
    for (const [i, [name, pid]] of parts.entries()) {
      yield { name: `idle visitors, ${name}'s memory`, value: after[i], unit: "MB" };
      const each = ((after[i]! - before[i]!) * 1024) / (here - FIRST);
      yield { name: `idle visitors, ${name}'s memory each`, value: each, unit: "KiB" };
      const share = (cpuSeconds(pid) - times[i]!) / REST_SECONDS;
      yield { name: `idle visitors, ${name}'s CPU`, value: 100 * share, unit: "%" };
    }
  } finally {
    await visitors?.end();
    await mesh.end();
  }
}

export const group: Group = { name: "idle", run };
