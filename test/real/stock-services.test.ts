import { writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Server } from "../../src/server/server.ts";
import { isRoot, peersOrSkip } from "../peers.ts";
import { ServerMesh } from "./server-mesh.ts";
import { ok, type StockNode, until } from "./stock-mesh.ts";

const peers = peersOrSkip("tailscaled", "tailscale", "ip", "curl");

const POLICY = {
  tagOwners: { "tag:web": [] },
  autoApprovers: { services: { "svc:web": ["tag:web"] } },
  grants: [{ src: ["alice@example.com"], dst: ["svc:web", "svc:late"], ip: ["tcp:80"] }],
};

/** Says who calls. */
const BACKEND = `require("node:http").createServer((request, answer) =>
  answer.end(String(request.headers["tailscale-user-login"]))).listen(3000, "127.0.0.1")`;

describe.skipIf(!isRoot || peers.missing !== undefined)(
  `services on stock hosts, for stock clients${peers.missing ? ` (${peers.missing})` : ""}`,
  () => {
    const lab = new ServerMesh();
    let server: Server;
    let alice: StockNode;
    const hosts: StockNode[] = [];
    /** What alice gets at an address of a service, and by its name. */
    const page = async (address: string) =>
      (await alice.run("curl", "-sS", "--max-time", "3", `http://${address}/`)).stdout;
    const pageIs = (address: string, isRight: (text: string) => boolean) =>
      until(`the page of ${address}`, () => page(address), isRight, 40_000);

    beforeAll(async () => {
      server = await lab.openServer({ policy: JSON.stringify(POLICY) });
      alice = await lab.stock("alice", "tun", {});
      await lab.up(alice, await lab.keyFor("alice@example.com"));
      // Clients of Linux before 1.98 take a service for a subnet.
      await alice.cli("set", "--accept-routes");
      const key = await lab.keyFor("tag:web", true);
      for (const name of ["one", "two"]) {
        const host = await lab.stock(name, "userspace", {});
        await lab.up(host, key);
        hosts.push(host);
      }
    }, 90_000);

    afterAll(() => lab.close());

    test("tailscale serve --service: who may reach it gets an answer at its address and by its name", {
      timeout: 120_000,
    }, async () => {
      const { ipv4, ipv6 } = await server.coordinator.createService("svc:web", "test");
      const [one] = hosts;
      await ok(one!.cli("serve", "--service=svc:web", "--http=80", "text:one"));
      await pageIs(ipv4, (text) => text === "one");
      await pageIs(`[${ipv6}]`, (text) => text === "one");
      const answer = await ok(alice.cli("dns", "query", "web.tail.test"));
      expect(answer).toContain(ipv4);
    });

    test("a second host takes over when the first one is drained", { timeout: 120_000 }, async () => {
      const { ipv4 } = server.coordinator.services().find(({ name }) => name === "svc:web")!;
      const [one, two] = hosts;
      await ok(two!.cli("serve", "--service=svc:web", "--http=80", "text:two"));
      const told = () => Promise.resolve(server.coordinator.services()[0]!.hosts);
      await until("both hosts", told, (list) => list.length === 2, 30_000);
      expect(await page(ipv4)).toBe("one");
      await ok(one!.cli("serve", "drain", "svc:web"));
      await pageIs(ipv4, (text) => text === "two");
    });

    test("a service that the policy does not approve by itself waits for an administrator", {
      timeout: 120_000,
    }, async () => {
      const { coordinator } = server;
      const { ipv4 } = await coordinator.createService("svc:late", "test");
      const [one] = hosts;
      const said = await ok(one!.cli("serve", "--service=svc:late", "--http=80", "text:late"));
      expect(said).toMatch(/approval/);
      const told = () => Promise.resolve(coordinator.services().find(({ name }) => name === "svc:late")!.hosts);
      await until("the host", told, (list) => list.length === 1, 30_000);
      expect(await page(ipv4)).toBe("");
      await coordinator.approveHost("svc:late", "one", true, "test");
      await pageIs(ipv4, (text) => text === "late");
      await coordinator.approveHost("svc:late", "one", false, "test");
      await pageIs(ipv4, (text) => text === "");
    });

    test("ID-1 our gateway hosts a service: by a stock command, and by its file; the backend sees who calls", {
      timeout: 120_000,
    }, async () => {
      const { coordinator } = server;
      const { key } = await coordinator.createAuthKey({ tags: ["tag:web"] }, "test");
      const ours = await lab.ours("ours", key);
      // Before the first map the status names no tailnet, which the stock command line takes for granted.
      await until(
        "our gateway to join",
        () => ours.cli("ip", "-4"),
        ({ code }) => code === 0,
        30_000,
      );
      ours.start(process.execPath, ["-e", BACKEND]);
      await ok(hosts[1]!.cli("serve", "drain", "svc:web"));
      await ok(ours.stockCli("serve", "--service=svc:web", "--http=80", "3000"));
      const { ipv4, ipv6 } = coordinator.services().find(({ name }) => name === "svc:web")!;
      await pageIs(ipv4, (text) => text === "alice@example.com");
      await pageIs(`[${ipv6}]`, (text) => text === "alice@example.com");
      await ok(ours.stockCli("serve", "drain", "svc:web"));
      await pageIs(ipv4, (text) => text === "");
      await ok(ours.cli("serve", "--service=svc:web", "--http=80", "3000"));
      await pageIs(ipv4, (text) => text === "alice@example.com");

      const file = `${ours.scratch}/services.hujson`;
      writeFileSync(
        file,
        `{"version": "0.0.1", "services": {"svc:late": {"endpoints": {"tcp:80": "http://127.0.0.1:3000"}}}}`,
      );
      const state = `${ours.scratch}/second`;
      const second = (await coordinator.createAuthKey({ tags: ["tag:web"] }, "test")).key;
      writeFileSync(`${ours.scratch}/second.key`, second);
      const flags = [
        "--login-server",
        lab.url,
        "--hostname",
        "second",
        "--auth-key",
        `file:${ours.scratch}/second.key`,
      ];
      const run = ["src/bin.ts", "run", ...flags, "--state", state, "--socket", `${state}.sock`, "--config", file];
      ours.start(process.execPath, ["--disable-warning=ExperimentalWarning", ...run], { NODE_OPTIONS: "" });
      const told = () => Promise.resolve(coordinator.services().find(({ name }) => name === "svc:late")!);
      await until("the host", told, ({ hosts: list }) => list.some(({ node }) => node === "second"), 40_000);
      await coordinator.approveHost("svc:late", "second", true, "test");
      await pageIs((await told()).ipv4, (text) => text === "alice@example.com");
    });
  },
);
