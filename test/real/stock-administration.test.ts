import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Server } from "../../src/server/server.ts";
import { isRoot, peersOrSkip } from "../peers.ts";
import { ServerMesh } from "./server-mesh.ts";
import { type StockNode, until } from "./stock-mesh.ts";

const peers = peersOrSkip("tailscaled", "tailscale", "ip", "curl");

const POLICY = {
  postures: { "posture:prod": ["custom:tier == 'prod'"] },
  attrConfig: { "custom:tier": { type: "string", allowSetByNode: true } },
  grants: [
    { src: ["bob@example.com"], dst: ["alice@example.com"], ip: ["*"], srcPosture: ["posture:prod"] },
    {
      src: ["autogroup:admin"],
      dst: ["bob@example.com"],
      ip: ["*"],
      app: { "example.com/cap/console": [{ role: "admin" }] },
    },
  ],
};

describe.skipIf(!isRoot || peers.missing !== undefined)(
  `what an administrator does, on stock clients${peers.missing ? ` (${peers.missing})` : ""}`,
  () => {
    const lab = new ServerMesh();
    let server: Server;
    let alice: StockNode;
    let bob: StockNode;
    const out = async (node: StockNode, ...words: readonly string[]) => (await node.cli(...words)).stdout;
    const seenBy = async (node: StockNode): Promise<readonly string[]> => {
      const { Peer } = JSON.parse(await out(node, "status", "--json")) as {
        Peer?: Record<string, { HostName: string }>;
      };
      return Object.values(Peer ?? {}).map(({ HostName }) => HostName);
    };
    const sees = (node: StockNode, name: string, isSeen: boolean) =>
      until(
        `${node.name} ${isSeen ? "to see" : "not to see"} ${name}`,
        () => seenBy(node),
        (names) => names.includes(name) === isSeen,
        30_000,
      );
    const setAttributes = (node: StockNode, attributes: object) =>
      node.run(
        "curl",
        "-sS",
        "--unix-socket",
        `${lab.scratch}/${node.name}/s.sock`,
        "-X",
        "PATCH",
        "-d",
        JSON.stringify(attributes),
        "http://local-tailscaled.sock/localapi/v0/alpha-set-device-attrs",
      );

    beforeAll(async () => {
      server = await lab.openServer({ policy: JSON.stringify(POLICY) });
      alice = await lab.stock("alice", "userspace", {});
      bob = await lab.stock("bob", "userspace", {});
      await lab.up(alice, await lab.keyFor("alice@example.com"));
    }, 90_000);

    afterAll(() => lab.close());

    test("a device that needs an approval says so, and is in once it has it", { timeout: 120_000 }, async () => {
      const { coordinator } = server;
      await coordinator.setDeviceApproval(true, "test");
      const key = await lab.keyFor("bob@example.com");
      const flags = ["--login-server", lab.url, "--auth-key", key, "--accept-dns=false", "--hostname", "bob"];
      const joining = bob.cli("up", "--timeout=60s", ...flags);
      await until(
        "the client's word",
        () => out(bob, "status"),
        (text) => text.includes("not yet approved"),
        40_000,
      );
      expect(await seenBy(bob)).toEqual([]);
      await coordinator.approveNode("bob", "test");
      expect((await joining).code).toBe(0);
      await until(
        "it to run",
        () => out(bob, "status"),
        (text) => !text.includes("not yet approved"),
        30_000,
      );
    });

    test("CS-10 a node says an attribute of itself, and a posture lets it in and out", {
      timeout: 120_000,
    }, async () => {
      await sees(bob, "alice", false);
      expect((await setAttributes(bob, { "custom:other": "x" })).stdout).toContain("may not set custom:other");
      expect((await setAttributes(bob, { "custom:tier": "prod" })).stdout).not.toContain("may not");
      await sees(bob, "alice", true);
      await server.coordinator.setAttributes("bob", { "custom:tier": null }, "test");
      await sees(bob, "alice", false);
    });

    test("CS-10 a role gives what the policy gives it, and takes it along", { timeout: 120_000 }, async () => {
      const { coordinator } = server;
      const address = (await out(alice, "ip", "-4")).trim();
      await coordinator.setUser("alice@example.com", { role: "admin" }, "test");
      await sees(alice, "bob", true);
      const whois = await until(
        "the peer",
        () => bob.cli("whois", "--json", address),
        ({ code }) => code === 0,
        30_000,
      );
      expect(JSON.parse(whois.stdout)).toMatchObject({ CapMap: { "example.com/cap/console": [{ role: "admin" }] } });
      await coordinator.setUser("alice@example.com", { role: "member" }, "test");
      await sees(alice, "bob", false);
    });

    test("lock status: the network has none", async () => {
      expect(await out(alice, "lock", "status")).toMatch(/lock is NOT enabled/i);
    });
  },
);
