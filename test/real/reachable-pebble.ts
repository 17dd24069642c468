import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { Agent, fetch } from "undici";
import { systemClock } from "../../src/base/clock.ts";
import { LocalCa } from "../../src/certs/local-ca.ts";
import { findPeer } from "../peers.ts";
import { eventually, type Space } from "./namespace.ts";
import { freePorts } from "./processes.ts";

const KEPT_BYTES = 64 * 1024;

export interface ReachablePebbleOptions {
  /** A folder of its own. */
  readonly folder: string;
  /** Where it listens: others than this machine have to reach it. */
  readonly address: string;
  /** `ip:port` of the DNS that it believes. */
  readonly dnsServer: string;
  /** Where it runs, with the ports 80 and 443 of names to look at. @default on this machine, with 5002 and 5001 */
  readonly space?: Space;
}

export interface ReachablePebble {
  /** Its ACME directory. */
  readonly directory: string;
  /** File with the PEM of what signs its own listener: for `SSL_CERT_FILE` and `NODE_EXTRA_CA_CERTS`. */
  readonly listenerRoot: string;
  /** PEM of the root above what it issues. */
  issuedRoot(): Promise<string>;
  log(): string;
  stop(): Promise<void>;
}

/** Pebble for clients in other namespaces, with a DNS server of the test's own. */
export async function startReachablePebble(options: ReachablePebbleOptions): Promise<ReachablePebble> {
  const { folder, address, dnsServer, space } = options;
  mkdirSync(folder, { recursive: true });
  const ca = await LocalCa.create(systemClock);
  const { key, certificate } = await ca.issue([address]);
  const caBundle = ca.export().certificate;
  const file = (name: string, text: string): string => {
    writeFileSync(`${folder}/${name}`, text);
    return `${folder}/${name}`;
  };
  const listenerRoot = file("listener-root.pem", caBundle);
  const [port = "", management = ""] = space === undefined ? await freePorts(address, 2) : ["14000", "15000"];
  const pebble = {
    listenAddress: `${address}:${port}`,
    managementListenAddress: `${address}:${management}`,
    certificate: file("listener.pem", certificate),
    privateKey: file("listener-key.pem", key),
    httpPort: space === undefined ? 5002 : 80,
    tlsPort: space === undefined ? 5001 : 443,
  };
  const args = ["-config", file("pebble.json", JSON.stringify({ pebble })), "-dnsserver", dnsServer];
  const env = { PEBBLE_VA_NOSLEEP: "1" };
  const child =
    space?.start(findPeer("pebble")!, args, env) ??
    spawn("setpriv", ["--pdeathsig", "KILL", findPeer("pebble")!, ...args], {
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
  let log = "";
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.on("data", (chunk) => {
      log = (log + String(chunk)).slice(-KEPT_BYTES);
    });
  }
  const ended = new Promise<void>((resolve) => child.on("close", () => resolve()));
  await eventually("Pebble", () => (log.includes("ACME directory available") ? true : undefined), 60_000);
  return {
    directory: `https://${address}:${port}/dir`,
    listenerRoot,
    async issuedRoot() {
      const roots = `https://${address}:${management}/roots/0`;
      if (space !== undefined) return space.run("curl", "-sS", "--cacert", listenerRoot, roots);
      const dispatcher = new Agent({ connect: { ca: caBundle } });
      const response = await fetch(roots, { dispatcher });
      const text = await response.text();
      await dispatcher.close();
      return text;
    },
    log: () => log,
    async stop() {
      child.kill("SIGKILL");
      await ended;
    },
  };
}
