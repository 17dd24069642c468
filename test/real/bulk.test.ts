import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asDuplex } from "../../src/base/duplex.ts";
import { systemRandom } from "../../src/base/random.ts";
import { generatePrivateKey, publicKeyOf } from "../../src/crypto/keys.ts";
import { isRoot, peersOrSkip } from "../peers.ts";
import { createNamespace, type Namespace } from "./namespace.ts";
import {
  openUserspacePeer,
  patternDigest,
  runInside,
  serveBytes,
  startWireguardGo,
  type UserspacePeer,
} from "./userspace-peer.ts";

const peers = peersOrSkip("wireguard-go", "wg", "ip", "curl", "sh", "sha256sum", "head", "yes");
const OURS = "10.97.2.1";
const THEIRS = "10.97.2.2";
const MTU = 1280;
const SIZE = Number(process.env["SALLYPORT_BULK_BYTES"] ?? 2 ** 30);

describe.skipIf(!isRoot || peers.missing !== undefined)(
  `IP-1 bulk through Debian's wireguard-go and the kernel's TCP, a clean path${peers.missing ? ` (${peers.missing})` : ""}`,
  () => {
    let space: Namespace;
    let ours: UserspacePeer;

    beforeAll(async () => {
      space = createNamespace();
      const theirKey = generatePrivateKey(systemRandom);
      ours = await openUserspacePeer({
        address: space.hostAddress,
        addresses: [OURS],
        peerKey: publicKeyOf(theirKey),
        peerAddresses: [THEIRS],
        mtu: MTU,
      });
      await startWireguardGo(space, `wb${process.pid}`, {
        privateKey: theirKey,
        addresses: [`${THEIRS}/24`],
        mtu: MTU,
        peers: [{ publicKey: ours.publicKey, allowedIps: `${OURS}/32`, endpoint: `${space.hostAddress}:${ours.port}` }],
      });
      const server = createServer(serveBytes);
      ours.stack.listenTcp(80, (conn) => server.emit("connection", asDuplex(conn)));
      await runInside(space, "curl", "-sS", "--max-time", "20", "-o", "/dev/null", `http://${OURS}/1`);
    });

    afterAll(async () => {
      await ours?.close();
      space?.close();
    });

    const timed = async (name: string, run: () => Promise<string>): Promise<string> => {
      const start = performance.now();
      const text = await run();
      const seconds = (performance.now() - start) / 1000;
      console.log(`${name} of ${SIZE >> 20} MiB: ${seconds.toFixed(1)} s, ${(SIZE / 1e6 / seconds).toFixed(0)} MB/s`);
      return text;
    };

    test("a download arrives whole", { timeout: 240_000 }, async () => {
      const text = await timed("download", () =>
        runInside(space, "sh", "-c", `curl -sS --max-time 200 http://${OURS}/${SIZE} | sha256sum`),
      );
      expect(text.slice(0, 64)).toBe(patternDigest(SIZE));
    });

    test("an upload arrives whole", { timeout: 240_000 }, async () => {
      const text = await timed("upload", () =>
        runInside(
          space,
          "sh",
          "-c",
          `yes sallyport | head -c ${SIZE} | curl -sS --max-time 200 -T - http://${OURS}/up`,
        ),
      );
      const hash = createHash("sha256");
      const block = Buffer.from("sallyport\n".repeat(65_536));
      for (let left = SIZE; left > 0; left -= block.length)
        hash.update(block.subarray(0, Math.min(left, block.length)));
      expect(text).toBe(hash.digest("hex"));
    });
  },
);
