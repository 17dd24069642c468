import { parsePrefix } from "../../base/address.ts";
import { createBatch, PACKET, STRIDE } from "../../base/packet.ts";
import { seededRandom } from "../../base/random.ts";
import { chooseAead } from "../../crypto/aead/choose.ts";
import { generatePrivateKey, publicKeyOf } from "../../crypto/keys.ts";
import { WireGuard, type WireGuardOptions, type WireGuardPeer } from "./device.ts";

/** Wall ms at monotonic 0. */
export const START: number = Date.UTC(2026, 0, 1);
const aead = chooseAead();

/** A device and what became of its packets. */
export interface End {
  readonly device: WireGuard;
  readonly address: number;
  /** Inner packets that arrived, as text of their payload. */
  readonly delivered: string[];
  /** Datagrams on their way out. */
  readonly out: Uint8Array[];
  readonly stamps: number[];
  readonly authenticated: number[];
  readonly publicKey: Uint8Array;
}

/** An IPv4 packet from 10.0.0.`from` to 10.0.0.`to`. */
export function ipv4(from: number, to: number, payload: string): Uint8Array {
  const body = Buffer.from(payload);
  const packet = new Uint8Array(20 + body.length);
  packet.set([
    0x45,
    0,
    packet.length >> 8,
    packet.length & 0xff,
    0,
    0,
    0,
    0,
    64,
    17,
    0,
    0,
    10,
    0,
    0,
    from,
    10,
    0,
    0,
    to,
  ]);
  packet.set(body, 20);
  return packet;
}

/** Two devices and the link between them, under a time that tests move. */
export class Pair {
  now: number = 0;
  readonly a: End;
  readonly b: End;
  /** Sees each datagram; false loses it. */
  passes: (from: End, datagram: Uint8Array) => boolean = () => true;
  readonly sent: { readonly at: number; readonly from: End; readonly type: number; readonly length: number }[] = [];

  constructor(peerOptions: Partial<WireGuardPeer> = {}, options: Partial<WireGuardOptions> = {}) {
    this.a = this.#node(1, options);
    this.b = this.#node(2, options);
    this.a.device.addPeer(
      { publicKey: this.b.publicKey, allowedIps: [parsePrefix("10.0.0.2/32")!], ...peerOptions },
      0,
    );
    this.b.device.addPeer(
      {
        publicKey: this.a.publicKey,
        allowedIps: [parsePrefix("10.0.0.1/32")!],
        ...(peerOptions.presharedKey === undefined ? {} : { presharedKey: peerOptions.presharedKey }),
      },
      0,
    );
  }

  #node(address: number, options: Partial<WireGuardOptions>): End {
    const random = seededRandom(address);
    const privateKey = generatePrivateKey(random);
    const out: Uint8Array[] = [];
    const stamps: number[] = [];
    const authenticated: number[] = [];
    const device = new WireGuard({
      privateKey,
      random,
      wall: () => START + this.now,
      aead,
      onTimestamp: (stamp) => stamps.push(stamp),
      onAuthenticated: (_peer, path) => authenticated.push(path),
      send: (_peer, _path, datagram) => out.push(datagram.slice()),
      ...options,
    });
    return { device, address, delivered: [], out, stamps, authenticated, publicKey: publicKeyOf(privateKey) };
  }

  /** Hands one datagram to a node. */
  deliver(to: End, datagram: Uint8Array, path = 0): void {
    const batch = createBatch(4, 4096);
    batch.slab.set(datagram, 100);
    batch.at.set([100, datagram.length, path, -1]);
    batch.count = 1;
    to.device.open(batch, this.now);
    for (let i = 0; i < batch.count; i++) {
      const at = batch.at[i * STRIDE + PACKET.offset]!;
      if (batch.at[i * STRIDE + PACKET.peer] !== 0) throw new Error("A packet of a peer that does not exist");
      const packet = batch.slab.slice(at, at + batch.at[i * STRIDE + PACKET.length]!);
      to.delivered.push(Buffer.from(packet.subarray(20)).toString());
    }
  }

  /** Carries datagrams until there are none. */
  settle(): void {
    while (this.a.out.length + this.b.out.length > 0) {
      for (const [from, to] of [
        [this.a, this.b],
        [this.b, this.a],
      ] as const) {
        for (const datagram of from.out.splice(0)) {
          this.sent.push({ at: this.now, from, type: datagram[0]!, length: datagram.length });
          if (this.passes(from, datagram)) this.deliver(to, datagram);
        }
      }
    }
  }

  send(from: End, payload: string): void {
    const to = from === this.a ? this.b : this.a;
    from.device.send(0, ipv4(from.address, to.address, payload), this.now);
    this.settle();
  }

  /** Moves time on, polling whenever a device asks for it. */
  advance(ms: number): void {
    const end = this.now + ms;
    for (;;) {
      const next = Math.min(this.a.device.deadline, this.b.device.deadline);
      if (next > end) break;
      this.now = Math.max(this.now, next);
      this.a.device.poll(this.now);
      this.b.device.poll(this.now);
      this.settle();
    }
    this.now = end;
  }

  count(from: End, type: number): number {
    return this.sent.filter((datagram) => datagram.from === from && datagram.type === type).length;
  }
}
