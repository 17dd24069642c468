import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { createServer as createHttp2Server, type Http2Server } from "node:http2";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocketServer } from "ws";
import { asDuplex } from "../../src/base/duplex.ts";
import { systemRandom } from "../../src/base/random.ts";
import { generatePrivateKey, publicKeyOf } from "../../src/crypto/keys.ts";
import { findPeer, isRoot, peersOrSkip } from "../peers.ts";
import { scratchFolder } from "../suites/scratch.ts";
import { createNamespace, type Namespace } from "./namespace.ts";
import { openUserspacePeer, runInside, startWireguardGo, type UserspacePeer } from "./userspace-peer.ts";

const peers = peersOrSkip("wireguard-go", "wg", "ip", "curl");
const OURS = "10.97.0.1";
const THEIRS = "10.97.0.2";
const OURS_V6 = "fd97::1";
const THEIRS_V6 = "fd97::2";
const MTU = 1280;
const BIG_BYTES = 16 << 20;
const TEXT = "hello from a userspace stack\n";

describe.skipIf(!isRoot || peers.missing !== undefined)(
  `Debian's wireguard-go and the kernel's TCP, one static peer${peers.missing ? ` (${peers.missing})` : ""}`,
  () => {
    let space: Namespace;
    let ours: UserspacePeer;
    const scratch = scratchFolder();
    const big = Buffer.alloc(BIG_BYTES, "sallyport ");
    const digest = createHash("sha256").update(big).digest("hex");
    const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });

    beforeAll(async () => {
      space = createNamespace();
      const theirKey = generatePrivateKey(systemRandom);
      ours = await openUserspacePeer({
        address: space.hostAddress,
        addresses: [OURS, OURS_V6],
        peerKey: publicKeyOf(theirKey),
        peerAddresses: [THEIRS, THEIRS_V6],
        mtu: MTU,
      });
      serve();
      await startWireguardGo(space, `wg${process.pid}`, {
        privateKey: theirKey,
        addresses: [`${THEIRS}/24`, `${THEIRS_V6}/64`],
        mtu: MTU,
        peers: [
          {
            publicKey: ours.publicKey,
            allowedIps: `${OURS}/32,${OURS_V6}/128`,
            endpoint: `${space.hostAddress}:${ours.port}`,
          },
        ],
      });
    });

    /** HTTP/1.1 and WebSocket on port 80, HTTP/2 without TLS on 82. */
    function serve(): void {
      const http = createServer((request, response) => {
        if (request.method === "PUT") {
          const hash = createHash("sha256");
          request.on("data", (chunk) => hash.update(chunk)).on("end", () => response.end(hash.digest("hex")));
        } else response.end(request.url === "/big" ? big : TEXT);
      });
      http.on("upgrade", (request, socket, head) =>
        sockets.handleUpgrade(request, socket, head, (client) =>
          client.on("message", (data, isBinary) => client.send(data, { binary: isBinary })),
        ),
      );
      ours.stack.listenTcp(80, (conn) => http.emit("connection", asDuplex(conn)));
      const http2: Http2Server = createHttp2Server((request, response) => {
        if (request.method !== "PUT") {
          response.end(request.url === "/big" ? big : TEXT);
          return;
        }
        const hash = createHash("sha256");
        request.on("data", (chunk) => hash.update(chunk)).on("end", () => response.end(hash.digest("hex")));
      });
      ours.stack.listenTcp(82, (conn) => http2.emit("connection", asDuplex(conn)));
    }

    afterAll(async () => {
      await ours?.close();
      space?.close();
    });

    const curl = (...args: readonly string[]) => runInside(space, "curl", "-sS", "--max-time", "60", ...args);
    const digestOf = (file: string) => execFileSync("sha256sum", [file], { encoding: "utf8" }).slice(0, 64);

    test("curl fetches a fixed text over IPv4 and IPv6", async () => {
      expect(await curl(`http://${OURS}/`)).toBe(TEXT);
      expect(await curl(`http://[${OURS_V6}]/`)).toBe(TEXT);
    });

    test("a download and an upload of 16 MiB arrive whole", async () => {
      const file = path.join(scratch, "big");
      await curl("-o", file, `http://${OURS}/big`);
      expect(digestOf(file)).toBe(digest);
      expect(await curl("-T", file, `http://${OURS}/up`)).toBe(digest);
    });

    test("200 connections at once", async () => {
      const urls = Array.from({ length: 200 }, () => `http://${OURS}/`);
      const text = await curl("--parallel", "--parallel-immediate", "--parallel-max", "200", ...urls);
      expect(text.match(/hello/g)).toHaveLength(200);
    });

    test("HTTP/2 by curl: 16 MiB down and up", async () => {
      const http2 = ["--http2-prior-knowledge"];
      const text = await curl(...http2, "-w", "%{http_version}\n", `http://${OURS}:82/`);
      expect(text).toBe(`${TEXT}2\n`);
      const file = path.join(scratch, "big2");
      await curl(...http2, "-o", file, `http://${OURS}:82/big`);
      expect(digestOf(file)).toBe(digest);
      expect(await curl(...http2, "-T", file, `http://${OURS}:82/up`)).toBe(digest);
    });

    test.skipIf(findPeer("h2load") === undefined)(
      "HTTP/2 by h2load: 2,000 requests, 20 connections of 10 streams",
      async () => {
        const args = ["-n", "2000", "-c", "20", "-m", "10", "-t", "1", `http://${OURS}:82/`];
        const text = await runInside(space, "h2load", ...args);
        expect(text).toContain("2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed");
      },
    );

    test("WebSocket by Node's own client: 100 messages of 100 kB there and back", async () => {
      const script = path.join(import.meta.dirname, "websocket-client.ts");
      const text = await runInside(space, process.execPath, script, `ws://${OURS}/echo`, "100", "100000");
      expect(JSON.parse(text)).toEqual({ whole: 100, code: 1000 });
    });

    test("a port that is not served is refused", async () => {
      await expect(curl(`http://${OURS}:81/`)).rejects.toThrow("ended with 7");
    });
  },
);
