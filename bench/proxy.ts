import type { ChildProcess } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { findPeer } from "../test/peers.ts";
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
import { haproxyConfig, nginxBackend, nginxProxy } from "./proxy-configs.ts";
import type { Figure, Group } from "./table.ts";
import { load } from "./wrk.ts";

const HOST = "gw.bench.test";
const SECONDS = 3;
const PEERS = ["nginx", "haproxy", "caddy"] as const;

interface Subject {
  readonly port: number;
  readonly pid: number;
  end(): Promise<void>;
}

interface Measured {
  readonly idleMb: number;
  readonly small: { readonly rate: number; readonly p99: number };
  readonly many: { readonly rate: number; readonly p99: number };
  readonly big: { readonly rate: number; readonly p99: number };
  readonly loadedMb: number;
}

async function measure(subject: Subject): Promise<Measured> {
  const at = (where: string) => `http://127.0.0.1:${subject.port}${where}`;
  await load(at("/1k"), { connections: 64, seconds: 1, host: HOST }); // warm: compilers, pools
  const idleMb = residentMb(subject.pid);
  const small = await load(at("/1k"), { connections: 64, seconds: SECONDS, host: HOST });
  const many = await load(at("/1k"), { connections: 256, seconds: SECONDS, host: HOST });
  const loadedMb = residentMb(subject.pid);
  const big = await load(at("/64k"), { connections: 64, seconds: SECONDS, host: HOST });
  return { idleMb, small, many, big, loadedMb };
}

async function startPeer(name: (typeof PEERS)[number], backend: number, scratch: string): Promise<Subject> {
  const port = await freePort();
  const file = path.join(scratch, name);
  const args = { nginx: ["-c", file], haproxy: ["-f", file], caddy: [] as string[] };
  if (name === "nginx") writeFileSync(file, nginxProxy(port, backend, scratch));
  if (name === "haproxy") writeFileSync(file, haproxyConfig(port, backend));
  if (name === "caddy") {
    args.caddy = ["reverse-proxy", "--from", `http://:${port}`, "--to", `127.0.0.1:${backend}`];
  }
  const home = { GOMAXPROCS: "1", HOME: scratch, XDG_DATA_HOME: scratch, XDG_CONFIG_HOME: scratch };
  const child = startPinned(SUBJECT_CORE, name, args[name], home);
  await untilListening(port);
  return { port, pid: child.pid!, end: () => endOf(child) };
}

async function startOurs(backend: number): Promise<Subject> {
  const port = await freePort();
  const own = OwnProcess.start(SUBJECT_CORE, "proxy-process.ts", [String(port), `http://127.0.0.1:${backend}`]);
  await own.next();
  return { port, pid: own.child.pid!, end: () => own.end() };
}

async function* run(): AsyncIterable<Figure> {
  if (findPeer("wrk") === undefined || findPeer("nginx") === undefined) {
    yield { name: "proxy 1 KiB", value: undefined, unit: "req/s", peer: "nginx", note: "needs wrk and nginx" };
    return;
  }
  const scratch = mkdtempSync(path.join(tmpdir(), "sallyport-bench-"));
  mkdirSync(path.join(scratch, "www"));
  writeFileSync(path.join(scratch, "www", "64k"), Buffer.alloc(64 * 1024, "x"));
  const backendPort = await freePort();
  writeFileSync(path.join(scratch, "backend"), nginxBackend(backendPort, scratch));
  const backend: ChildProcess = startPinned(LOAD_CORE, "nginx", ["-c", path.join(scratch, "backend")]);
  try {
    await untilListening(backendPort);
    const all = new Map<string, Measured>();
    for (const name of ["ours", ...PEERS] as const) {
      if (name !== "ours" && findPeer(name) === undefined) continue;
      const subject = await (name === "ours" ? startOurs(backendPort) : startPeer(name, backendPort, scratch));
      try {
        all.set(name, await measure(subject));
      } finally {
        await subject.end();
      }
    }
    const ours = all.get("ours")!;
    const beside = (name: string, unit: string, of: (one: Measured) => number, peers: readonly string[]) =>
      peers.map((peer): Figure => {
        const theirs = all.get(peer);
        return { name, value: of(ours), unit, peer, peerValue: theirs === undefined ? undefined : of(theirs) };
      });
    yield* beside("proxy 1 KiB, 64 connections", "req/s", ({ small }) => small.rate, PEERS);
    yield* beside("proxy 1 KiB, 64 connections, p99", "ms", ({ small }) => small.p99, PEERS);
    yield* beside("proxy 1 KiB, 256 connections", "req/s", ({ many }) => many.rate, PEERS);
    yield* beside("proxy 64 KiB, 64 connections", "req/s", ({ big }) => big.rate, PEERS);
    yield* beside("proxy memory after the warm-up", "MB", ({ idleMb }) => idleMb, PEERS);
    yield* beside("proxy memory after 256 connections", "MB", ({ loadedMb }) => loadedMb, PEERS);
  } finally {
    await endOf(backend);
    rmSync(scratch, { recursive: true, force: true });
  }
}

export const group: Group = { name: "proxy", run };
