import { type ChildProcess, spawn } from "node:child_process";
import path from "node:path";
import { createInterface, type Interface } from "node:readline";
import { afterEach, expect, test } from "vitest";
import { toHex } from "../../src/base/bytes.ts";
import { systemRandom } from "../../src/base/random.ts";
import { availableAeads } from "../../src/crypto/aead/choose.ts";
import { generatePrivateKey, publicKeyOf } from "../../src/crypto/keys.ts";
import { isRoot, peersOrSkip } from "../peers.ts";
import { createSpace, eventually } from "./namespace.ts";
import { startWireguardGo } from "./userspace-peer.ts";

const { missing } = peersOrSkip("wireguard-go", "wg", "ip", "python3");
const skip = missing ?? (isRoot ? undefined : "network namespaces need root");
const PORT = 51_820;

const undo: (() => void)[] = [];
afterEach(() => {
  for (const step of undo.splice(0).reverse()) step();
});

/** Run inside: 20 ICMP and 20 UDP packets with `bytes` of payload each; prints how many came back whole. */
const ECHO = `
import os, socket, struct, sys, time
size, back = int(sys.argv[1]), [0, 0]
icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for s in (icmp, udp): s.settimeout(3); s.setsockopt(socket.IPPROTO_IP, 10, 2)
udp.connect(("10.77.0.2", 7))
def checksum(data):
    data += b"\\0" * (len(data) % 2)
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
for i in range(20):
    body = os.urandom(size)
    head = struct.pack("!BBHHH", 8, 0, 0, 77, i)
    head = struct.pack("!BBHHH", 8, 0, checksum(head + body), 77, i)
    icmp.sendto(head + body, ("10.77.0.2", 0))
    got = icmp.recv(2000)[20:]
    back[0] += got[0] == 0 and got[4:] == head[4:] + body and checksum(got) == 0
    udp.send(body)
    back[1] += udp.recv(2000) == body
print(back[0], back[1])
`;

/** One namespace with wireguard-go as 10.77.0.1 and our peer as 10.77.0.2, both on its loopback interface. */
async function network(aead: string, psk?: Uint8Array) {
  const space = createSpace();
  undo.push(() => space.close());
  const theirs = generatePrivateKey(systemRandom);
  const ours = generatePrivateKey(systemRandom);
  const script = path.join(import.meta.dirname, "wireguard-echo-peer.ts");
  const args = [toHex(ours), toHex(publicKeyOf(theirs)), String(PORT), toHex(psk ?? new Uint8Array(32)), aead];
  const peer = spawn("ip", ["netns", "exec", space.name, process.execPath, script, ...args], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  undo.push(() => void peer.kill());
  const lines = createInterface({ input: peer.stdout! });
  const { port } = (await line(lines)) as { port: number };
  await startWireguardGo(space, `we${space.name.slice(2)}`, {
    privateKey: theirs,
    addresses: ["10.77.0.1/24"],
    mtu: 1280,
    listenPort: PORT,
    peers: [{ publicKey: publicKeyOf(ours), allowedIps: "10.77.0.2/32", endpoint: `127.0.0.1:${port}`, psk }],
  });
  return { inside: space.run, ask: (command: string) => ask(peer, lines, command) };
}

function line(lines: Interface): Promise<unknown> {
  return new Promise((resolve) => lines.once("line", (text) => resolve(JSON.parse(text))));
}

function ask(peer: ChildProcess, lines: Interface, command: string): Promise<Record<string, unknown>> {
  const answer = line(lines) as Promise<Record<string, unknown>>;
  peer.stdin!.write(`${command}\n`);
  return answer;
}

const quiet = {
  malformed: 0,
  unknownIndex: 0,
  expired: 0,
  forged: 0,
  replayed: 0,
  wrongSource: 0,
  badHandshake: 0,
  underLoad: 0,
};

test.skipIf(skip !== undefined).for(availableAeads().map(({ name }) => name))(
  `wireguard-go begins: its packets come back through ${skip === undefined ? "%s" : `(skipped: ${skip})`}`,
  { timeout: 60_000 },
  async (aead) => {
    const { inside, ask } = await network(aead, systemRandom(32));
    expect(inside("python3", "-c", ECHO, "56")).toBe("20 20\n");
    expect(inside("python3", "-c", ECHO, "1252")).toBe("20 20\n"); // just the MTU
    expect(await ask("state")).toMatchObject({ answered: 80, hasSession: true, drops: quiet });
    expect(inside("wg", "show", "all", "latest-handshakes")).not.toMatch(/\t0\n/);
  },
);

test.skipIf(skip !== undefined)(
  `we begin: our handshake is answered, then its packets come back${skip === undefined ? "" : ` (skipped: ${skip})`}`,
  { timeout: 60_000 },
  async () => {
    const { inside, ask } = await network("node-crypto");
    await ask("initiate");
    await eventually("a handshake", () => !/\t0\n/.test(inside("wg", "show", "all", "latest-handshakes")) || undefined);
    expect(await ask("state")).toMatchObject({ hasSession: true, drops: quiet });
    expect(inside("python3", "-c", ECHO, "1")).toBe("20 20\n");
    expect(await ask("state")).toMatchObject({ answered: 40, drops: quiet });
  },
);
