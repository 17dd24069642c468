import { expect } from "vitest";
import { isRoot, peersOrSkip } from "../peers.ts";
import { type Answer, type OurNode, StockMesh, type StockNode, until } from "./stock-mesh.ts";

const { missing } = peersOrSkip("headscale", "tailscaled", "tailscale", "derper", "ip", "nft", "curl");
/** Why tests with Headscale cannot run here, for their title; `undefined`: they can. */
export const whyNot: string | undefined = isRoot ? missing : "needs root";

const policy = {
  tagOwners: { "tag:ci": ["bob@"] },
  acls: [{ action: "accept", src: ["*"], dst: ["*:80,443,8000,9000"] }],
  grants: [{ src: ["alice@"], dst: ["*"], app: { "example.com/cap/app": [{ action: ["*"], resources: ["*"] }] } }],
};

/** For `node -e`: 64 MiB at /large, elsewhere the request's own headers; an echo on port 3001. */
export const BACKEND = `
  require("node:http").createServer((request, response) => {
    if (request.url === "/large") return response.end(Buffer.alloc(64 << 20));
    response.end(JSON.stringify(request.headers));
  }).listen(3000, "127.0.0.1");
  require("node:net").createServer((socket) => socket.pipe(socket)).listen(3001, "127.0.0.1");
`;
export const LARGE: string = String(64 << 20);

export interface StatusPeer {
  readonly ID: string;
  readonly PublicKey: string;
  readonly DNSName: string;
  readonly TailscaleIPs: readonly string[];
  readonly Tags?: readonly string[];
  readonly CurAddr: string;
  readonly Relay: string;
  readonly KeyExpiry?: string;
  readonly AllowedIPs?: readonly string[];
}

/** `status --json`, upstream's and ours. */
export interface Status {
  readonly BackendState: string;
  readonly Self: StatusPeer;
  readonly Peer: Readonly<Record<string, StatusPeer>> | null;
  readonly Health: readonly string[] | null;
}

interface WithCli {
  cli(...args: readonly string[]): Promise<Answer>;
}

export async function statusOf(node: WithCli): Promise<Status> {
  return JSON.parse((await node.cli("status", "--json")).stdout) as Status;
}

export function peerOf(status: Status, name: string): StatusPeer | undefined {
  return Object.values(status.Peer ?? {}).find((peer) => peer.DNSName === `${name}.tail.test.`);
}

/** Settles when the node sees alice. */
export async function joined(node: OurNode): Promise<void> {
  const isIn = ({ code, stdout }: Answer) => code === 0 && stdout.includes("alice");
  try {
    await until("the node to be in", () => node.cli("status"), isIn);
  } catch (error) {
    throw new Error(`${String(error)}\n${node.log()}`);
  }
}

export function curl(from: StockNode, ...args: readonly string[]): Promise<Answer> {
  return from.run("curl", "-sS", "--max-time", "20", ...args);
}

/** Downloads /large at `rate`; the answer's text is how many bytes came. */
export function download(from: StockNode, rate: string, ...args: readonly string[]): Promise<Answer> {
  const limits = ["--limit-rate", rate, "--max-time", "60"];
  return from.run("curl", "-sS", ...limits, "-o", "/dev/null", "-w", "%{size_download}", ...args);
}

/** Headscale with the tests' policy, and alice's machine, which has a kernel interface. */
export class HeadscaleLab {
  readonly mesh: StockMesh;
  readonly alice: StockNode;

  private constructor(mesh: StockMesh, alice: StockNode) {
    this.mesh = mesh;
    this.alice = alice;
  }

  static async open(): Promise<HeadscaleLab> {
    const mesh = await StockMesh.open(policy);
    const alice = await mesh.stock("alice", "tun");
    await mesh.up(alice, await mesh.key("-u", "1"));
    return new HeadscaleLab(mesh, alice);
  }

  async idOf(name: string): Promise<string> {
    return (await this.mesh.idsOf(name))[0] ?? "none";
  }

  /** Waits for the URL that a node asks somebody to open, and lets the node in as bob's. */
  async openUrl(node: WithCli): Promise<Answer> {
    const asks = ({ stdout }: Answer) => stdout.includes("/register/");
    const asked = await until("the URL", () => node.cli("status"), asks);
    const id = /\/register\/(\S+)/.exec(asked.stdout)?.[1];
    await this.mesh.headscale("auth", "register", "--auth-id", id ?? "", "-u", "bob");
    return asked;
  }

  async ipOf(name: string, family: "-4" | "-6" = "-4"): Promise<string> {
    return (await this.alice.cli("ip", family, name)).stdout.trim();
  }

  /** For curl: where a name is, without the machine's own resolver. */
  async to(name: string, port: number, family: "-4" | "-6" = "-4"): Promise<readonly [string, string]> {
    const address = await this.ipOf(name, family);
    return ["--resolve", `${name}.tail.test:${port}:${address.includes(":") ? `[${address}]` : address}`];
  }

  /** Settles when alice gets a pong: a name spreads through the server first. */
  async answers(name: string): Promise<void> {
    const ask = () => this.alice.cli("ping", "--c", "5", name);
    const { stdout } = await until(`a pong from ${name}`, ask, ({ code }) => code === 0);
    expect(stdout).toContain(`pong from ${name}`);
  }

  close(): void {
    this.mesh.close();
  }
}
