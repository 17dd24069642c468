import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LocalClient } from "../../src/cli/local-client.ts";
import { createNode } from "../../src/index.ts";
import { findPeer, peersOrSkip } from "../peers.ts";
import { scratchFolder } from "../suites/scratch.ts";
import { freePorts, type Running, sallyport, startSallyport } from "./processes.ts";

const peers = peersOrSkip("tailscale");

/** Upstream's own command line talks to our gateway as if it were its daemon. */
describe.skipIf(peers.missing !== undefined)(
  `the stock command line on our LocalAPI${peers.missing ? ` (${peers.missing})` : ""}`,
  () => {
    const scratch = scratchFolder();
    const socket = `${scratch}/gw.sock`;
    const running: Running[] = [];
    let controlUrl: string;
    let peer: Awaited<ReturnType<typeof createNode>>;

    async function tailscale(line: string): Promise<{ status: number | null; stdout: string; stderr: string }> {
      const child = spawn(findPeer("tailscale")!, [`--socket=${socket}`, ...line.split(" ")], { cwd: scratch });
      let [stdout, stderr] = ["", ""];
      child.stdout.on("data", (chunk) => {
        stdout += String(chunk);
      });
      child.stderr.on("data", (chunk) => {
        stderr += String(chunk);
      });
      const status = await new Promise<number | null>((resolve) => child.on("close", resolve));
      return { status, stdout, stderr };
    }

    beforeAll(async () => {
      const [port, derpPort, stunPort] = (await freePorts("127.0.0.1", 3)) as [string, string, string];
      const ports = ["--address", "127.0.0.1", "--port", port, "--derp-port", derpPort, "--stun-port", stunPort];
      const state = ["server", "--state", `${scratch}/server`];
      running.push(await startSallyport([...state, "--domain", "tail.test", ...ports], "server.started"));
      await sallyport(...state, "users", "create", "bob@example.com", "--name", "Bob Example");
      const key = (await sallyport(...state, "keys", "create", "--user", "bob@example.com", "--reusable")).trim();
      writeFileSync(`${scratch}/key`, key);
      controlUrl = `http://127.0.0.1:${port}`;
      const run = ["run", "--login-server", controlUrl, "--auth-key", `file:${scratch}/key`, "--hostname", "gw"];
      running.push(await startSallyport([...run, "--state", `${scratch}/gw`, "--socket", socket], "gateway.started"));
      peer = await createNode({ controlUrl, authKey: key, hostname: "peer", signal: AbortSignal.timeout(30_000) });
      for (let tries = 0; tries < 60 && !(await tailscale("status")).stdout.includes("peer"); tries++) await sleep(200);
    });

    afterAll(async () => {
      await peer?.close();
      for (const one of running.reverse()) await one.kill();
    });

    test.each<[line: string, status: number, output: RegExp]>([
      ["status", 0, /^100\.64\.0\.\d+ +gw +bob@/m],
      ["ip", 0, /^100\.64\.0\.\d+\nfd7a:115c:a1e0::/],
      ["whois 100.64.0.2", 0, /Name: +bob@example\.com/],
      ["ping -c 1 --tsmp peer", 0, /^pong from peer \(100\.64\.0\.\d+.*\) via TSMP/],
      ["ping -c 1 --icmp peer", 0, /^pong from peer .* via ICMP/],
      ["ping -c 5 peer", 0, /^pong from peer .* via (?:127\.|\d+\.|\[)/m],
      ["netcheck", 0, /\* UDP: true/],
      ["lock status", 0, /is (?:NOT enabled|not enabled)/i],
      ["dns status", 0, /MagicDNS/],
      ["switch --list", 0, /bob@example\.com/],
      ["debug prefs", 0, /"WantRunning": true/],
      ["metrics print", 0, /^sallyport_node_running 1$/m],
      ["bugreport", 0, /^BUG-[0-9a-f]{64}-\d{8}T\d{6}Z/],
      ["exit-node list", 1, /no exit nodes found/],
      ["set --ssh", 1, /does not support an SSH server/],
      ["set --hostname=gw", 0, /^$/],
    ])("tailscale %s", async (line, status, output) => {
      const found = await tailscale(line);
      expect(found.stdout + found.stderr).toMatch(output);
      expect(found.status, found.stderr).toBe(status);
    });

    test("tailscale serve, and what is served answers", async () => {
      const served = await tailscale("serve --bg --http=80 text:hello");
      expect(served.stderr + served.stdout).toContain("http://gw.tail.test");
      expect((await tailscale("serve status")).stdout).toContain('|-- / text  "hello"');
      const response = await peer.fetch("http://gw.tail.test/", { signal: AbortSignal.timeout(15_000) });
      expect(await response.text()).toBe("hello");
      expect((await tailscale("serve --http=80 off")).status).toBe(0);
      expect((await tailscale("serve status --json")).stdout.trim()).toBe("{}");
    });

    test("tailscale serve over a leased port takes it back from the Internet, and over another one does not", async () => {
      const client = new LocalClient(socket, AbortSignal.timeout(30_000));
      const leased = { TCP: { 2222: { TCPForward: "localhost:22" } }, AllowFunnel: { "*:2222": true } };
      await client.setServeConfig(leased, (await client.serveConfig()).etag);
      expect((await tailscale("serve --bg --tcp=2223 tcp://localhost:23")).status).toBe(0);
      expect((await client.serveConfig()).config?.AllowFunnel).toMatchObject({ "*:2222": true });
      const served = await tailscale("serve --bg --tcp=2222 tcp://localhost:22");
      expect(served).toMatchObject({ status: 0, stderr: expect.stringContaining("Removing Funnel for gw.tail.test") });
      const { config } = await client.serveConfig();
      expect([config?.AllowFunnel, config?.TCP?.[2222]]).toEqual([undefined, { TCPForward: "localhost:22" }]);
      await tailscale("serve reset");
    });

    test("tailscale funnel opens nothing without a door where the policy demands one, and says so", async () => {
      const attr = ["funnel", "https", "sallyport.dev/door-required"];
      const acls = [{ action: "accept", src: ["*"], dst: ["*:*"] }];
      writeFileSync(`${scratch}/policy`, JSON.stringify({ acls, nodeAttrs: [{ target: ["*"], attr }] }));
      await sallyport("server", "--state", `${scratch}/server`, "policy", "set", `${scratch}/policy`);
      const capabilities = async (): Promise<string> => (await tailscale("status --json --peers=false")).stdout;
      await expect.poll(capabilities, { timeout: 20_000 }).toContain("door-required");
      const found = await tailscale("funnel --bg text:hello");
      expect(found.stderr + found.stdout).toContain("the network's policy demands a door before it");
      expect(found.status).toBe(1);
      expect((await tailscale("funnel status --json")).stdout.trim()).toBe("{}");
    });

    test("tailscale cert writes a pair", async () => {
      expect((await tailscale("cert gw.tail.test")).status).toBe(0);
      expect(readFileSync(`${scratch}/gw.tail.test.crt`, "utf8")).toContain("BEGIN CERTIFICATE");
      expect(readFileSync(`${scratch}/gw.tail.test.key`, "utf8")).toContain("PRIVATE KEY");
    });

    test("tailscale up --force-reauth waits for the new node key", async () => {
      const keyNow = async () => JSON.parse((await tailscale("status --json")).stdout).Self.PublicKey as string;
      const before = await keyNow();
      const flags = `--login-server=${controlUrl} --hostname=gw --accept-dns=false --netfilter-mode=off`;
      const up = await tailscale(`up --timeout=30s --force-reauth --auth-key=file:${scratch}/key ${flags}`);
      expect(up.status, up.stderr).toBe(0);
      await expect.poll(keyNow, { timeout: 20_000 }).not.toBe(before);
      await expect.poll(async () => (await tailscale("status")).stdout, { timeout: 20_000 }).toContain("peer");
    });

    test("tailscale down, status, logout", async () => {
      expect((await tailscale("down")).status).toBe(0);
      expect(await tailscale("status")).toMatchObject({ status: 1, stdout: "Tailscale is stopped.\n" });
      const up = `up --login-server=${controlUrl} --hostname=gw --accept-dns=false --netfilter-mode=off`;
      expect(await tailscale(up)).toMatchObject({ status: 0 });
      expect((await tailscale("status")).stdout).toContain("peer");
      expect((await tailscale("logout")).status).toBe(0);
      expect((await tailscale("status")).stdout).toContain("Logged out.");
    });

    test("tailscale up after a logout: asks for a login, and is done with the key that comes of it", async () => {
      const flags = `--login-server=${controlUrl} --hostname=gw --accept-dns=false --netfilter-mode=off`;
      const asking = spawn(findPeer("tailscale")!, [`--socket=${socket}`, "up", "--timeout=30s", ...flags.split(" ")]);
      let said = "";
      for await (const chunk of asking.stderr) {
        said += String(chunk);
        if (said.includes("To authenticate, visit:")) break;
      }
      asking.kill();
      expect(said).toContain("To authenticate, visit:");
      const up = await tailscale(`up --timeout=30s --force-reauth --auth-key=file:${scratch}/key ${flags}`);
      expect(up.status, up.stderr).toBe(0);
      expect((await tailscale("status")).stdout).toContain("peer");
    });
  },
);
