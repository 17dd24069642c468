import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import path from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isRoot, peersOrSkip } from "../peers.ts";
import { scratchFolder } from "../suites/scratch.ts";
import { largeFileDigest, serveLargeFile } from "./large-file.ts";
import type { Download, Progress } from "./mesh-download.ts";
import { canPunch, createInternet, type Internet, NATS, type Nat, type NatHost, NODE_PORT } from "./nat-lab.ts";
import { type Running, sallyport, startSallyport } from "./processes.ts";

const peers = peersOrSkip("ip", "nft");
const JOINED_WITHIN_MS = 30_000;
const DOWNLOAD = 100 * 1024 * 1024;
/** So slow that UDP can be taken away and given back several times meanwhile. */
const BYTES_PER_SECOND = 4 * 1024 * 1024;
const STALL_MS = 3000;
const BETWEEN_FAULTS_MS = 2000;

const PAIRS = NATS.flatMap((a, i) => NATS.slice(i).map((b) => ({ a, b, way: canPunch(a, b) ? "direct" : "DERP" })));
const nameOf = (nat: Nat, side: "a" | "b") => `${nat.replaceAll(" ", "-").toLowerCase()}-${side}`;

/** Two nodes of ours behind each kind of NAT, each a process in a namespace behind a router of its own. */
describe.skipIf(!isRoot || peers.missing !== undefined)(
  `nodes behind NATs${peers.missing ? ` (${peers.missing})` : ""}`,
  () => {
    const scratch = scratchFolder();
    const running: Running[] = [];
    const hosts = new Map<string, NatHost>();
    const backend = createServer((request, response) => {
      serveLargeFile(DOWNLOAD, request, response, BYTES_PER_SECOND);
    });
    let internet: Internet;
    let controlUrl: string;

    const local = (name: string, ...args: readonly string[]) =>
      sallyport("--socket", `${scratch}/${name}.sock`, ...args);

    beforeAll(async () => {
      internet = createInternet();
      controlUrl = `http://${internet.address}:8080`;
      await new Promise<void>((resolve) => backend.listen(`${scratch}/backend.sock`, () => resolve()));
      const server = ["server", "--state", `${scratch}/server`, "--address", internet.address, "--port", "8080"];
      running.push(await startSallyport(server, "server.started", internet));
      const admin = (...args: readonly string[]) => sallyport("server", "--state", `${scratch}/server`, ...args);
      await admin("users", "create", "alice@example.com");
      const key = await admin("keys", "create", "--user", "alice@example.com", "--reusable");
      writeFileSync(`${scratch}/key`, key.trim());
      for (const name of NATS.flatMap((nat) => [nameOf(nat, "a"), nameOf(nat, "b")])) {
        hosts.set(name, internet.addHost(NATS.find((nat) => name.startsWith(nameOf(nat, "a").slice(0, -1)))!));
      }
      running.push(...(await Promise.all([...hosts].map(([name, host]) => startNode(name, host)))));
      await Promise.all([...hosts.keys()].map((name) => joined(name)));
    }, 180_000);

    const startNode = (name: string, host: NatHost) => {
      const where = ["--state", `${scratch}/${name}`, "--socket", `${scratch}/${name}.sock`, "--port", NODE_PORT];
      const join = ["--login-server", controlUrl, "--auth-key", `file:${scratch}/key`, "--hostname", name];
      return startSallyport(["run", ...join, ...where], "gateway.started", host);
    };
    const joined = async (name: string): Promise<void> => {
      const end = performance.now() + JOINED_WITHIN_MS;
      while (!(await local(name, "ip", "-4").catch(() => "")).startsWith("100.64.")) {
        if (performance.now() > end) throw new Error(`${name} did not join`);
        await sleep(200);
      }
    };

    afterAll(async () => {
      for (const one of running) await one.kill();
      internet?.close();
      backend.close();
      backend.closeAllConnections();
    });

    test.each(PAIRS)("$a and $b: $way", async ({ a, b, way }) => {
      // Ends with the first pong that came directly.
      const pings = local(nameOf(a, "a"), "ping", "-c", way === "direct" ? "10" : "2", nameOf(b, "b"));
      if (way === "direct") expect(await pings).toMatch(/via 10\.77\.0\.\d+:\d+ in \d+ms\n$/);
      else await expect(pings).rejects.toThrow("direct connection not established");
    });

    test("DD-12: direct → DERP → direct during a download of 100 MiB: equal hash, no stall over 3 s", {
      timeout: 180_000,
    }, async () => {
      const [server, client] = ["port-restricted-a", "port-restricted-b"] as const;
      await local(server, "serve", "--bg", "--http", "80", `unix:${scratch}/backend.sock`);
      const [script, url] = [path.join(import.meta.dirname, "mesh-download.ts"), `http://${server}/`];
      const host = hosts.get(client)!;
      const child = host.start(process.execPath, [
        "--disable-warning=ExperimentalWarning",
        script,
        ...[controlUrl, `${scratch}/key`, "download", url],
      ]);
      const faults = new Switcher(host);
      let result: Download | undefined;
      for await (const line of createInterface({ input: child.stdout! })) {
        const told = JSON.parse(line) as Progress | Download;
        if ("sha256" in told) result = told;
        else faults.watch(told);
      }
      expect(result?.sha256, "SHA-256").toBe(largeFileDigest(DOWNLOAD));
      expect(faults.switches.length, "switches from one way to the other").toBeGreaterThanOrEqual(4);
      expect(result!.stallMs, JSON.stringify(faults.switches)).toBeLessThan(STALL_MS);
    });
  },
);

/** Takes UDP from a host, and gives it back, whenever its download has run for 2 s on the way that was to be expected. */
class Switcher {
  readonly switches: { readonly to: "direct" | "DERP"; readonly tookMs: number }[] = [];
  readonly #host: NatHost;
  #isBlocked = false;
  #changedAt: number | undefined;
  #settledAt = 0;

  constructor(host: NatHost) {
    this.#host = host;
  }

  watch({ ms, isDirect }: Progress): void {
    if (isDirect === this.#isBlocked) {
      this.#settledAt = Infinity;
      return;
    }
    if (this.#settledAt === Infinity) this.#settledAt = ms;
    if (this.#changedAt !== undefined) {
      this.switches.push({ to: isDirect ? "direct" : "DERP", tookMs: ms - this.#changedAt });
      this.#changedAt = undefined;
    }
    if (ms - this.#settledAt < BETWEEN_FAULTS_MS) return;
    this.#isBlocked = !this.#isBlocked;
    this.#changedAt = ms;
    if (this.#isBlocked) this.#host.blockUdp();
    else this.#host.healUdp();
  }
}
