/**
 * A WireGuard peer over one UDP socket that sends back echo requests and UDP datagrams. Run by wireguard-go.test.ts inside its network namespace:
 * node wireguard-echo-peer.ts <private key, hex> <peer's public key, hex> <peer's port> <preshared key, hex> <aead>
 * Writes one JSON line to standard output when it listens, and one for each line it reads.
 */
import { createSocket } from "node:dgram";
import { createInterface } from "node:readline";
import { parsePrefix } from "../../src/base/address.ts";
import { fromHex } from "../../src/base/bytes.ts";
import { createBatch, PACKET } from "../../src/base/packet.ts";
import { systemRandom } from "../../src/base/random.ts";
import { type AeadName, chooseAead } from "../../src/crypto/aead/choose.ts";
import { WireGuard } from "../../src/mesh/wireguard/device.ts";

const [privateKey = "", peerKey = "", peerPort = "", presharedKey = "", aead = ""] = process.argv.slice(2);
const socket = createSocket("udp4");
const now = () => performance.now();
let answered = 0;

const device = new WireGuard({
  privateKey: fromHex(privateKey)!,
  random: systemRandom,
  wall: Date.now,
  aead: chooseAead(aead as AeadName),
  send: (_peer, _path, datagram) => socket.send(Buffer.from(datagram), Number(peerPort), "127.0.0.1"),
});
const peer = device.addPeer(
  { publicKey: fromHex(peerKey)!, presharedKey: fromHex(presharedKey)!, allowedIps: [parsePrefix("10.77.0.1/32")!] },
  now(),
);
let timer: NodeJS.Timeout | undefined;

function arm(): void {
  clearTimeout(timer);
  if (device.deadline === Infinity) return;
  timer = setTimeout(
    () => {
      device.poll(now());
      arm();
    },
    Math.max(1, device.deadline - now()),
  );
}

/** An echo request or a UDP datagram turned round; exchanging addresses and ports leaves their checksums right. */
function echoReply(request: Uint8Array): Uint8Array | undefined {
  if (request[0] !== 0x45) return undefined;
  const reply = request.slice();
  reply.set(request.subarray(12, 16), 16);
  reply.set(request.subarray(16, 20), 12);
  if (request[9] === 17) {
    reply.set(request.subarray(20, 22), 22);
    reply.set(request.subarray(22, 24), 20);
    return reply;
  }
  if (request[9] !== 1 || request[20] !== 8) return undefined;
  const view = new DataView(reply.buffer);
  const sum = view.getUint16(22) + 0x0800; // RFC 792: type 8 becomes 0, so the checksum gains what that took away
  view.setUint16(22, (sum & 0xffff) + (sum >> 16));
  reply[20] = 0;
  return reply;
}

socket.on("message", (datagram) => {
  const batch = createBatch(1, 65_536);
  batch.slab.set(datagram);
  batch.at.set([0, datagram.length, 0, -1]);
  batch.count = 1;
  device.open(batch, now());
  if (batch.count === 1) {
    const start = batch.at[PACKET.offset]!;
    const reply = echoReply(batch.slab.subarray(start, start + batch.at[PACKET.length]!));
    if (reply !== undefined) {
      answered++;
      device.send(peer, reply, now());
    }
  }
  arm();
});

/** `initiate` begins a handshake; any line is answered with what is known. */
createInterface({ input: process.stdin }).on("line", (line) => {
  if (line === "initiate") device.initiate(peer, now());
  arm();
  console.log(JSON.stringify({ answered, drops: device.drops, ...device.statistics(peer, now()) }));
});

socket.bind(0, "127.0.0.1", () => console.log(JSON.stringify({ port: socket.address().port })));
