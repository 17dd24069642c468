import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync } from "node:fs";
import type net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { fromHex, toHex } from "../../src/base/bytes.ts";
import { formatKey, parseKey, publicKeyOf } from "../../src/crypto/keys.ts";
import { findPeer } from "../peers.ts";
import { StockMesh, type StockNode, until } from "../real/stock-mesh.ts";
import { type Entry, type SeenNode, type StatusSeen, writeRecording } from "./recording.ts";
import { tapControl, tapDerp } from "./tap.ts";

// Makes the recordings beside this file anew: see README.md.

const POLICY = {
  tagOwners: { "tag:ci": ["bob@"] },
  acls: [{ action: "accept", src: ["*"], dst: ["*:*"] }],
};
/** Node's own modules cannot see packets of others. Lines: source, target, payload in hex. */
const SNIFFER = `
import socket, struct, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind((sys.argv[1], 0))
print("ready", flush=True)
while True:
    f = s.recv(65535)
    kind = struct.unpack("!H", f[12:14])[0]
    if kind == 0x0800 and f[23] == 17:
        h = 14 + (f[14] & 15) * 4
        a, b = socket.inet_ntoa(f[26:30]), socket.inet_ntoa(f[30:34])
    elif kind == 0x86dd and f[20] == 17:
        h = 54
        a, b = "[" + socket.inet_ntop(socket.AF_INET6, f[22:38]) + "]", "[" + socket.inet_ntop(socket.AF_INET6, f[38:54]) + "]"
    else: continue
    p, q, n = struct.unpack("!HHH", f[h:h+6])
    print(f"{a}:{p} {b}:{q} {f[h+8:h+n].hex()}", flush=True)
`;

interface Keys {
  readonly machine: string;
  readonly node: string | undefined;
}

class Recorder {
  readonly mesh: StockMesh;
  readonly entries: Entry[] = [];
  readonly #begin: number = performance.now();
  readonly #servers: net.Server[] = [];
  readonly #sniffers: ChildProcess[] = [];
  readonly #names: string[] = [];
  /** Node keys change; a relay's connection may carry an old one. */
  readonly #nodeKeys: Map<string, string> = new Map();
  #lastId = 0;

  private constructor(mesh: StockMesh) {
    this.mesh = mesh;
    const common = {
      address: mesh.address,
      note: (entry: Entry) => void this.entries.push(entry),
      now: () => this.now(),
      nextId: () => ++this.#lastId,
    };
    this.#servers.push(
      tapControl({ ...common, port: 8090, behind: 8080 }, (wanted) =>
        this.#keys()
          .map(({ machine }) => machine)
          .find((key) => formatKey("mkey", publicKeyOf(fromHex(key)!)) === wanted),
      ),
      tapDerp(
        { ...common, port: 3340, behind: 3341 },
        () => this.#derperKey(),
        (wanted) => this.#nodeKey(wanted),
      ),
    );
  }

  static async open(): Promise<Recorder> {
    return new Recorder(await StockMesh.open(POLICY, { headscale: 8080, toldHeadscale: 8090, derper: 3341 }));
  }

  now(): number {
    return Math.round(performance.now() - this.#begin);
  }

  step(what: string): void {
    console.log(`${this.now()} ${what}`);
    this.entries.push({ kind: "step", at: this.now(), what });
  }

  async node(name: string): Promise<StockNode> {
    this.#names.push(name);
    return this.mesh.stock(name, "userspace");
  }

  /** Once what is told has arrived. */
  async status(node: StockNode, isRight: (status: StatusSeen) => boolean): Promise<void> {
    const status = await until("the status", () => statusOf(node), isRight);
    await sleep(1500); // what follows it in the stream belongs to it
    this.entries.push({ kind: "status", at: this.now(), node: node.name, status: await statusOf(node) });
    void status;
  }

  /** From now on: disco and STUN that pass the node's cable. */
  async sniff(node: StockNode): Promise<void> {
    const cable = node.ipv4.replace(/^.*\./, `sv${process.pid}-`);
    const child = spawn(process.env["SALLYPORT_PYTHON"] ?? "python3", ["-uc", SNIFFER, cable]);
    this.#sniffers.push(child);
    child.stderr.on("data", (chunk) => console.log(String(chunk)));
    let text = "";
    const ready = Promise.withResolvers<void>();
    child.stdout.on("data", (chunk) => {
      const lines = (text + String(chunk)).split("\n");
      text = lines.pop()!;
      for (const line of lines) {
        if (line === "ready") ready.resolve();
        else this.#datagram(node.name, line);
      }
    });
    await ready.promise;
  }

  #datagram(by: string, line: string): void {
    const [from, to, hex] = line.split(" ") as [string, string, string];
    const isDisco = hex.startsWith("5453f09f92ac");
    const isStun = hex.slice(8, 16) === "2112a442";
    if (!isDisco && !isStun) return;
    const bytes = Buffer.from(hex, "hex").toString("base64");
    this.entries.push({ kind: "datagram", at: this.now(), by, from, to, bytes });
  }

  /** The daemon keeps its disco key in memory only, the private half right before the public one. */
  async disco(node: StockNode): Promise<void> {
    const { Self } = await statusOf(node);
    const text = await this.mesh.headscale("nodes", "list", "-o", "json");
    const found = (JSON.parse(text) as { givenName: string; discoKey: string }[]).find(
      ({ givenName }) => givenName === node.name,
    )!;
    const publicKey = parseKey("discokey", found.discoKey)!;
    const discoPrivate = privateHalfInMemory(pidOf(`${this.mesh.scratch}/${node.name}/s.sock`), publicKey);
    this.entries.push({ kind: "disco", name: node.name, nodeKey: Self.PublicKey, discoPrivate });
  }

  #derperKey(): string {
    const file = JSON.parse(readFileSync(`${this.mesh.scratch}/derper.key`, "utf8")) as { PrivateKey: string };
    return file.PrivateKey.replace(/^privkey:/, "");
  }

  #nodeKey(publicHex: string): string | undefined {
    for (const { node } of this.#keys()) if (node !== undefined) this.#nodeKeys.set(publicOf(node), node);
    return this.#nodeKeys.get(publicHex);
  }

  #keys(): Keys[] {
    return this.#names.flatMap((name) => {
      const file = `${this.mesh.scratch}/${name}/tailscaled.state`;
      if (!existsSync(file)) return [];
      const state = JSON.parse(readFileSync(file, "utf8")) as Record<string, string>;
      const text = (key: string): string => Buffer.from(state[key] ?? "", "base64").toString("utf8");
      const machine = text("_machinekey").replace(/^privkey:/, "");
      const profiles = Object.keys(state).filter((key) => key.startsWith("profile-"));
      const nodes = profiles.map(
        (key) => /privkey:([0-9a-f]{64})/.exec(/"PrivateNodeKey":\s*"[^"]*"/.exec(text(key))?.[0] ?? "")?.[1],
      );
      return [{ machine, node: undefined }, ...nodes.map((node) => ({ machine, node }))];
    });
  }

  close(name: string, about: { client: string; server: string }): void {
    for (const sniffer of this.#sniffers) sniffer.kill("SIGKILL");
    for (const server of this.#servers) server.close();
    this.mesh.close();
    writeRecording(name, [{ kind: "about", ...about, address: this.mesh.address }, ...this.entries]);
  }
}

const publicOf = (privateHex: string): string => toHex(publicKeyOf(fromHex(privateHex)!));

async function statusOf(node: StockNode): Promise<StatusSeen> {
  const { BackendState, Self, Peer } = JSON.parse((await node.cli("status", "--json")).stdout) as {
    BackendState: string;
    Self: SeenNode;
    Peer: Record<string, SeenNode> | null;
  };
  return { BackendState, Self: seen(Self), Peers: Object.values(Peer ?? {}).map(seen) };
}

function seen(node: SeenNode): SeenNode {
  const { ID, PublicKey, DNSName, UserID, TailscaleIPs, AllowedIPs, Tags, PrimaryRoutes, Relay, Online, Expired } =
    node;
  return {
    ID,
    PublicKey,
    DNSName,
    UserID,
    TailscaleIPs,
    Relay,
    Online,
    ...(AllowedIPs === undefined ? {} : { AllowedIPs }),
    ...(Tags === undefined ? {} : { Tags }),
    ...(PrimaryRoutes === undefined ? {} : { PrimaryRoutes }),
    ...(Expired === undefined ? {} : { Expired }),
  };
}

function pidOf(socket: string): number {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    let line = "";
    try {
      line = readFileSync(`/proc/${pid}/cmdline`, "utf8");
    } catch {
      continue; // gone meanwhile
    }
    if (line.includes("tailscaled\0") && line.includes(`--socket=${socket}`)) return Number(pid);
  }
  throw new Error(`no daemon at ${socket}`);
}

function privateHalfInMemory(pid: number, publicKey: Uint8Array): string {
  const memory = openSync(`/proc/${pid}/mem`, "r");
  const wanted = Buffer.from(publicKey);
  try {
    for (const line of readFileSync(`/proc/${pid}/maps`, "utf8").split("\n")) {
      const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? [];
      if (from === undefined || to === undefined) continue;
      const [begin, end] = [Number.parseInt(from, 16), Number.parseInt(to, 16)];
      const part = Buffer.alloc(Math.min(end - begin, 256 << 20));
      let length = 0;
      try {
        length = readSync(memory, part, 0, part.length, begin);
      } catch {
        continue; // reserved, not there
      }
      for (let at = part.indexOf(wanted); at >= 0 && at < length; at = part.indexOf(wanted, at + 1)) {
        if (at < 32) continue;
        const before = new Uint8Array(part.subarray(at - 32, at));
        if (Buffer.from(publicKeyOf(before)).equals(wanted)) return toHex(before);
      }
    }
  } finally {
    closeSync(memory);
  }
  throw new Error("no disco key in memory");
}

const versionOf = (name: string): string =>
  execFileSync(findPeer(name)!, ["version"], { encoding: "utf8" }).trim().split(/[\n-]/)[0]!;
const running = ({ BackendState }: StatusSeen): boolean => BackendState === "Running";
const sees =
  (name: string, more: (node: SeenNode) => boolean = () => true) =>
  ({ Peers }: StatusSeen): boolean =>
    Peers.some((peer) => peer.DNSName === `${name}.tail.test.` && more(peer));

/** Two nodes: joins, pings, relay, routes, rename, tag, policy, expiry, a new key, deletion, logout. */
async function life(recorder: Recorder): Promise<void> {
  const { mesh } = recorder;
  const alice = await recorder.node("alice");
  const bob = await recorder.node("bob");
  await recorder.sniff(alice);
  recorder.step("alice joins with a key");
  await mesh.up(alice, await mesh.key("-u", "1"));
  await recorder.status(alice, running);
  recorder.step("bob joins by a URL");
  const up = bob.cli("up", "--timeout=40s", "--login-server", mesh.url, "--hostname=bob", "--accept-dns=false");
  const asked = await until(
    "a URL",
    async () => JSON.parse((await bob.cli("status", "--json")).stdout) as { AuthURL: string },
    ({ AuthURL }) => AuthURL !== "",
  );
  await mesh.headscale("auth", "register", "--auth-id", asked.AuthURL.split("/").at(-1)!, "-u", "bob");
  await up;
  await recorder.status(
    alice,
    sees("bob", ({ Online }) => Online),
  );
  await recorder.status(
    bob,
    sees("alice", ({ Online }) => Online),
  );
  await recorder.disco(alice);
  await recorder.disco(bob);
  recorder.step("alice pings bob");
  await alice.cli("ping", "--c", "5", "bob");
  await alice.cli("ping", "--c", "2", "--tsmp", "bob");
  recorder.step("bob loses UDP, and the relay carries all");
  for (const line of [
    "add table inet shut",
    "add chain inet shut input { type filter hook input priority 0; }",
    "add rule inet shut input iif eth0 meta l4proto udp drop",
    "add chain inet shut output { type filter hook output priority 0; }",
    "add rule inet shut output oif eth0 meta l4proto udp drop",
  ])
    await bob.run("nft", ...line.split(" "));
  await until(
    "the relay",
    () => alice.cli("ping", "--c", "1", "--until-direct=false", "bob"),
    ({ stdout }) => stdout.includes("DERP"),
    40_000,
  );
  await alice.cli("ping", "--c", "3", "--tsmp", "bob");
  await bob.run("nft", "delete", "table", "inet", "shut");
  await until(
    "the direct path",
    () => alice.cli("ping", "--c", "2", "bob"),
    ({ stdout }) => stdout.includes(":41641"),
    40_000,
  );
  const idOf = async (name: string): Promise<string> => (await mesh.idsOf(name))[0]!;
  recorder.step("bob advertises a route, and it is approved");
  await bob.cli("set", "--advertise-routes=10.77.0.0/24");
  await until(
    "the route",
    () => mesh.headscale("nodes", "list-routes"),
    (text) => text.includes("10.77.0.0/24"),
  );
  await mesh.headscale("nodes", "approve-routes", "-i", await idOf("bob"), "-r", "10.77.0.0/24");
  await recorder.status(
    alice,
    sees("bob", ({ PrimaryRoutes }) => PrimaryRoutes?.length === 1),
  );
  recorder.step("bob is renamed");
  await mesh.headscale("nodes", "rename", "-i", await idOf("bob"), "robert");
  await recorder.status(alice, sees("robert"));
  recorder.step("robert is tagged");
  await mesh.headscale("nodes", "tag", "-i", await idOf("robert"), "-t", "tag:ci");
  await recorder.status(
    alice,
    sees("robert", ({ Tags }) => Tags?.[0] === "tag:ci"),
  );
  await recorder.status(bob, ({ Self }) => Self.Tags?.[0] === "tag:ci");
  recorder.step("alice takes a new node key");
  const before = (await statusOf(alice)).Self.PublicKey;
  await mesh.up(alice, await mesh.key("-u", "1"), "--force-reauth");
  await recorder.status(alice, ({ BackendState, Self }) => BackendState === "Running" && Self.PublicKey !== before);
  await recorder.status(
    bob,
    sees("alice", ({ PublicKey }) => PublicKey !== before),
  );
  recorder.step("robert goes down and up");
  await bob.cli("down");
  await recorder.status(
    alice,
    sees("robert", ({ Online }) => !Online),
  );
  await bob.cli(
    "up",
    "--timeout=20s",
    `--login-server=${mesh.url}`,
    "--hostname=bob",
    "--accept-dns=false",
    "--advertise-routes=10.77.0.0/24",
  );
  await recorder.status(
    alice,
    sees("robert", ({ Online }) => Online),
  );
  recorder.step("robert is expired");
  await mesh.headscale("nodes", "expire", "-i", await idOf("robert"));
  await recorder.status(bob, ({ BackendState }) => BackendState === "NeedsLogin");
  await recorder.status(
    alice,
    sees("robert", ({ Expired }) => Expired === true),
  );
  recorder.step("robert is deleted");
  await mesh.headscale("nodes", "delete", "-i", await idOf("robert"), "--force");
  await recorder.status(alice, (status) => !sees("robert")(status));
  recorder.step("alice logs out");
  await alice.cli("logout");
  await recorder.status(alice, ({ BackendState }) => BackendState === "NeedsLogin");
}

/** One node: joins with a key, changes its name, goes down, up, and out. */
async function visit(recorder: Recorder): Promise<void> {
  const { mesh } = recorder;
  const guest = await recorder.node("guest");
  recorder.step("guest joins with a key");
  await mesh.up(guest, await mesh.key("-u", "1"));
  await recorder.status(guest, running);
  recorder.step("guest changes its name");
  await guest.cli("set", "--hostname=visitor");
  await recorder.status(guest, ({ Self }) => Self.DNSName === "visitor.tail.test.");
  recorder.step("visitor goes down and up");
  await guest.cli("down");
  await guest.cli("up", "--timeout=20s", `--login-server=${mesh.url}`, "--hostname=visitor", "--accept-dns=false");
  await recorder.status(guest, running);
  recorder.step("visitor logs out");
  await guest.cli("logout");
  await recorder.status(guest, ({ BackendState }) => BackendState === "NeedsLogin");
}

const kind = process.argv[2];
if (kind !== "life" && kind !== "visit") throw new Error("Which recording? life or visit");
const client = versionOf("tailscale");
const recorder = await Recorder.open();
try {
  await (kind === "life" ? life(recorder) : visit(recorder));
} finally {
  recorder.close(`${kind}-${client}`, { client, server: versionOf("headscale") });
}
process.exit(0);
