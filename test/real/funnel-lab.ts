import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { findPeer } from "../peers.ts";
import { createSpace, eventually, type Space } from "./namespace.ts";
import { createInternet, type Internet } from "./nat-lab.ts";
import { commandAt, type Outcome, type Running, sallyport, startSallyport } from "./processes.ts";
import { type ReachablePebble, startReachablePebble } from "./reachable-pebble.ts";

export const ZONE = "mesh.test";
/** Of the gateway, in the mesh and to the world. */
export const NAME: string = `web.${ZONE}`;
/** The operator's own; its record leads to the gateway's name. */
export const OWN_DOMAIN = "demo.example.org";
/** Programs that a test skips without. */
export const LAB_PEERS: readonly string[] = ["ip", "nft", "curl", "openssl", "named", "pebble"];
export const HTTP_PORT = "3000";
export const ECHO_PORT = "4000";

export const CONTROL: string = `http://ns1.${ZONE}:8080`;
const root = path.resolve(import.meta.dirname, "../..");
const bin = ["--disable-warning=ExperimentalWarning", `${root}/src/bin.ts`];

const POLICY = `{
  "tagOwners": { "tag:ingress": [], "tag:web": [] },
  "acls": [{ "action": "accept", "src": ["*"], "dst": ["*:*"] }],
  "nodeAttrs": [
    { "target": ["tag:ingress"], "attr": ["sallyport.dev/ingress"] },
    { "target": ["tag:web"], "attr": ["funnel"], "app": { "sallyport.dev/domains": [{ "names": ["${OWN_DOMAIN}"] }] } },
  ],
}`;

/** Nothing comes in that was not asked for: the firewall of whoever has no public port. Whoever knocks is counted. */
const WALL = `table inet wall {
  chain input { type filter hook input priority filter; policy drop;
    iif "lo" accept
    ct state established,related accept
    counter
  }
}`;

export interface LabMachine extends Space {
  readonly address: string;
}

/**
 * A small Internet: each of DNS root, resolver, CA, server, ingresses, gateway and visitor is a network namespace with one
 * cable; names are found by asking BIND, which asks the root, which leads to our server's zone.
 */
export class FunnelLab {
  readonly scratch: string = mkdtempSync(path.join(tmpdir(), "sp-whole-"));
  readonly #segment: Internet = createInternet();
  readonly #machines: Space[] = [];
  readonly #byNumber: Map<number, LabMachine> = new Map();
  #pebble: ReachablePebble | undefined;

  get visitor(): LabMachine {
    return this.machine(60);
  }

  get server(): LabMachine {
    return this.machine(10);
  }

  get gateway(): LabMachine {
    return this.machine(20);
  }

  /** @param number 50 or 51: what the server's zone answers for public names. */
  ingress(number: 50 | 51): LabMachine {
    return this.machine(number);
  }

  machine(number: number): LabMachine {
    const known = this.#byNumber.get(number);
    if (known !== undefined) return known;
    const space = createSpace();
    const address = `10.77.0.${number}`;
    this.#segment.run("ip", "link", "add", `m${number}`, "type", "veth", "peer", "name", "eth0", "netns", space.name);
    this.#segment.run("ip", "link", "set", `m${number}`, "master", "segment", "up");
    space.run("ip", "addr", "add", `${address}/24`, "dev", "eth0");
    space.run("ip", "link", "set", "eth0", "up");
    // What `ip netns exec` puts in place of /etc/resolv.conf.
    mkdirSync(`/etc/netns/${space.name}`, { recursive: true });
    writeFileSync(`/etc/netns/${space.name}/resolv.conf`, "nameserver 10.77.0.3\noptions timeout:2 attempts:5\n");
    const machine = { ...space, address };
    this.#machines.push(machine);
    this.#byNumber.set(number, machine);
    return machine;
  }

  /** Everything but the ingresses. */
  async open(): Promise<void> {
    await Promise.all([this.#startRoot(), this.#startResolver()]);
    writeFileSync(this.file("policy.hujson"), POLICY);
    const { address } = this.server;
    await startSallyport(
      [
        ...["server", "--state", this.file("server"), "--address", address, "--url", CONTROL],
        ...["--policy", this.file("policy.hujson"), "--dns-zone", ZONE, "--dns-ns", `ns1.${ZONE}`],
        ...["--ingress-addresses", "10.77.0.50,10.77.0.51"],
      ],
      "server.started",
      this.server,
    );
    const ca = this.machine(4);
    this.#pebble = await startReachablePebble({
      folder: this.file("pebble"),
      address: ca.address,
      dnsServer: "10.77.0.3:53",
      space: ca,
    });
    writeFileSync(this.file("root.pem"), await this.#pebble.issuedRoot());
    await this.#startGateway();
  }

  file(name: string): string {
    return path.join(this.scratch, name);
  }

  /** A key to join with. */
  async key(tag: string): Promise<string> {
    const where = ["server", "--state", this.file("server")];
    return (await sallyport(...where, "keys", "create", "--tags", tag)).trim();
  }

  async #keyFile(tag: string): Promise<string> {
    const file = this.file(`${tag.slice(4)}-${Math.random()}.key`);
    writeFileSync(file, await this.key(tag));
    return `file:${file}`;
  }

  async #startGateway(): Promise<void> {
    const { gateway } = this;
    gateway.run("nft", WALL);
    const backend = gateway.start(process.execPath, [`${import.meta.dirname}/funnel-backend.ts`, HTTP_PORT, ECHO_PORT]);
    await new Promise<void>((resolve) => backend.stdout!.once("data", () => resolve()));
    const { directory, listenerRoot } = this.#pebble!;
    await startSallyport(
      [
        ...["run", "--login-server", CONTROL, "--auth-key", await this.#keyFile("tag:web"), "--hostname", "web"],
        ...["--state", this.file("web"), "--socket", this.file("web.sock")],
        ...["--cert-authority", directory, "--cert-authority-bundle", listenerRoot],
      ],
      "gateway.started",
      gateway,
    );
  }

  async startIngress(number: 50 | 51, ...more: readonly string[]): Promise<Running> {
    const machine = this.ingress(number);
    const key = await this.#keyFile("tag:ingress");
    const state = ["--state", this.file(`ingress-${number}`), "--address", machine.address];
    const args = ["ingress", "--login-server", CONTROL, "--auth-key", key, ...state, ...more];
    return startSallyport(args, "ingress.started", machine);
  }

  /** `sallyport …`, as typed on the gateway's machine. */
  typed(...words: readonly string[]): Promise<Outcome> {
    // The CA of this Internet is none of Mozilla's.
    const trust = `NODE_EXTRA_CA_CERTS=${this.file("root.pem")}`;
    const command = [process.execPath, ...bin, "--socket", this.file("web.sock")];
    return commandAt(this.gateway, "env", trust, ...command, ...words);
  }

  /** A program of the visitor's; he trusts the CA, and knows nothing else than his resolver. */
  visit(command: string, ...args: readonly string[]): Promise<Outcome> {
    return commandAt(this.visitor, command, ...args);
  }

  curl(...args: readonly string[]): Promise<Outcome> {
    return this.visit("curl", "-sS", "--max-time", "30", "--cacert", this.file("root.pem"), ...args);
  }

  /** What the gateway's firewall has turned away. */
  knocks(): number {
    const text = this.gateway.run("nft", "list", "chain", "inet", "wall", "input");
    return Number(/counter packets (\d+)/.exec(text)?.[1]);
  }

  async #startRoot(): Promise<void> {
    const { address } = this.machine(2);
    const records = [
      "$TTL 60\n. SOA a.root. hostmaster.root. 1 3600 600 86400 1\n. NS a.root.",
      `a.root. A ${address}`,
      `${ZONE}. NS ns1.${ZONE}.\nns1.${ZONE}. A ${this.server.address}`,
      `${OWN_DOMAIN}. CNAME ${NAME}.\n`,
    ];
    writeFileSync(this.file("root.zone"), records.join("\n"));
    await this.#startNamed(2, `recursion no;`, `zone "." { type primary; file "${this.file("root.zone")}"; };`);
  }

  async #startResolver(): Promise<void> {
    writeFileSync(this.file("hints"), `. 3600 NS a.root.\na.root. 3600 A ${this.machine(2).address}\n`);
    const how = "recursion yes; allow-recursion { any; }; dnssec-validation no; empty-zones-enable no;";
    await this.#startNamed(3, how, `zone "." { type hint; file "${this.file("hints")}"; };`);
  }

  async #startNamed(number: number, how: string, zones: string): Promise<void> {
    const machine = this.machine(number);
    const folder = this.file(`named-${number}`);
    mkdirSync(folder);
    const listen = `listen-on port 53 { ${machine.address}; }; listen-on-v6 { none; };`;
    const files = `directory "${folder}"; pid-file none; session-keyfile "${folder}/session.key";`;
    writeFileSync(`${folder}/named.conf`, `options { ${files} ${listen} ${how} };\ncontrols { };\n${zones}\n`);
    const named = machine.start(findPeer("named")!, ["-g", "-4", "-n", "1", "-c", `${folder}/named.conf`]);
    let log = "";
    for (const stream of [named.stdout!, named.stderr!]) {
      stream.on("data", (chunk) => {
        log = (log + String(chunk)).slice(-20_000);
      });
    }
    const isRunning = (): true | undefined => (/ running\n/.test(log) ? true : undefined);
    await eventually("BIND", isRunning, 60_000).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${log}`);
    });
  }

  async close(): Promise<void> {
    await this.#pebble?.stop();
    for (const machine of this.#machines) {
      machine.close();
      rmSync(`/etc/netns/${machine.name}`, { recursive: true, force: true });
    }
    this.#segment.close();
    rmSync(this.scratch, { recursive: true, force: true });
  }
}
