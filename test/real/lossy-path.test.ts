import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asDuplex } from "../../src/base/duplex.ts";
import { systemRandom } from "../../src/base/random.ts";
import { generatePrivateKey, publicKeyOf } from "../../src/crypto/keys.ts";
import { isRoot, peersOrSkip } from "../peers.ts";
import { scratchFolder } from "../suites/scratch.ts";
import { createNamespace, type Namespace } from "./namespace.ts";
import type { RelayOptions } from "./udp-relay.ts";
import {
  median,
  openUserspacePeer,
  patternDigest,
  patternOf,
  runInside,
  serveBytes,
  startRelay,
  startWireguardGo,
  type UserspacePeer,
} from "./userspace-peer.ts";

const peers = peersOrSkip("wireguard-go", "wg", "ip", "curl");
const CLIENT = "10.97.1.1";
const OURS = "10.97.1.2";
const KERNEL = "10.97.1.3";
const MTU = 1280;
const LINE = { delayMs: 40, loss: 0.01, reorder: 0.01, duplicate: 0.01, reorderMs: 12 } as const;
const MOST_RATIO = 1.5;
/** Transfers of each kind, in turn: more of them while the medians of few do not hold yet. */
const FEWEST_SAMPLES = 3;
const MOST_SAMPLES = 7;
describe.skipIf(!isRoot || peers.missing !== undefined)(
  `IP-1 80 ms round trip, 1 % loss, reordering and duplication, against the kernel's TCP${peers.missing ? ` (${peers.missing})` : ""}`,
  () => {
    const scratch = scratchFolder();
    const spaces: Namespace[] = [];
    const relays: Awaited<ReturnType<typeof startRelay>>[] = [];
    let ours: UserspacePeer;
    let client: Namespace;
    let size = 8 << 20;

    beforeAll(async () => {
      client = createNamespace();
      const other = createNamespace();
      spaces.push(client, other);
      // A kernel whose TCP takes each loss for congestion needs 45 s for 8 MiB here: it is compared on less.
      if (!client.run("sysctl", "-n", "net.ipv4.tcp_congestion_control").startsWith("bbr")) size = 1 << 20;
      writeFileSync(path.join(scratch, "pattern"), Buffer.concat([...patternOf(size)]));
      const clientKey = generatePrivateKey(systemRandom);
      const kernelKey = generatePrivateKey(systemRandom);
      ours = await openUserspacePeer({
        address: client.hostAddress,
        addresses: [OURS],
        peerKey: publicKeyOf(clientKey),
        peerAddresses: [CLIENT],
        mtu: MTU,
      });
      const relay = async (address: string, port: number, seed: number) => {
        const options: RelayOptions = { address: "0.0.0.0", target: { address, port }, seed, ...LINE };
        const started = await startRelay(options);
        relays.push(started);
        return `${client.hostAddress}:${started.near}`;
      };
      const server = createServer(serveBytes);
      ours.stack.listenTcp(80, (conn) => server.emit("connection", asDuplex(conn)));
      await startWireguardGo(other, `wk${process.pid}`, {
        privateKey: kernelKey,
        addresses: [`${KERNEL}/24`],
        mtu: MTU,
        listenPort: 51_820,
        peers: [{ publicKey: publicKeyOf(clientKey), allowedIps: `${CLIENT}/32` }],
      });
      await startWireguardGo(client, `wc${process.pid}`, {
        privateKey: clientKey,
        addresses: [`${CLIENT}/24`],
        mtu: MTU,
        peers: [
          {
            publicKey: ours.publicKey,
            allowedIps: `${OURS}/32`,
            endpoint: await relay(client.hostAddress, ours.port, 11),
          },
          {
            publicKey: publicKeyOf(kernelKey),
            allowedIps: `${KERNEL}/32`,
            endpoint: await relay(other.address, 51_820, 23),
          },
        ],
      });
      const kernel = other.start(process.execPath, [path.join(import.meta.dirname, "kernel-server.ts"), "80"]);
      await new Promise((resolve) => kernel.stdout!.once("data", resolve));
    });

    afterAll(async () => {
      for (const relay of relays) await relay.stop();
      await ours?.close();
      for (const space of spaces) space.close();
    });

    const curl = (...args: readonly string[]) => runInside(client, "curl", "-sS", "--max-time", "200", ...args);

    /** Seconds. */
    async function download(host: string, name: string): Promise<number> {
      const file = path.join(scratch, name);
      const seconds = Number(await curl("-o", file, "-w", "%{time_total}", `http://${host}/${size}`));
      expect(execFileSync("sha256sum", [file], { encoding: "utf8" }).slice(0, 64)).toBe(patternDigest(size));
      return seconds;
    }

    async function upload(host: string): Promise<number> {
      const text = await curl("-T", path.join(scratch, "pattern"), "-w", "\n%{time_total}", `http://${host}/up`);
      const [digest, seconds] = text.split("\n");
      expect(digest).toBe(patternDigest(size));
      return Number(seconds);
    }

    test.each([
      ["download", download],
      ["upload", upload],
    ])("%s: every byte, within 1.5 times the kernel's time", { timeout: 240_000 }, async (name, transfer) => {
      await Promise.all([OURS, KERNEL].map((host) => curl("-o", "/dev/null", `http://${host}/1`)));
      const times: [number[], number[]] = [[], []];
      let ratio = Infinity;
      for (let count = 1; count <= MOST_SAMPLES && (count <= FEWEST_SAMPLES || ratio > MOST_RATIO); count++) {
        for (const [side, host] of [OURS, KERNEL].entries()) times[side]!.push(await transfer(host, String(side)));
        ratio = median(times[0]) / median(times[1]);
      }
      console.log(`${name} of ${size >> 20} MiB: ratio ${ratio.toFixed(2)} of`, JSON.stringify(times));
      expect(ratio).toBeLessThanOrEqual(MOST_RATIO);
    });
  },
);
