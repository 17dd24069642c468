import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findPeer, isRoot, peersOrSkip } from "../peers.ts";
import { scratchFolder } from "../suites/scratch.ts";
import { largeFileDigest, serveLargeFile } from "./large-file.ts";
import { canPunch, createInternet, type Internet, NATS, type Nat, type NatHost, NODE_PORT } from "./nat-lab.ts";
import { commandAt, type Outcome, type Running, sallyport, startSallyport } from "./processes.ts";

const peers = peersOrSkip("tailscaled", "tailscale", "ip", "nft", "curl");
const JOINED_WITHIN_MS = 30_000;
const DOWNLOAD = 64 * 1024 * 1024;
/** So slow that UDP can be taken away and given back meanwhile. */
const BYTES_PER_SECOND = 4 * 1024 * 1024;
/** Stock trusts an address 6.5 s after its last pong; TCP's next try comes a little later. */
const STALL_MS = 12_000;
const PAIRS = NATS.flatMap((ours) =>
  NATS.map((stock) => ({ ours, stock, way: canPunch(ours, stock) ? "direct" : "DERP" })),
);
const PROXY = "127.0.0.1:1055";
const nameOf = (side: "ours" | "stock", nat: Nat) => `${side}-${nat.replaceAll(" ", "-").toLowerCase()}`;

/** A node of ours and a stock one behind each kind of NAT, on our server. */
describe.skipIf(!isRoot || peers.missing !== undefined)(
  `our nodes and stock ones behind NATs${peers.missing ? ` (${peers.missing})` : ""}`,
  () => {
    const scratch = scratchFolder();
    const running: Running[] = [];
    const stockHosts = new Map<Nat, NatHost>();
    const backend = createServer((request, response) => {
      serveLargeFile(DOWNLOAD, request, response, BYTES_PER_SECOND);
    });
    let internet: Internet;

    const ours = (nat: Nat, ...args: readonly string[]) =>
      sallyport("--socket", `${scratch}/${nameOf("ours", nat)}.sock`, ...args);
    const stock = (nat: Nat, ...args: readonly string[]): Promise<Outcome> =>
      commandAt(
        stockHosts.get(nat)!,
        findPeer("tailscale")!,
        "--socket",
        `${scratch}/${nameOf("stock", nat)}.sock`,
        ...args,
      );

    beforeAll(async () => {
      internet = createInternet();
      await new Promise<void>((resolve) => backend.listen(`${scratch}/backend.sock`, () => resolve()));
      const controlUrl = `http://${internet.address}:8080`;
      const server = ["server", "--state", `${scratch}/server`, "--address", internet.address, "--port", "8080"];
      running.push(await startSallyport(server, "server.started", internet));
      const admin = (...args: readonly string[]) => sallyport("server", "--state", `${scratch}/server`, ...args);
      await admin("users", "create", "alice@example.com");
      const key = (await admin("keys", "create", "--user", "alice@example.com", "--reusable")).trim();
      writeFileSync(`${scratch}/key`, key);
      await Promise.all(
        NATS.map(async (nat) => {
          const name = nameOf("ours", nat);
          const where = ["--state", `${scratch}/${name}`, "--socket", `${scratch}/${name}.sock`, "--port", NODE_PORT];
          const join = ["--login-server", controlUrl, "--auth-key", `file:${scratch}/key`, "--hostname", name];
          const host = internet.addHost(nat);
          running.push(await startSallyport(["run", ...join, ...where], "gateway.started", host));
          const end = performance.now() + JOINED_WITHIN_MS;
          while (!(await ours(nat, "ip", "-4").catch(() => "")).startsWith("100.64.")) {
            if (performance.now() > end) throw new Error(`${name} did not join`);
            await sleep(200);
          }
        }),
      );
      await Promise.all(
        NATS.map(async (nat) => {
          const [name, host] = [nameOf("stock", nat), internet.addHost(nat)];
          stockHosts.set(nat, host);
          mkdirSync(`${scratch}/${name}`);
          const where = ["--statedir", `${scratch}/${name}`, "--socket", `${scratch}/${name}.sock`];
          const daemon = host.start(
            findPeer("tailscaled")!,
            ["--tun=userspace-networking", "--outbound-http-proxy-listen", PROXY, ...where, "--port", NODE_PORT],
            { TS_NO_LOGS_NO_SUPPORT: "true" },
          );
          daemon.stdout!.resume();
          daemon.stderr!.resume();
          const join = ["--login-server", controlUrl, "--auth-key", key, "--hostname", name];
          const up = await stock(nat, "up", ...join, "--timeout", "120s");
          expect(up.code, up.stderr).toBe(0);
        }),
      );
    }, 180_000);

    afterAll(async () => {
      for (const one of running) await one.kill();
      internet?.close();
      backend.close();
      backend.closeAllConnections();
    });

    // Both commands end with the first pong that came directly.
    test.each(PAIRS)("ours behind $ours and stock behind $stock: $way", async (pair) => {
      const count = pair.way === "direct" ? "10" : "2";
      const toStock = await ours(pair.ours, "ping", "-c", count, nameOf("stock", pair.stock)).catch(String);
      const toOurs = await stock(pair.stock, "ping", "-c", count, nameOf("ours", pair.ours));
      const direct = /via 10\.77\.0\.\d+:\d+ in [\d.]+m?s\n$/;
      if (pair.way === "direct") {
        expect(toStock).toMatch(direct);
        expect(toOurs.stdout, toOurs.stderr).toMatch(direct);
      } else {
        expect(toStock).toContain("direct connection not established");
        expect(toOurs.stdout).toMatch(/via DERP\(own\)/);
        expect(toOurs.stderr).toContain("direct connection not established");
      }
    });

    test("DD-12: a stock node's download from ours lives on: direct, through the relay, direct again", async () => {
      const nat = "port-restricted";
      const [server, host] = [nameOf("ours", nat), stockHosts.get(nat)!];
      await ours(nat, "serve", "--bg", "--http", "80", `unix:${scratch}/backend.sock`);
      const child = host.start("curl", ["-sS", "--proxy", `http://${PROXY}`, `http://${server}/`]);
      const hash = createHash("sha256");
      const ways: string[] = [];
      const way = async (): Promise<string> => {
        const line = (await stock(nat, "status")).stdout.split("\n").find((text) => text.includes(server)) ?? "";
        return /direct|relay/.exec(line)?.[0] ?? line;
      };
      let [bytes, last, stallMs, faults] = [0, performance.now(), 0, 0];
      for await (const chunk of child.stdout! as AsyncIterable<Uint8Array>) {
        hash.update(chunk);
        bytes += chunk.length;
        stallMs = Math.max(stallMs, performance.now() - last);
        last = performance.now();
        // After a quarter UDP goes, after a half it comes back, and at three quarters all is as it was.
        if (bytes < ((faults + 1) * DOWNLOAD) / 4) continue;
        faults++;
        ways.push(await way());
        if (faults === 1) host.blockUdp();
        if (faults === 2) host.healUdp();
        last = performance.now();
      }
      expect(hash.digest("hex")).toBe(largeFileDigest(DOWNLOAD));
      expect(ways.slice(0, 2)).toEqual(["direct", "relay"]);
      // When the stock end tries the direct path again is its own affair; a busy machine gets there after the download.
      await expect.poll(() => stock(nat, "ping", "-c", "1", server).then(way), { timeout: 30_000 }).toBe("direct");
      expect(stallMs).toBeLessThan(STALL_MS);
    });
  },
);
