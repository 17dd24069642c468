import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { toHex } from "../src/base/bytes.ts";
import { systemRandom } from "../src/base/random.ts";
import { generatePrivateKey, publicKeyOf } from "../src/crypto/keys.ts";
import type { UdpKind } from "../src/mesh/udp/udp-io.ts";
import { findPeer, isRoot } from "../test/peers.ts";
import { iperf } from "./iperf.ts";
import { createLink, eventually, type Link, type Side } from "./link.ts";
import { cpuSeconds, LOAD_CORE, OwnProcess, SUBJECT_CORE } from "./processes.ts";
import { interleaved, median } from "./rounds.ts";
import type { Figure, Group } from "./table.ts";
import type { TunnelArguments } from "./tunnel-process.ts";

const MTU = 1280;
const LOAD_ADDRESS = "10.97.0.1";
const LOAD_PORT = 51_820;
const PORTS = [5201, 5202] as const;
const SECONDS = 2;
const ROUNDS = 3;
const PEER = "wireguard-go";
/** iperf3 opens at most 128 streams. */
const MOST_STREAMS = 128;

export interface Subject {
  readonly address: string;
  /** Whose CPU seconds count: the tunnel's own and, where TCP is elsewhere, not the kernel's. */
  readonly pid: number;
}

export interface Case {
  readonly subject: Subject;
  readonly isDownload: boolean;
  readonly streams: number;
}

export interface Seen {
  readonly gbits: number;
  readonly cores: number;
}

async function* run(): AsyncIterable<Figure> {
  const missing = ["wireguard-go", "wg", "ip", "iperf3"].filter((name) => findPeer(name) === undefined);
  const reason = isRoot ? (missing.length > 0 ? `needs ${missing.join(", ")}` : undefined) : "needs root";
  if (reason !== undefined) {
    yield { name: "tunnel", value: undefined, unit: "Gbit/s", peer: PEER, note: `skipped: ${reason}` };
    return;
  }
  using link = createLink();
  const bench = await TunnelBench.open(link);
  const plain = { ours: await bench.ours(0), theirs: await bench.theirs(0) };
  const dgram = { ours: await bench.ours(0, "dgram"), theirs: plain.theirs };
  const crowded = { ours: await bench.ours(99), theirs: await bench.theirs(99) };
  const rows = [
    { what: "1 connection", pair: plain, streams: 1 },
    { what: "256 connections", pair: plain, streams: 256 },
    { what: "100 peers", pair: crowded, streams: 1 },
    { what: "dgram forced", pair: dgram, streams: 1 },
  ].flatMap((row) => [true, false].map((isDownload) => ({ ...row, isDownload })));
  const cases: Case[] = [];
  const caseOf = (subject: Subject, isDownload: boolean, streams: number): Case => {
    const known = cases.find(
      (one) => one.subject === subject && one.isDownload === isDownload && one.streams === streams,
    );
    if (known !== undefined) return known;
    const made = { subject, isDownload, streams };
    cases.push(made);
    return made;
  };
  const wanted = rows.map(({ pair, streams, isDownload, what }) => ({
    name: `tunnel ${isDownload ? "from" : "to"} our node, ${what}`,
    ours: caseOf(pair.ours, isDownload, streams),
    theirs: caseOf(pair.theirs, isDownload, streams),
  }));
  const single = cases.filter(({ streams }) => streams === 1);
  await interleaved(single, 1, (one) => bench.measure(one)); // handshakes, compilers
  const seen = await interleaved(cases, ROUNDS, (one) => bench.measure(one));
  const of = (one: Case, what: (seen: Seen) => number) => median(seen.get(one)!.map(what));
  for (const { name, ours, theirs } of wanted) {
    yield {
      name,
      value: of(ours, ({ gbits }) => gbits),
      unit: "Gbit/s",
      peer: PEER,
      peerValue: of(theirs, ({ gbits }) => gbits),
    };
    yield {
      name: `${name}, per core used`,
      value: of(ours, ({ gbits, cores }) => gbits / cores),
      unit: "Gbit/s",
      peer: PEER,
      peerValue: of(theirs, ({ gbits, cores }) => gbits / cores),
    };
  }
}

/** The load's end of all tunnels: Debian's wireguard-go and the kernel's TCP on a core of their own. */
export class TunnelBench {
  readonly #link: Link;
  readonly #privateKey: Uint8Array = generatePrivateKey(systemRandom);
  readonly #interface: string = `spb${process.pid}l`;
  #made = 0;

  private constructor(link: Link) {
    this.#link = link;
  }

  static async open(link: Link): Promise<TunnelBench> {
    const bench = new TunnelBench(link);
    const setup = { side: link.load, core: LOAD_CORE, name: bench.#interface, privateKey: bench.#privateKey };
    await startWireGuardGo({ ...setup, address: LOAD_ADDRESS, port: LOAD_PORT });
    return bench;
  }

  async ours(idlePeers: number, udp?: UdpKind): Promise<Subject> {
    const address = `10.97.0.${10 + this.#made++}`;
    const privateKey = generatePrivateKey(systemRandom);
    const options: TunnelArguments = {
      privateKey: toHex(privateKey),
      peerKey: toHex(publicKeyOf(this.#privateKey)),
      endpoint: `${this.#link.load.address}:${LOAD_PORT}`,
      address,
      peerAddress: LOAD_ADDRESS,
      idlePeers,
      ports: PORTS,
      ...(udp === undefined ? {} : { udp }),
    };
    const own = OwnProcess.inside(this.#link.subject, SUBJECT_CORE, "tunnel-process.ts", [JSON.stringify(options)]);
    const { port } = (await own.next()) as { port: number };
    this.#addPeer(privateKey, address, port);
    return { address, pid: own.child.pid! };
  }

  async theirs(idlePeers: number): Promise<Subject> {
    const { load, subject } = this.#link;
    const number = this.#made++;
    const address = `10.97.0.${10 + number}`;
    const privateKey = generatePrivateKey(systemRandom);
    const name = `spb${process.pid}s${number}`;
    const port = LOAD_PORT + number;
    const pid = await startWireGuardGo({ side: subject, core: SUBJECT_CORE, name, privateKey, address, port });
    const idle = Array.from({ length: idlePeers }, (_, i): [Uint8Array, string] => [
      publicKeyOf(generatePrivateKey(systemRandom)),
      `10.95.${i >> 8}.${i & 255}/32`,
    ]);
    configure(subject, name, [[publicKeyOf(this.#privateKey), `${LOAD_ADDRESS}/32`], ...idle], {
      endpoint: `${load.address}:${LOAD_PORT}`,
    });
    subject.run(
      "ip",
      "route",
      "replace",
      `${LOAD_ADDRESS}/32`,
      "dev",
      name,
      "src",
      address,
      "table",
      String(number + 1),
    );
    subject.run("ip", "rule", "add", "from", address, "lookup", String(number + 1));
    for (const server of PORTS) subject.start(SUBJECT_CORE, "iperf3", ["-s", "-B", address, "-p", String(server)]);
    this.#addPeer(privateKey, address, port);
    return { address, pid };
  }

  #addPeer(privateKey: Uint8Array, address: string, port: number): void {
    configure(this.#link.load, this.#interface, [[publicKeyOf(privateKey), `${address}/32`]], {
      endpoint: `${this.#link.subject.address}:${port}`,
    });
  }

  async measure({ subject, isDownload, streams }: Case): Promise<Seen> {
    const clients = Math.ceil(streams / MOST_STREAMS);
    const before = cpuSeconds(subject.pid);
    const begun = performance.now();
    const all = await Promise.all(
      PORTS.slice(0, clients).map((port) => {
        const { address } = subject;
        const run = { address, port, seconds: SECONDS, isDownload, streams: streams / clients };
        return iperf(this.#link.load, LOAD_CORE, run);
      }),
    );
    const elapsed = (performance.now() - begun) / 1000;
    return { gbits: all.reduce((a, b) => a + b, 0), cores: (cpuSeconds(subject.pid) - before) / elapsed };
  }
}

interface WireGuardGo {
  readonly side: Side;
  readonly core: number;
  readonly name: string;
  readonly privateKey: Uint8Array;
  readonly address: string;
  readonly port: number;
}

/** Gives its process id. */
async function startWireGuardGo({ side, core, name, privateKey, address, port }: WireGuardGo): Promise<number> {
  const child = side.start(core, "wireguard-go", ["-f", name], { WG_PROCESS_FOREGROUND: "1" });
  await eventually("wireguard-go's socket", () => existsSync(`/var/run/wireguard/${name}.sock`) || undefined);
  withFile(`[Interface]\nPrivateKey = ${base64(privateKey)}\nListenPort = ${port}\n`, (file) =>
    side.run("wg", "setconf", name, file),
  );
  side.run("ip", "addr", "add", `${address}/24`, "dev", name, ...(core === SUBJECT_CORE ? ["noprefixroute"] : []));
  side.run("ip", "link", "set", name, "mtu", String(MTU), "up");
  return child.pid!;
}

function configure(
  side: Side,
  name: string,
  peers: readonly (readonly [key: Uint8Array, allowedIps: string])[],
  { endpoint }: { readonly endpoint: string },
): void {
  const text = peers
    .map(([key, allowed], i) => {
      const where = i === 0 ? `Endpoint = ${endpoint}\n` : "";
      return `[Peer]\nPublicKey = ${base64(key)}\nAllowedIPs = ${allowed}\n${where}`;
    })
    .join("");
  withFile(text, (file) => side.run("wg", "addconf", name, file));
}

function withFile(text: string, use: (file: string) => void): void {
  const folder = mkdtempSync(path.join(tmpdir(), "sallyport-bench-"));
  try {
    writeFileSync(path.join(folder, "conf"), text, { mode: 0o600 });
    use(path.join(folder, "conf"));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64");
}

/** The peer's version, to be named with every ratio. */
export function wireguardGoVersion(): string {
  return execFileSync(findPeer("wireguard-go")!, ["--version"], { encoding: "utf8" }).split("\n")[0]!.trim();
}

export const group: Group = { name: "tunnel", run };
