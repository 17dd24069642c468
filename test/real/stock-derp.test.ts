import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { toHex } from "../../src/base/bytes.ts";
import { systemClock } from "../../src/base/clock.ts";
import { type Log, silentLog } from "../../src/base/log.ts";
import { systemRandom } from "../../src/base/random.ts";
import { memoryStore } from "../../src/base/store.ts";
import { MemoryCoordinationStore } from "../../src/coordination/store/memory-store.ts";
import { generatePrivateKey, publicKeyOf } from "../../src/crypto/keys.ts";
import { DerpClients } from "../../src/mesh/derp/derp-clients.ts";
import { Server } from "../../src/server/server.ts";
import { decodeStunAnswer, encodeStunRequest } from "../../src/wire/stun.ts";
import type { DerpMap } from "../../src/wire/tailcfg.ts";
import { findPeer, isRoot, peersOrSkip } from "../peers.ts";
import { createNamespace, eventually, type Namespace } from "./namespace.ts";
import { commandAt } from "./processes.ts";

const peers = peersOrSkip("derper", "tailscaled", "tailscale", "ip");
const PACKETS = 1000;

describe.skipIf(!isRoot || peers.missing !== undefined)(
  `DERP and STUN with stock peers${peers.missing ? ` (${peers.missing})` : ""}`,
  () => {
    let scratch: string;
    let space: Namespace;

    beforeAll(() => {
      scratch = mkdtempSync(path.join(tmpdir(), "sp-"));
      space = createNamespace();
    });
    afterAll(() => {
      space?.close();
      rmSync(scratch, { recursive: true, force: true });
    });

    describe("our client and the stock `derper`", () => {
      let log = "";
      const start = (): (() => void) => {
        const { address } = space;
        const where = ["-hostname", address, "-certmode", "manual", "-certdir", scratch, "-a", `${address}:443`];
        const child = space.start(findPeer("derper")!, [...where, "-http-port", "-1", "-c", `${scratch}/derper.json`]);
        for (const stream of [child.stdout!, child.stderr!]) {
          stream.on("data", (chunk) => {
            log += String(chunk);
          });
        }
        return () => void child.kill("SIGKILL");
      };

      test("packets go both ways with their source, STUN is answered, and after a restart all is back", async () => {
        const stop = start();
        const pin = await eventually("the relay's certificate", () => /sha256-raw:[0-9a-f]{64}/.exec(log)?.[0]);
        const node = { Name: "900a", RegionID: 900, HostName: space.address, IPv4: space.address, CertName: pin };
        const map: DerpMap = {
          Regions: { 900: { RegionID: 900, RegionCode: "lab", RegionName: "Lab", Nodes: [node] } },
        };
        const [a, b] = [client(map), client(map)];
        onTestFinished(() => {
          a.pool.close();
          b.pool.close();
        });
        const isReady = () => a.pool.connected.length === 1 && b.pool.connected.length === 1;
        await eventually("both clients", () => isReady() || undefined);
        const exchange = async (count: number): Promise<void> => {
          for (let i = 0; i < count; i++) {
            const payload = new Uint8Array(1200).fill(i & 255);
            a.pool.send(900, b.key, payload);
            b.pool.send(900, a.key, payload);
            // The relay drops what a client does not take fast enough: 32 packets.
            if (i % 16 === 15) await eventually("packets", () => (b.got.length >= i && a.got.length >= i) || undefined);
          }
          await eventually("the rest", () => (b.got.length === count && a.got.length === count) || undefined);
        };
        await exchange(PACKETS);
        expect(b.got[PACKETS - 1]).toEqual({ from: toHex(a.key), bytes: 1200, first: (PACKETS - 1) & 255 });
        expect(a.got[PACKETS - 1]).toEqual({ from: toHex(b.key), bytes: 1200, first: (PACKETS - 1) & 255 });
        expect(await askStun(space.address)).toBe(space.hostAddress);

        a.pool.send(900, publicKeyOf(generatePrivateKey(systemRandom)), DISCO);
        await eventually("word of the absent", () => (a.gone.length === 1 ? true : undefined));

        stop();
        await eventually("the loss of both", () =>
          a.pool.connected.length + b.pool.connected.length === 0 ? true : undefined,
        );
        onTestFinished(start());
        await eventually("both again", () => isReady() || undefined, 20_000);
        a.got.length = b.got.length = 0;
        await exchange(32);
      });
    });

    describe("our relay and the stock client", () => {
      let server: Server;
      let daemonLog = "";
      const upgrades: unknown[] = [];
      const log: Log = {
        ...silentLog,
        debug(event, fields) {
          if (event === "derp.upgraded") upgrades.push(fields);
        },
        with: () => log,
      };
      const cli = (...args: readonly string[]) =>
        commandAt(space, findPeer("tailscale")!, `--socket=${scratch}/tailscaled.sock`, ...args);

      beforeAll(async () => {
        server = await Server.open({
          store: new MemoryCoordinationStore(),
          state: memoryStore(),
          address: space.hostAddress,
          baseDomain: "stock.test",
          log,
        });
        await server.coordinator.createUser({ login: "alice@example.com" }, "test");
        const { key } = await server.coordinator.createAuthKey({ user: "alice@example.com" }, "test");
        const where = ["--socket", `${scratch}/tailscaled.sock`, "--statedir", `${scratch}/stock`, "--port", "0"];
        const daemon = space.start(findPeer("tailscaled")!, ["--tun=userspace-networking", ...where], {
          TS_NO_LOGS_NO_SUPPORT: "true",
        });
        for (const stream of [daemon.stdout!, daemon.stderr!]) {
          stream.on("data", (chunk) => {
            daemonLog = (daemonLog + String(chunk)).slice(-40_000);
          });
        }
        const up = await cli(
          "up",
          "--login-server",
          server.url,
          "--auth-key",
          key,
          "--hostname",
          "stock",
          "--timeout",
          "20s",
        );
        expect(up.code, up.stderr + daemonLog).toBe(0);
      }, 40_000);
      afterAll(() => server?.close());

      test("`tailscale netcheck` finds UDP and our region, by STUN", async () => {
        const { stdout, stderr } = await cli("netcheck", "--format", "json");
        const report = JSON.parse(stdout) as Record<string, unknown>;
        expect(report, stderr).toMatchObject({ UDP: true, PreferredDERP: 900 });
        expect(String(report["GlobalV4"])).toMatch(new RegExp(`^${space.address.replaceAll(".", "\\.")}:\\d+$`));
      });

      test("`tailscale debug derp` connects to it and finds no error", async () => {
        const { stdout, stderr } = await cli("debug", "derp", "own");
        const report = JSON.parse(stdout) as { Info: string[]; Warnings: string[] | null; Errors: string[] | null };
        // It tries IPv6 whatever the map says of it; our server listens on IPv4 here.
        const errors = (report.Errors ?? []).filter((text) => !/over IPv6/.test(text));
        // The command, not the daemon, of clients up to 1.90 has not heard of pinned certificates.
        if (errors.some((text) => /wanted to match sha256-raw:/.test(text))) return;
        expect(errors, stderr).toEqual([]);
        expect(report.Info.join("\n")).toMatch(/established a DERP connection.*\n.*IPv4 STUN response/);
        // One region is all that a bare machine has; port 80 is for captive portals only and not promised by our map.
        expect((report.Warnings ?? []).filter((text) => !/single DERP region|port 80/.test(text))).toEqual([]);
      });

      test("its daemon trusts the pinned certificate and upgrades over HTTP", () => {
        expect(upgrades.at(0), daemonLog).toEqual({ address: space.address, isFastStart: false });
      });
    });
  },
);

const DISCO = Uint8Array.of(0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac, ...new Uint8Array(80));

function client(map: DerpMap) {
  const nodePrivateKey = generatePrivateKey(systemRandom);
  const got: { from: string; bytes: number; first: number }[] = [];
  const gone: string[] = [];
  const pool = new DerpClients({
    nodePrivateKey,
    random: systemRandom,
    clock: systemClock,
    log: silentLog,
    map: () => map,
    onPacket: (_region, source, payload) =>
      void got.push({ from: toHex(source), bytes: payload.length, first: payload[0]! }),
    onPeerGone: (_region, key) => void gone.push(toHex(key)),
  });
  pool.setHome(900);
  return { key: publicKeyOf(nodePrivateKey), pool, got, gone };
}

/** The address that a STUN server sees us at. */
async function askStun(address: string): Promise<string | undefined> {
  const socket = createSocket("udp4");
  socket.send(encodeStunRequest(systemRandom(12)), 3478, address);
  const [answer] = (await once(socket, "message", { signal: AbortSignal.timeout(5000) })) as [Uint8Array];
  socket.close();
  return decodeStunAnswer(new Uint8Array(answer))?.mapped.address;
}
