import { type ChildProcess, execFile, execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { DerpMap } from "../../src/wire/tailcfg.ts";
import { findPeer } from "../peers.ts";

const root = path.resolve(import.meta.dirname, "../..");
const KEPT_BYTES = 128 * 1024;

export interface Answer {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A process in the foreground of its namespace, or of the host. */
export interface Service {
  log(): string;
  stop(signal?: NodeJS.Signals): Promise<void>;
}

type Env = Readonly<Record<string, string>>;

/** One machine of the bridge: a network namespace with one cable and no route out. */
export interface Machine {
  readonly name: string;
  readonly ipv4: string;
  readonly ipv6: string;
  run(command: string, ...args: readonly string[]): Promise<Answer>;
  start(command: string, args: readonly string[], env?: Readonly<Record<string, string>>): Service;
}

/** A stock node with its daemon. */
export interface StockNode extends Machine {
  /** `tailscale ARGS`. */
  cli(...args: readonly string[]): Promise<Answer>;
  /** Of `tailscaled`. */
  log(): string;
}

/** Our gateway on a machine, started from the checkout. */
export interface OurNode extends Machine {
  cli(...args: readonly string[]): Promise<Answer>;
  /** `tailscale ARGS` at our socket. */
  stockCli(...args: readonly string[]): Promise<Answer>;
  log(): string;
  restart(): Promise<void>;
  readonly scratch: string;
}

/** By this process, in whichever mesh: the kernel takes its time to let a name go. */
let made = 0;

/** Where Headscale and the relay listen. Clients are told `toldHeadscale`, and 3340 for the relay. */
export interface StockPorts {
  readonly headscale?: number;
  readonly toldHeadscale?: number;
  readonly derper?: number;
}

/**
 * Headscale and a stock relay on the host's end of a bridge, with machines plugged into it: what
 * `../shared/rig/lab.sh` does, under names of this run. IPv4 10.96.N.0/24 and IPv6 fd96:N::/64, and nothing beyond.
 */
export class StockMesh {
  readonly scratch: string = mkdtempSync(path.join(tmpdir(), "sm-"));
  readonly #bridge: string = `sb${process.pid}`;
  readonly #subnet: number = 1 + (process.pid % 250);
  readonly #children: Set<ChildProcess> = new Set();
  readonly #namespaces: string[] = [];
  #headscale: Service | undefined;
  #derper: Service | undefined;

  readonly address: string = `10.96.${this.#subnet}.1`;
  /** What clients are told; somebody may listen in between. */
  readonly url: string;
  readonly #ports: Required<StockPorts>;

  constructor(ports: StockPorts = {}) {
    this.#ports = { headscale: 8080, toldHeadscale: ports.headscale ?? 8080, derper: 3340, ...ports };
    this.url = `http://${this.address}:${this.#ports.toldHeadscale}`;
  }

  static async open(policy: unknown, ports: StockPorts = {}): Promise<StockMesh> {
    const mesh = new StockMesh(ports);
    try {
      await mesh.#open(policy);
      return mesh;
    } catch (error) {
      mesh.close();
      throw error;
    }
  }

  /** The bridge alone, for a server of the test's own at `url`. */
  openBridge(): void {
    const ip = (...args: readonly string[]) => execFileSync("ip", args);
    sweep();
    ip("link", "add", this.#bridge, "type", "bridge");
    ip("addr", "add", `${this.address}/24`, "dev", this.#bridge);
    ip("addr", "add", `fd96:${this.#subnet}::1/64`, "dev", this.#bridge, "nodad");
    ip("link", "set", this.#bridge, "up");
  }

  async #open(policy: unknown): Promise<void> {
    this.openBridge();
    const D = this.scratch;
    writeFileSync(`${D}/policy.hujson`, JSON.stringify(policy));
    writeFileSync(
      `${D}/derp.yaml`,
      `regions:
  900:
    regionid: 900
    regioncode: lab
    regionname: Lab
    nodes: [{ name: 900a, regionid: 900, hostname: ${this.address}, ipv4: ${this.address}, ipv6: "fd96:${this.#subnet}::1", stunport: 3478, derpport: 3340, insecurefortests: true }]
`,
    );
    writeFileSync(
      `${D}/hs.yaml`,
      `server_url: ${this.url}
listen_addr: ${this.address}:${this.#ports.headscale}
metrics_listen_addr: 127.0.0.1:0
grpc_listen_addr: 127.0.0.1:0
grpc_allow_insecure: true
noise: { private_key_path: ${D}/noise.key }
prefixes: { v4: 100.64.0.0/10, v6: "fd7a:115c:a1e0::/48", allocation: sequential }
derp: { server: { enabled: false }, urls: [], paths: [${D}/derp.yaml], auto_update_enabled: false }
disable_check_updates: true
database: { type: sqlite, sqlite: { path: ${D}/hs.db } }
log: { level: info }
dns: { magic_dns: true, base_domain: tail.test, override_local_dns: false, nameservers: { global: [] } }
unix_socket: ${D}/hs.sock
policy: { mode: file, path: ${D}/policy.hujson }
`,
    );
    this.startDerper();
    await this.startHeadscale();
    await this.headscale("users", "create", "alice", "--display-name", "Alice Example", "--email", "alice@example.com");
    await this.headscale("users", "create", "bob", "--display-name", "Bob Example", "--email", "bob@example.com");
  }

  /** Of the relay alone, for a server of the test's own. */
  get derpMap(): DerpMap {
    const { address } = this;
    const at = { HostName: address, IPv4: address, DERPPort: 3340, STUNPort: 3478, InsecureForTests: true };
    const Nodes = [{ Name: "900a", RegionID: 900, ...at }];
    return { Regions: { 900: { RegionID: 900, RegionCode: "lab", RegionName: "Lab", Nodes } } };
  }

  startDerper(): void {
    // Not `-dev`, which takes port 3340 of all addresses: other runs share this machine.
    const at = ["-hostname", this.address, "-a", `${this.address}:${this.#ports.derper}`, "-http-port", "-1"];
    const args = [...at, "-stun-port", "3478", "-c", `${this.scratch}/derper.key`];
    this.#derper = this.onHost(findPeer("derper")!, args);
  }

  stopDerper(): Promise<void> {
    return this.#derper!.stop("SIGKILL");
  }

  async startHeadscale(): Promise<void> {
    this.#headscale = this.onHost(findPeer("headscale")!, ["serve", "-c", `${this.scratch}/hs.yaml`]);
    for (let tries = 0; tries < 200; tries++) {
      const isUp = await fetch(`http://${this.address}:${this.#ports.headscale}/health`).then(
        (response) => response.ok,
        () => false,
      );
      if (isUp && existsSync(`${this.scratch}/hs.sock`)) return;
      await sleep(100);
    }
    throw new Error(`Headscale does not start\n${this.#headscale.log()}`);
  }

  stopHeadscale(): Promise<void> {
    return this.#headscale!.stop("SIGKILL");
  }

  async headscale(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await runFile(findPeer("headscale")!, ["-c", `${this.scratch}/hs.yaml`, ...args]);
    if (code !== 0) throw new Error(`headscale ${args.join(" ")}: ${stderr}${stdout}`);
    return stdout;
  }

  /** Ids of the nodes that Headscale's own list has under a name. */
  async idsOf(name: string): Promise<readonly string[]> {
    const text = await this.headscale("nodes", "list", "-o", "json");
    const nodes = JSON.parse(text) as { readonly id: string | number; readonly givenName: string }[];
    return nodes.filter((node) => node.givenName === name).map((node) => String(node.id));
  }

  /** A reusable key of a user (1 = alice, 2 = bob), or of a tag. */
  async key(...owner: readonly string[]): Promise<string> {
    const text = await this.headscale("preauthkeys", "create", ...owner, "--reusable", "-e", "24h");
    return text.trim().split("\n").at(-1)!.trim();
  }

  machine(name: string): Machine {
    const ip = (...args: readonly string[]) => execFileSync("ip", args);
    const number = 11 + made++;
    const space = `sm${process.pid}-${number}`;
    const outer = `sv${process.pid}-${number}`;
    ip("netns", "add", space);
    this.#namespaces.push(space);
    ip("link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", space);
    ip("link", "set", outer, "master", this.#bridge, "up");
    const ipv4 = `10.96.${this.#subnet}.${number}`;
    const ipv6 = `fd96:${this.#subnet}::${number}`;
    ip("-n", space, "addr", "add", `${ipv4}/24`, "dev", "eth0");
    ip("-n", space, "addr", "add", `${ipv6}/64`, "dev", "eth0", "nodad");
    ip("-n", space, "link", "set", "eth0", "up");
    ip("-n", space, "link", "set", "lo", "up");
    return {
      name,
      ipv4,
      ipv6,
      run: (command, ...args) => runFile("ip", ["netns", "exec", space, command, ...args]),
      start: (command, args, env = {}) =>
        this.#spawn("ip", ["netns", "exec", space, "setpriv", "--pdeathsig", "KILL", command, ...args], env),
    };
  }

  /** A machine with `tailscaled`, not yet logged in. */
  async stock(name: string, mode: "tun" | "userspace", env: Env = { TS_DEBUG_USE_DERP_HTTP: "1" }): Promise<StockNode> {
    const machine = this.machine(name);
    const folder = `${this.scratch}/${name}`;
    mkdirSync(folder);
    const tun = mode === "tun" ? "ts0" : "userspace-networking";
    const daemon = machine.start(
      findPeer("tailscaled")!,
      [`--tun=${tun}`, `--statedir=${folder}`, `--socket=${folder}/s.sock`, "--port", "41641"],
      { TS_NO_LOGS_NO_SUPPORT: "true", ...env },
    );
    for (let tries = 0; tries < 100 && !existsSync(`${folder}/s.sock`); tries++) await sleep(100);
    const cli = (...args: readonly string[]) => runFile(findPeer("tailscale")!, [`--socket=${folder}/s.sock`, ...args]);
    return { ...machine, cli, log: () => daemon.log() };
  }

  /** Brings a stock node up with a key. */
  async up(node: StockNode, key: string, ...more: readonly string[]): Promise<void> {
    const flags = [
      "--login-server",
      this.url,
      "--auth-key",
      key,
      "--hostname",
      node.name,
      "--accept-dns=false",
      ...more,
    ];
    const { code, stderr } = await node.cli("up", "--timeout=55s", ...flags);
    if (code !== 0) throw new Error(`tailscale up on ${node.name}: ${stderr}`);
  }

  /** A machine with `sallyport run`. Without a key a person has to open a URL. `more`: further flags. */
  async ours(name: string, key: string | undefined, ...more: readonly string[]): Promise<OurNode> {
    const machine = this.machine(name);
    const scratch = `${this.scratch}/${name}`;
    mkdirSync(scratch);
    if (key !== undefined) writeFileSync(`${scratch}/key`, key);
    const bin = [process.execPath, "--disable-warning=ExperimentalWarning", `${root}/src/bin.ts`] as const;
    const socket = `${scratch}/s.sock`;
    const where = ["--state", `${scratch}/state`, "--socket", socket];
    const flags = ["--login-server", this.url, "--hostname", name, ...where, "--log", "debug", ...more];
    const keyFlags = key === undefined ? [] : ["--auth-key", `file:${scratch}/key`];
    const begin = async (): Promise<Service> => {
      const service = machine.start(bin[0], [...bin.slice(1), "run", ...flags, ...keyFlags], { NODE_OPTIONS: "" });
      for (let tries = 0; tries < 200 && !service.log().includes("gateway.started"); tries++) await sleep(50);
      return service;
    };
    let service = await begin();
    return {
      ...machine,
      scratch,
      log: () => service.log(),
      cli: (...args) => runFile(bin[0], [...bin.slice(1), "--socket", socket, ...args]),
      stockCli: (...args) => runFile(findPeer("tailscale")!, [`--socket=${socket}`, ...args]),
      async restart() {
        await service.stop("SIGTERM");
        service = await begin();
      },
    };
  }

  /** A process beside the server, which ends with the mesh. */
  onHost(command: string, args: readonly string[]): Service {
    return this.#spawn("setpriv", ["--pdeathsig", "KILL", command, ...args]);
  }

  #spawn(command: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): Service {
    const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
    this.#children.add(child);
    let text = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk) => {
        text = (text + String(chunk)).slice(-KEPT_BYTES);
      });
    }
    const ended = new Promise<void>((resolve) => child.on("close", () => resolve()));
    child.on("error", () => {});
    return {
      log: () => text,
      async stop(signal = "SIGTERM") {
        child.kill(signal);
        await ended;
      },
    };
  }

  close(): void {
    for (const child of this.#children) child.kill("SIGKILL");
    for (const space of this.#namespaces) spawnSync("ip", ["netns", "del", space]);
    spawnSync("ip", ["link", "del", this.#bridge]);
    rmSync(this.scratch, { recursive: true, force: true });
  }
}

function runFile(command: string, args: readonly string[]): Promise<Answer> {
  return new Promise((resolve) => {
    execFile(command, args, { encoding: "utf8", maxBuffer: 64 << 20, timeout: 60_000 }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === "number" ? error.code : -1;
      resolve({ code, stdout, stderr });
    });
  });
}

/** What a run that was killed left behind. */
function sweep(): void {
  const names = execFileSync("ip", ["netns", "list"], { encoding: "utf8" }).matchAll(/^(sm(\d+)-\d+)/gm);
  for (const [, name, pid] of names) if (!existsSync(`/proc/${pid}`)) spawnSync("ip", ["netns", "del", name!]);
  const links = execFileSync("ip", ["-br", "link"], { encoding: "utf8" }).matchAll(/^(sb(\d+))\s/gm);
  for (const [, name, pid] of links) if (!existsSync(`/proc/${pid}`)) spawnSync("ip", ["link", "del", name!]);
}

/** What a command printed that has to go well; `log`: more to show when it does not. */
export async function ok(answer: Promise<Answer>, log: () => string = () => ""): Promise<string> {
  const { code, stdout, stderr } = await answer;
  if (code !== 0) throw new Error(`exit ${code}: ${stdout}${stderr}\n${log().slice(-3000)}`);
  return stdout;
}

/** Asks until the answer is one that `isRight`. */
export async function until<T>(
  what: string,
  ask: () => Promise<T>,
  isRight: (answer: T) => boolean,
  timeoutMs = 20_000,
): Promise<T> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (isRight(answer)) return answer;
    if (performance.now() > end)
      throw new Error(`Waited ${timeoutMs} ms in vain for ${what}: ${JSON.stringify(answer)}`);
    await sleep(200);
  }
}
