import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type { UdpKind } from "../src/mesh/udp/udp-io.ts";
import { findPeer, isRoot } from "../test/peers.ts";
import { iperf } from "./iperf.ts";
import { createLink, eventually, type Link, type Side } from "./link.ts";
import { LOAD_CORE, OwnProcess, residentMb, SUBJECT_CORE } from "./processes.ts";
import { nginxBackend } from "./proxy-configs.ts";
import { interleaved, median } from "./rounds.ts";
import type { ServeArguments } from "./serve-process.ts";
import type { Figure, Group } from "./table.ts";
import { type Load, load } from "./wrk.ts";

const BACKEND_PORT = 8080;
const BULK_PORTS = [5201, 5202] as const;
const SECONDS = 2;
/** Until V8 has compiled what is hot. */
const WARM_UP_SECONDS = 5;
const ROUNDS = 3;
const PEER = "tailscaled";
/** So many nodes of ours beside the two that talk. */
const CROWD = 98;

interface Subject {
  readonly name: string;
  readonly address: string;
  readonly pid: number;
  readonly idleMb: number;
  /** From nothing, with an auth key, until the first answer came through the mesh. */
  readonly startMs: number;
}

interface Seen {
  readonly few: Load;
  readonly some: Load;
  readonly many: Load;
  readonly up: number;
  readonly down: number;
}

async function* run(): AsyncIterable<Figure> {
  const missing = ["ip", "wrk", "nginx", "iperf3", "curl"].filter((name) => findPeer(name) === undefined);
  const hasPeer = findPeer("tailscaled") !== undefined && findPeer("tailscale") !== undefined;
  const reason = !isRoot ? "needs root" : missing.length > 0 ? `needs ${missing.join(", ")}` : undefined;
  if (reason !== undefined || !hasPeer) {
    const note = `skipped: ${reason ?? "no tailscaled on PATH or in $SALLYPORT_PEERS, which is also the load's end"}`;
    yield { name: "serve over the mesh", value: undefined, unit: "req/s", peer: PEER, note };
    return;
  }
  const scratch = mkdtempSync(path.join(tmpdir(), "spb-"));
  using link = createLink();
  try {
    const bench = await ServeBench.open(link, scratch);
    const dgram = await bench.ours("dgram", "dgram"); // first, so that the other starts with compiled code, as usual
    const ours = await bench.ours("ours");
    const theirs = await bench.theirs();
    const seen = await interleaved([ours, theirs, dgram], ROUNDS, (subject) => bench.measure(subject));
    const of = (subject: Subject, what: (seen: Seen) => number) => median(seen.get(subject)!.map(what));
    const beside = (name: string, unit: string, what: (seen: Seen) => number, subject = ours): Figure => ({
      name,
      value: of(subject, what),
      unit,
      peer: PEER,
      peerValue: of(theirs, what),
    });
    for (const [what, which] of [
      ["16 connections", "few"],
      ["64 connections", "some"],
      ["256 connections", "many"],
    ] as const) {
      yield beside(`serve 1 KiB, ${what}`, "req/s", (one) => one[which].rate);
      yield beside(`serve 1 KiB, ${what}, p50`, "ms", (one) => one[which].p50);
      yield beside(`serve 1 KiB, ${what}, p99`, "ms", (one) => one[which].p99);
    }
    yield beside("serve 1 KiB, 64 connections, CPU a request", "µs", ({ some }) => some.cost);
    yield beside("serve 1 KiB, 64 connections, dgram forced", "req/s", ({ some }) => some.rate, dgram);
    yield beside("serve bulk to the gateway", "Gbit/s", ({ up }) => up);
    yield beside("serve bulk from the gateway", "Gbit/s", ({ down }) => down);
    yield beside("serve bulk to the gateway, dgram forced", "Gbit/s", ({ up }) => up, dgram);
    yield beside("serve bulk from the gateway, dgram forced", "Gbit/s", ({ down }) => down, dgram);
    const plain = { unit: "MB", peer: PEER };
    yield { name: "memory after the join", value: ours.idleMb, peerValue: theirs.idleMb, ...plain };
    const [loaded, theirLoaded] = [residentMb(ours.pid), residentMb(theirs.pid)];
    yield { name: "memory after all of the above", value: loaded, peerValue: theirLoaded, ...plain };
    const start = { name: "from nothing to the first request", unit: "ms", peer: PEER };
    yield { ...start, value: ours.startMs, peerValue: theirs.startMs };
    await bench.crowd(CROWD);
    const crowded = await interleaved([ours, theirs], ROUNDS, (subject) => bench.load(subject, 64));
    const rate = (subject: Subject) => median(crowded.get(subject)!.map((one) => one.rate));
    const name = "serve 1 KiB, 64 connections, 100 peers";
    yield { name, value: rate(ours), unit: "req/s", peer: PEER, peerValue: rate(theirs) };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** A mesh of our own coordination server, a stock client with a TUN as the load's end, and the subjects. */
export class ServeBench {
  readonly #link: Link;
  readonly #scratch: string;
  readonly #mesh: OwnProcess;
  readonly #url: string;

  private constructor(link: Link, scratch: string, mesh: OwnProcess, url: string) {
    this.#link = link;
    this.#scratch = scratch;
    this.#mesh = mesh;
    this.#url = url;
  }

  static async open(link: Link, scratch: string): Promise<ServeBench> {
    const mesh = OwnProcess.inside(link.load, LOAD_CORE, "mesh-process.ts", [link.load.address]);
    const { url } = (await mesh.next()) as { url: string };
    const bench = new ServeBench(link, scratch, mesh, url);
    const { subject } = link;
    mkdirSync(path.join(scratch, "www"));
    writeFileSync(path.join(scratch, "backend"), nginxBackend(BACKEND_PORT, scratch));
    subject.start(LOAD_CORE, "nginx", ["-c", path.join(scratch, "backend")]);
    for (const port of BULK_PORTS) subject.start(LOAD_CORE, "iperf3", ["-s", "-B", "127.0.0.1", "-p", String(port)]);
    await bench.#tailscaled(link.load, LOAD_CORE, "load", "ts0");
    return bench;
  }

  async #key(): Promise<string> {
    return ((await this.#mesh.ask("key")) as { key: string }).key;
  }

  /** Gives its process id. */
  async #tailscaled(side: Side, core: number, name: string, tun: string): Promise<number> {
    const state = path.join(this.#scratch, name);
    const child = side.start(core, "tailscaled", [`--tun=${tun}`, "--statedir", state, "--socket", `${state}.sock`], {
      TS_NO_LOGS_NO_SUPPORT: "true",
    });
    child.stdout!.resume();
    await eventually(`tailscaled ${name}`, () => this.#tailscale(side, name, "status", "--json"));
    const up = ["up", "--login-server", this.#url, "--auth-key", await this.#key(), "--hostname", name];
    side.run("tailscale", `--socket=${state}.sock`, ...up, "--accept-dns=false", "--timeout=30s");
    return child.pid!;
  }

  #tailscale(side: Side, name: string, ...args: readonly string[]): string | undefined {
    try {
      return side.run("tailscale", `--socket=${path.join(this.#scratch, name)}.sock`, ...args);
    } catch {
      return undefined;
    }
  }

  async ours(hostname: string, udp?: UdpKind): Promise<Subject> {
    const options: ServeArguments = {
      controlUrl: this.#url,
      authKey: await this.#key(),
      hostname,
      backend: BACKEND_PORT,
      forwarded: BULK_PORTS,
      ...(udp === undefined ? {} : { udp }),
    };
    const begun = performance.now();
    const env = { NODE_COMPILE_CACHE: path.join(this.#scratch, "code") }; // as `bin.ts` does it
    const args = [JSON.stringify(options)];
    const own = OwnProcess.inside(this.#link.subject, SUBJECT_CORE, "serve-process.ts", args, env);
    const { address, name } = (await own.next()) as { address: string; name: string };
    return this.#first({ name, address, pid: own.child.pid! }, begun);
  }

  async theirs(): Promise<Subject> {
    const { subject } = this.#link;
    const begun = performance.now();
    const pid = await this.#tailscaled(subject, SUBJECT_CORE, "stock", "userspace-networking");
    const say = (...args: readonly string[]) => {
      const text = this.#tailscale(subject, "stock", ...args);
      if (text === undefined) throw new Error(`tailscale ${args.join(" ")} failed`);
      return text;
    };
    say("serve", "--bg", "--http=80", `http://127.0.0.1:${BACKEND_PORT}`);
    const address = say("ip", "-4").trim();
    const seen = await this.#first({ name: "stock.bench.test", address, pid }, begun);
    for (const port of BULK_PORTS) say("serve", "--bg", `--tcp=${port}`, `tcp://127.0.0.1:${port}`);
    return seen;
  }

  async #first(subject: Pick<Subject, "name" | "address" | "pid">, begun: number): Promise<Subject> {
    const { name, address, pid } = subject;
    await eventually(`the first answer of ${name}`, () => {
      try {
        const args = ["-sf", "--max-time", "2", "-o", "/dev/null", "-H", `Host: ${name}`, `http://${address}/1k`];
        this.#link.load.run("curl", ...args);
        return true;
      } catch {
        return undefined;
      }
    });
    const startMs = performance.now() - begun;
    await eventually(`a direct path to ${name}`, () => {
      const text = this.#tailscale(this.#link.load, "load", "ping", "--c=3", "--timeout=2s", address);
      return text?.includes(this.#link.subject.address) ? true : undefined;
    });
    const seen = { name, address, pid, startMs, idleMb: residentMb(pid) };
    await this.load(seen, 64, WARM_UP_SECONDS);
    return seen;
  }

  load({ name, address, pid }: Subject, connections: number, seconds: number = SECONDS): Promise<Load> {
    return load(`http://${address}/1k`, { connections, seconds, host: name, side: this.#link.load, pid });
  }

  async measure(subject: Subject): Promise<Seen> {
    const bulk = (isDownload: boolean) => {
      const { address } = subject;
      return iperf(this.#link.load, LOAD_CORE, { address, port: 5201, seconds: SECONDS, isDownload, streams: 1 });
    };
    return {
      few: await this.load(subject, 16),
      some: await this.load(subject, 64),
      many: await this.load(subject, 256),
      up: await bulk(false),
      down: await bulk(true),
    };
  }

  /** Nodes that join and say nothing more. */
  async crowd(count: number): Promise<void> {
    const answer = await this.#mesh.ask(`crowd ${count}`);
    if (answer["joined"] !== count) throw new Error(`Only ${String(answer["joined"])} of ${count} nodes joined`);
  }
}

export const group: Group = { name: "serve", run };
