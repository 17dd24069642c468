import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { parsePrefix } from "../../src/base/address.ts";
import { systemClock } from "../../src/base/clock.ts";
import { drive } from "../../src/base/drive.ts";
import { PathTable } from "../../src/base/path-table.ts";
import { systemRandom } from "../../src/base/random.ts";
import { chooseAead } from "../../src/crypto/aead/choose.ts";
import { generatePrivateKey, publicKeyOf } from "../../src/crypto/keys.ts";
import type { CongestionControl } from "../../src/mesh/tcpip/congestion.ts";
import { Netstack } from "../../src/mesh/tcpip/netstack.ts";
import { openUdpIo } from "../../src/mesh/udp/udp-io.ts";
import { WireGuard } from "../../src/mesh/wireguard/device.ts";
import { eventually, type Namespace, type Space } from "./namespace.ts";
import type { RelayCounts, RelayOptions } from "./udp-relay.ts";

/** Our WireGuard and our TCP/IP over one UDP socket, with one static peer and nothing else of a node. */
export interface UserspacePeer {
  readonly stack: Netstack;
  readonly wireguard: WireGuard;
  readonly publicKey: Uint8Array;
  readonly port: number;
  close(): Promise<void>;
}

const WIREGUARD_OVERHEAD_BYTES = 32;

export interface UserspacePeerOptions {
  /** To bind to. */
  readonly address: string;
  readonly addresses: readonly string[];
  readonly peerKey: Uint8Array;
  readonly peerAddresses: readonly string[];
  readonly mtu: number;
  readonly congestion?: CongestionControl;
}

export async function openUserspacePeer(options: UserspacePeerOptions): Promise<UserspacePeer> {
  const privateKey = generatePrivateKey(systemRandom);
  const table = new PathTable();
  const { io: udp } = await openUdpIo({ table, clock: systemClock, address: options.address });
  let peerPath = -1;
  const wireguard = new WireGuard({
    privateKey,
    random: systemRandom,
    wall: () => Date.now(),
    aead: await chooseAead(),
    mtu: options.mtu,
    onAuthenticated: (_, way) => {
      peerPath = way;
    },
    send: (_, way, datagram) => {
      const train = udp.claim(way ?? peerPath, datagram.length);
      if (train === undefined) return;
      train.slab.set(datagram, train.offset);
      train.push(datagram.length);
      wake();
    },
  });
  const allowedIps = options.peerAddresses.map((text) => parsePrefix(text)!);
  const peer = wireguard.addPeer({ publicKey: options.peerKey, allowedIps }, systemClock.now());
  const stack = new Netstack({
    addresses: options.addresses.map((text) => parsePrefix(text)!.address),
    mtu: options.mtu,
    ...(options.congestion === undefined ? {} : { congestion: options.congestion }),
    random: systemRandom,
    now: () => systemClock.now(),
    output: (packet, _, now) => {
      wake();
      const train = udp.claim(peerPath, Math.ceil(packet.length / 16) * 16 + WIREGUARD_OVERHEAD_BYTES);
      if (train === undefined) return; // lost, as where a socket is full
      const sealed = wireguard.seal(peer, packet, train.slab, train.offset, now);
      if (sealed > 0) train.push(sealed);
      else wireguard.send(peer, packet, now);
    },
    proofOf: (_, source, destination) => ({ kind: "mesh", nodeKey: "", source, destination }),
    wake: () => wake(),
  });
  const wakers = [wireguard, stack].map((machine) =>
    drive<never>(
      {
        get deadline() {
          return machine.deadline;
        },
        poll: (now) => void machine.poll(now) as undefined,
      },
      systemClock,
      () => {},
    ),
  );
  let isQueued = false;
  const wake = () => {
    if (isQueued) return;
    isQueued = true;
    queueMicrotask(() => {
      isQueued = false;
      for (const waker of wakers) waker();
      udp.flush();
    });
  };
  udp.start((batch, now) => {
    wireguard.open(batch, now);
    stack.input(batch, now);
    wake();
  });
  return {
    stack,
    wireguard,
    publicKey: publicKeyOf(privateKey),
    port: udp.port,
    async close() {
      stack.close();
      await udp.close();
    },
  };
}

/** Debian's wireguard-go in a namespace, driven by `wg` and `ip`. */
export async function startWireguardGo(
  space: Space,
  link: string,
  options: {
    readonly privateKey: Uint8Array;
    readonly addresses: readonly string[];
    readonly mtu: number;
    readonly listenPort?: number;
    readonly peers: readonly {
      readonly publicKey: Uint8Array;
      readonly allowedIps: string;
      readonly endpoint?: string;
      readonly psk?: Uint8Array | undefined;
    }[];
  },
): Promise<void> {
  const socket = `/var/run/wireguard/${link}.sock`; // of the file system, so shared by all namespaces
  rmSync(socket, { force: true });
  const child = space.start("wireguard-go", ["-f", link], { WG_PROCESS_FOREGROUND: "1" });
  const said: string[] = [];
  for (const stream of [child.stdout!, child.stderr!]) stream.on("data", (chunk) => said.push(String(chunk)));
  await eventually("wireguard-go", () => {
    if (child.exitCode !== null) throw new Error(`wireguard-go ended with ${child.exitCode}: ${said.join("")}`);
    return existsSync(socket) || undefined;
  });
  const scratch = mkdtempSync(path.join(tmpdir(), "sallyport-key-"));
  const keyFile = path.join(scratch, "key");
  const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64");
  writeFileSync(keyFile, base64(options.privateKey), { mode: 0o600 });
  const listen = options.listenPort === undefined ? [] : ["listen-port", String(options.listenPort)];
  space.run("wg", "set", link, "private-key", keyFile, ...listen);
  for (const { publicKey, allowedIps, endpoint, psk } of options.peers) {
    const args = ["peer", base64(publicKey), "allowed-ips", allowedIps];
    if (endpoint !== undefined) args.push("endpoint", endpoint);
    if (psk !== undefined) {
      writeFileSync(keyFile, base64(psk));
      args.push("preshared-key", keyFile);
    }
    space.run("wg", "set", link, ...args);
  }
  rmSync(scratch, { recursive: true });
  for (const address of options.addresses) {
    if (address.includes(":")) space.run("ip", "-6", "addr", "add", address, "dev", link, "nodad");
    else space.run("ip", "addr", "add", address, "dev", link);
  }
  space.run("ip", "link", "set", link, "mtu", String(options.mtu), "up");
}

/** Runs a command inside beside this process's event loop, which must answer it; gives its standard output. */
export async function runInside(space: Namespace, command: string, ...args: readonly string[]): Promise<string> {
  const child = space.start(command, args);
  let [text, errors] = ["", ""];
  child.stdout!.on("data", (chunk) => {
    text += String(chunk);
  });
  child.stderr!.on("data", (chunk) => {
    errors += String(chunk);
  });
  const code = await new Promise((resolve) => child.on("close", resolve));
  if (code !== 0) throw new Error(`${command} ended with ${String(code)}: ${errors}`);
  return text;
}

/** The relay in a process of its own: the loop under test must not be held up by it. */
export async function startRelay(
  options: RelayOptions,
): Promise<{ readonly near: number; readonly far: number; stop(): Promise<RelayCounts> }> {
  const script = path.join(import.meta.dirname, "udp-relay.ts");
  const child: ChildProcess = spawn(process.execPath, [script, JSON.stringify(options)], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  const ports = JSON.parse((await lines.next()).value ?? "") as { near: number; far: number };
  return {
    ...ports,
    async stop() {
      child.stdin!.end();
      return JSON.parse((await lines.next()).value ?? "") as RelayCounts;
    },
  };
}

/** GET `/<count>` gives so many bytes of the pattern; PUT answers with the SHA-256 of what came. */
export function serveBytes(request: IncomingMessage, response: ServerResponse): void {
  if (request.method === "PUT") {
    const hash = createHash("sha256");
    request.on("data", (chunk) => hash.update(chunk)).on("end", () => response.end(hash.digest("hex")));
    return;
  }
  let left = Number(request.url!.slice(1));
  response.setHeader("content-length", left);
  const push = () => {
    while (left > 0) {
      const size = Math.min(left, PATTERN.length);
      left -= size;
      if (!response.write(PATTERN.subarray(0, size))) break;
    }
    if (left === 0) response.end();
  };
  response.on("drain", push);
  push();
}

const PATTERN = Buffer.alloc(64 * 1024, "sallyport 0123456789 pattern.");

/** What `GET /<count>` gives. */
export function* patternOf(count: number): Generator<Uint8Array> {
  for (let left = count; left > 0; left -= PATTERN.length) yield PATTERN.subarray(0, Math.min(left, PATTERN.length));
}

/** What it must hash to. */
export function patternDigest(count: number): string {
  const hash = createHash("sha256");
  for (const chunk of patternOf(count)) hash.update(chunk);
  return hash.digest("hex");
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
}
