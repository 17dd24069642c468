import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { findPeer } from "../test/peers.ts";
import { endOf, freePort, LOAD_CORE, OwnProcess, SUBJECT_CORE, startPinned, untilListening } from "./processes.ts";
import { interleaved, median } from "./rounds.ts";
import type { Figure, Group } from "./table.ts";
import { type Place, Visitors, type Visits } from "./visits.ts";

const ROUNDS = 3;
const PEERS = ["haproxy", "nginx"] as const;

export interface Subject extends Place {
  readonly name: string;
  end(): Promise<void>;
}

/** The public half alone: SNI read, a TCP sink behind, no mesh below. */
async function* run(): AsyncIterable<Figure> {
  const scratch = mkdtempSync(path.join(tmpdir(), "spb-"));
  const sinkPort = await freePort();
  const sink = OwnProcess.start(LOAD_CORE, "sink-process.ts", [String(sinkPort)]);
  const visitors = new Visitors();
  const subjects: Subject[] = [];
  try {
    await Promise.all([sink.next(), visitors.ready()]);
    subjects.push(await startOurs(sinkPort));
    for (const name of PEERS) if (isHere(name)) subjects.push(await startPeer(name, sinkPort, scratch));
    const measure = (subject: Subject) => visitors.measure(subject);
    for (const subject of subjects) await measure(subject); // until V8 has compiled what is hot
    const seen = await interleaved(subjects, ROUNDS, measure);
    const of = (name: string, what: (seen: Visits) => number): number | undefined => {
      const subject = subjects.find((one) => one.name === name);
      return subject === undefined ? undefined : median(seen.get(subject)!.map(what));
    };
    const beside = (name: string, unit: string, what: (seen: Visits) => number) =>
      PEERS.map((peer): Figure => ({ name, value: of("ours", what), unit, peer, peerValue: of(peer, what) }));
    yield* beside("ingress, new connections", "1/s", ({ connections }) => connections);
    yield* beside("ingress, CPU a connection", "µs", ({ cost }) => cost[0]!);
    yield* beside("ingress, 4 downloads", "MB/s", ({ megabytes }) => megabytes);
    yield* beside("ingress, CPU a gigabyte", "s", ({ bulkCost }) => bulkCost[0]!);
    yield* beside("ingress, memory", "MB", ({ memory }) => memory);
  } finally {
    for (const subject of subjects) await subject.end();
    await Promise.all([sink.end(), visitors.end()]);
    rmSync(scratch, { recursive: true, force: true });
  }
}

const NGINX_STREAM = "/usr/lib/nginx/modules/ngx_stream_module.so";

export function isHere(name: (typeof PEERS)[number]): boolean {
  return findPeer(name) !== undefined && (name !== "nginx" || existsSync(NGINX_STREAM));
}

async function startOurs(sink: number): Promise<Subject> {
  const port = await freePort();
  const own = OwnProcess.start(SUBJECT_CORE, "ingress-process.ts", [String(port), String(sink)]);
  await own.next();
  return { name: "ours", port, pids: [own.child.pid!], end: () => own.end() };
}

export async function startPeer(name: (typeof PEERS)[number], sink: number, scratch: string): Promise<Subject> {
  const port = await freePort();
  const file = path.join(scratch, name);
  writeFileSync(file, name === "haproxy" ? haproxy(port, sink) : nginx(port, sink, scratch));
  const child = startPinned(SUBJECT_CORE, name, [name === "haproxy" ? "-f" : "-c", file]);
  await untilListening(port);
  return { name, port, pids: [child.pid!], end: () => endOf(child) };
}

const haproxy = (port: number, sink: number): string => `global
  nbthread 1
  maxconn 2000
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend f
  bind 127.0.0.1:${port}
  tcp-request inspect-delay 5s
  tcp-request content accept if { req.ssl_hello_type 1 }
  use_backend b if { req.ssl_sni -i web.bench.test }
backend b
  server s 127.0.0.1:${sink}
`;

const nginx = (port: number, sink: number, scratch: string): string => `load_module ${NGINX_STREAM};
daemon off; master_process off; user root; pid ${scratch}/nginx.pid; error_log ${scratch}/nginx.log;
events { worker_connections 4096; }
stream {
  map $ssl_preread_server_name $place { web.bench.test 127.0.0.1:${sink}; }
  server { listen 127.0.0.1:${port}; ssl_preread on; proxy_pass $place; }
}
`;

export const group: Group = { name: "ingress", run };
