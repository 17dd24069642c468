import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createSelfSigned } from "../src/certs/self-signed.ts";
import { findPeer } from "../test/peers.ts";
import { secureLoad } from "./h2load.ts";
import {
  endOf,
  freePort,
  LOAD_CORE,
  OwnProcess,
  residentMb,
  SUBJECT_CORE,
  startPinned,
  untilListening,
} from "./processes.ts";
import { caddyConfig, haproxyConfig, nginxBackend, nginxProxy, type ProxySetup } from "./proxy-configs.ts";
import { interleaved, median } from "./rounds.ts";
import type { Figure, Group } from "./table.ts";
import { type Load, load } from "./wrk.ts";

const HOST = "gw.bench.test";
const SECONDS = 2;
/** Until V8 has compiled what is hot. */
const WARM_UP_SECONDS = 5;
const ROUNDS = 3;
const PEERS = ["nginx", "haproxy", "caddy"] as const;
const CONFIGS = { nginx: nginxProxy, haproxy: haproxyConfig, caddy: caddyConfig } as const;

interface Subject {
  readonly name: string;
  readonly port: number;
  readonly securePort: number;
  readonly pid: number;
  readonly idleMb: number;
  end(): Promise<void>;
}

interface Seen {
  readonly small: Load;
  readonly many: Load;
  readonly big: Load;
  readonly loadedMb: number;
  /** Requests a second. */
  readonly https: number;
  readonly http2: number;
  readonly post: Load;
  readonly keptPost: Load;
  readonly securePost: Load;
}

async function* run(): AsyncIterable<Figure> {
  const missing = ["wrk", "h2load", "nginx"].filter((name) => findPeer(name) === undefined);
  if (missing.length > 0) {
    const note = `skipped: needs ${missing.join(", ")}`;
    yield { name: "proxy 1 KiB", value: undefined, unit: "req/s", peer: "nginx", note };
    return;
  }
  const scratch = mkdtempSync(path.join(tmpdir(), "spb-"));
  const subjects: Subject[] = [];
  const [backendPort, secureBackend] = [await freePort(), await freePort()];
  mkdirSync(path.join(scratch, "www"));
  writeFileSync(path.join(scratch, "www", "64k"), Buffer.alloc(64 * 1024, "x"));
  const pem = path.join(scratch, "pem");
  const { key, certificate } = await createSelfSigned(HOST, Date.now());
  writeFileSync(pem, key + certificate);
  writeFileSync(path.join(scratch, "backend"), nginxBackend(backendPort, scratch, { port: secureBackend, pem }));
  const script = path.join(scratch, "post.lua");
  writeFileSync(script, 'wrk.method = "POST"\nwrk.body = string.rep("x", 100)\n');
  const backend = startPinned(LOAD_CORE, "nginx", ["-c", path.join(scratch, "backend")]);
  try {
    await untilListening(backendPort);
    for (const name of ["ours", ...PEERS] as const) {
      if (name !== "ours" && findPeer(name) === undefined) continue;
      subjects.push(await start(name, { backend: backendPort, secureBackend, pem, scratch }));
    }
    const seen = await interleaved(subjects, ROUNDS, (subject) => measure(subject, script));
    const of = (name: string, what: (seen: Seen) => number): number | undefined => {
      const subject = subjects.find((one) => one.name === name);
      return subject === undefined ? undefined : median(seen.get(subject)!.map(what));
    };
    const beside = (name: string, unit: string, what: (seen: Seen) => number) =>
      PEERS.map((peer): Figure => ({ name, value: of("ours", what), unit, peer, peerValue: of(peer, what) }));
    yield* beside("proxy 1 KiB, 64 connections", "req/s", ({ small }) => small.rate);
    yield* beside("proxy 1 KiB, 64 connections, p50", "ms", ({ small }) => small.p50);
    yield* beside("proxy 1 KiB, 64 connections, p99", "ms", ({ small }) => small.p99);
    yield* beside("proxy 1 KiB, CPU a request", "µs", ({ small }) => small.cost);
    yield* beside("proxy 1 KiB, 256 connections", "req/s", ({ many }) => many.rate);
    yield* beside("proxy 1 KiB, 256 connections, p99", "ms", ({ many }) => many.p99);
    yield* beside("proxy 64 KiB, 64 connections", "req/s", ({ big }) => big.rate);
    yield* beside("proxy 64 KiB, CPU a request", "µs", ({ big }) => big.cost);
    yield* beside("proxy HTTPS 1 KiB, 64 connections", "req/s", ({ https }) => https);
    yield* beside("proxy HTTP/2 1 KiB, 16 connections of 4 streams", "req/s", ({ http2 }) => http2);
    yield* beside("proxy POST of 100 bytes, 64 connections", "req/s", ({ post }) => post.rate);
    yield* beside("proxy POST of 100 bytes, CPU a request", "µs", ({ post }) => post.cost);
    yield* beside("proxy POST of 100 bytes, connections kept", "req/s", ({ keptPost }) => keptPost.rate);
    yield* beside("proxy POST of 100 bytes, connections kept, CPU a request", "µs", ({ keptPost }) => keptPost.cost);
    yield* beside("proxy POST of 100 bytes, backend with TLS", "req/s", ({ securePost }) => securePost.rate);
    yield* beside(
      "proxy POST of 100 bytes, backend with TLS, CPU a request",
      "µs",
      ({ securePost }) => securePost.cost,
    );
    const idle = (name: string) => subjects.find((one) => one.name === name)?.idleMb;
    for (const peer of PEERS) {
      yield { name: "proxy memory, idle", value: idle("ours"), unit: "MB", peer, peerValue: idle(peer) };
    }
    yield* beside("proxy memory, after 256 connections", "MB", ({ loadedMb }) => loadedMb);
  } finally {
    for (const subject of subjects) await subject.end();
    await endOf(backend);
    rmSync(scratch, { recursive: true, force: true });
  }
}

type Setting = Pick<ProxySetup, "backend" | "secureBackend" | "pem" | "scratch">;

async function start(name: "ours" | (typeof PEERS)[number], setting: Setting): Promise<Subject> {
  const setup = { ...setting, port: await freePort(), securePort: await freePort() };
  const { port, securePort, backend, secureBackend, pem, scratch } = setup;
  if (name === "ours") {
    const ports = [String(port), String(securePort)];
    const args = [...ports, `http://127.0.0.1:${backend}`, `https+insecure://127.0.0.1:${secureBackend}`, pem];
    const own = OwnProcess.start(SUBJECT_CORE, "proxy-process.ts", args);
    await own.next();
    return warmed({ name, port, securePort, pid: own.child.pid!, end: () => own.end() });
  }
  const file = path.join(scratch, name);
  writeFileSync(file, CONFIGS[name](setup));
  const args = {
    nginx: ["-c", file],
    haproxy: ["-f", file],
    caddy: ["run", "--adapter", "caddyfile", "--config", file],
  };
  const home = { GOMAXPROCS: "1", HOME: scratch, XDG_DATA_HOME: scratch, XDG_CONFIG_HOME: scratch };
  const child = startPinned(SUBJECT_CORE, name, args[name], home);
  await untilListening(port);
  await untilListening(securePort);
  return warmed({ name, port, securePort, pid: child.pid!, end: () => endOf(child) });
}

async function warmed(subject: Omit<Subject, "idleMb">): Promise<Subject> {
  const idleMb = residentMb(subject.pid);
  await load(`http://127.0.0.1:${subject.port}/1k`, {
    connections: 64,
    seconds: WARM_UP_SECONDS,
    host: HOST,
  });
  return { ...subject, idleMb };
}

async function measure({ port, securePort, pid }: Subject, script: string): Promise<Seen> {
  const at = (where: string) => `http://127.0.0.1:${port}${where}`;
  const options = { seconds: SECONDS, host: HOST, pid };
  const small = await load(at("/1k"), { connections: 64, ...options });
  const many = await load(at("/1k"), { connections: 256, ...options });
  const loadedMb = residentMb(pid);
  const big = await load(at("/64k"), { connections: 64, ...options });
  const secure = { port: securePort, seconds: SECONDS, host: HOST };
  const https = await secureLoad({ ...secure, connections: 64, isHttp2: false });
  const http2 = await secureLoad({ ...secure, connections: 16, isHttp2: true });
  // With a body a request is the last of its backend connection, as it is with nginx where nothing else is said.
  const post = await load(at("/post/1k"), { connections: 64, script, ...options });
  const keptPost = await load(at("/kept/1k"), { connections: 64, script, ...options });
  const securePost = await load(at("/tls/1k"), { connections: 64, script, ...options });
  return { small, many, big, loadedMb, https, http2, post, keptPost, securePost };
}

export const group: Group = { name: "proxy", run };
