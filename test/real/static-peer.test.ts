import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parsePrefix } from "../../src/base/address.ts";
import { systemClock } from "../../src/base/clock.ts";
import { drive } from "../../src/base/drive.ts";
import { asDuplex } from "../../src/base/duplex.ts";
import { PathTable } from "../../src/base/path-table.ts";
import { systemRandom } from "../../src/base/random.ts";
import { chooseAead } from "../../src/crypto/aead/choose.ts";
import { generatePrivateKey, publicKeyOf } from "../../src/crypto/keys.ts";
import { Netstack } from "../../src/mesh/tcpip/netstack.ts";
import { openUdpIo } from "../../src/mesh/udp/udp-io.ts";
import { WireGuard } from "../../src/mesh/wireguard/device.ts";
import { isRoot, peersOrSkip } from "../peers.ts";
import { createNamespace, eventually, type Namespace } from "./namespace.ts";

const peers = peersOrSkip("wireguard-go", "wg", "ip", "curl");
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64");
const OURS = "10.97.0.1";
const THEIRS = "10.97.0.2";
const OURS_V6 = "fd97::1";
const THEIRS_V6 = "fd97::2";
const MTU = 1280;
const BIG_BYTES = 16 << 20;

describe.skipIf(!isRoot || peers.missing !== undefined)(
  `Debian's wireguard-go and the kernel's TCP, one static peer${peers.missing ? ` (${peers.missing})` : ""}`,
  () => {
    let space: Namespace;
    let close: () => Promise<void>;
    const scratch = mkdtempSync(path.join(tmpdir(), "sallyport-"));
    const big = Buffer.alloc(BIG_BYTES, "sallyport ");
    const digest = createHash("sha256").update(big).digest("hex");
    const link = `wg${process.pid}`;

    beforeAll(async () => {
      space = createNamespace();
      const privateKey = generatePrivateKey(systemRandom);
      const theirKey = generatePrivateKey(systemRandom);
      const table = new PathTable();
      const { io: udp } = await openUdpIo({ table, clock: systemClock, address: space.hostAddress });
      let peerPath = -1;
      const wireguard = new WireGuard({
        privateKey,
        random: systemRandom,
        wall: () => Date.now(),
        aead: await chooseAead(),
        mtu: MTU,
        onAuthenticated: (_, way) => {
          peerPath = way;
        },
        send: (_, way, datagram) => {
          const train = udp.claim(way ?? peerPath, datagram.length);
          if (train === undefined) return;
          train.slab.set(datagram, train.offset);
          train.push(datagram.length);
          udp.flush();
        },
      });
      const own = [OURS, OURS_V6].map((text) => parsePrefix(text)!);
      const allowedIps = [THEIRS, THEIRS_V6].map((text) => parsePrefix(text)!);
      const peer = wireguard.addPeer({ publicKey: publicKeyOf(theirKey), allowedIps }, systemClock.now());
      const stack = new Netstack({
        addresses: own.map(({ address }) => address),
        mtu: MTU,
        random: systemRandom,
        now: () => systemClock.now(),
        output: (packet, _, now) => wireguard.send(peer, packet, now),
        proofOf: (_, source, destination) => ({ kind: "mesh", nodeKey: "", source, destination }),
        wake: () => wake(),
      });
      const wakers = [wireguard, stack].map((machine) =>
        drive<never>(
          {
            get deadline() {
              return machine.deadline;
            },
            poll: (now) => void machine.poll(now) as undefined,
          },
          systemClock,
          () => {},
        ),
      );
      let isQueued = false;
      const wake = () => {
        if (isQueued) return;
        isQueued = true;
        queueMicrotask(() => {
          isQueued = false;
          for (const waker of wakers) waker();
        });
      };
      udp.start((batch, now) => {
        wireguard.open(batch, now);
        stack.input(batch, now);
        wake();
      });
      const http = createServer((request, response) => {
        if (request.method === "PUT") {
          const hash = createHash("sha256");
          request.on("data", (chunk) => hash.update(chunk)).on("end", () => response.end(hash.digest("hex")));
        } else response.end(request.url === "/big" ? big : "hello from a userspace stack\n");
      });
      stack.listenTcp(80, (conn) => http.emit("connection", asDuplex(conn)));

      space.start("wireguard-go", ["-f", link], { WG_PROCESS_FOREGROUND: "1" });
      await eventually("the UAPI socket", () => existsSync(`/var/run/wireguard/${link}.sock`) || undefined);
      const keyFile = path.join(scratch, "key");
      writeFileSync(keyFile, base64(theirKey), { mode: 0o600 });
      space.run(
        "wg",
        "set",
        link,
        "private-key",
        keyFile,
        "peer",
        base64(publicKeyOf(privateKey)),
        "allowed-ips",
        `${OURS}/32,${OURS_V6}/128`,
        "endpoint",
        `${space.hostAddress}:${udp.port}`,
      );
      space.run("ip", "addr", "add", `${THEIRS}/24`, "dev", link);
      space.run("ip", "-6", "addr", "add", `${THEIRS_V6}/64`, "dev", link, "nodad");
      space.run("ip", "link", "set", link, "mtu", String(MTU), "up");
      close = async () => {
        stack.close();
        await udp.close();
      };
    });

    afterAll(async () => {
      await close?.();
      space?.close();
      rmSync(scratch, { recursive: true, force: true });
    });

    /** The commands run beside this process's event loop, which must answer them. */
    const inside = async (command: string, ...args: string[]): Promise<string> => {
      const child = space.start(command, args);
      let text = "";
      child.stdout!.on("data", (chunk) => {
        text += String(chunk);
      });
      const code = await new Promise((resolve) => child.on("close", resolve));
      if (code !== 0) throw new Error(`${command} ended with ${String(code)}`);
      return text;
    };

    test("curl fetches a fixed text over IPv4 and IPv6", async () => {
      expect(await inside("curl", "-sS", "--max-time", "20", `http://${OURS}/`)).toBe("hello from a userspace stack\n");
      expect(await inside("curl", "-sS", "--max-time", "20", `http://[${OURS_V6}]/`)).toBe(
        "hello from a userspace stack\n",
      );
    });

    test("a download and an upload of 16 MiB arrive whole", async () => {
      const file = path.join(scratch, "big");
      await inside("curl", "-sS", "--max-time", "60", "-o", file, `http://${OURS}/big`);
      expect(execFileSync("sha256sum", [file], { encoding: "utf8" }).slice(0, 64)).toBe(digest);
      expect(await inside("curl", "-sS", "--max-time", "60", "-T", file, `http://${OURS}/up`)).toBe(digest);
    });

    test("200 connections at once", async () => {
      const urls = Array.from({ length: 200 }, () => `http://${OURS}/`);
      const text = await inside(
        "curl",
        "-sS",
        "--max-time",
        "60",
        "--parallel",
        "--parallel-immediate",
        "--parallel-max",
        "200",
        ...urls,
      );
      expect(text.match(/hello/g)).toHaveLength(200);
    });

    test("a port that is not served is refused", async () => {
      await expect(inside("curl", "-sS", "--max-time", "5", `http://${OURS}:81/`)).rejects.toThrow("ended with 7");
    });
  },
);
