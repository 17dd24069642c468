import { type AddressBytes, parseAddress } from "../base/address.ts";
import { createBatch, PACKET, type PacketBatch, STRIDE, type TxTrain, type UdpIo } from "../base/packet.ts";
import type { Path, PathTable } from "../base/path-table.ts";
import { IPV4, IPV6 } from "../wire/ip.ts";
import { TSMP_PROTOCOL } from "../wire/tsmp.ts";
import type { PacketFilter } from "./filter/filter.ts";
import type { Paths } from "./paths/paths.ts";
import type { Netstack } from "./tcpip/netstack.ts";
import type { TsmpService } from "./tsmp.ts";
import type { WireGuard } from "./wireguard/device.ts";

/** Sends one datagram through a DERP region to a node; the payload is a view, dead on return. */
export type DerpSend = (region: number, nodeKey: string, payload: Uint8Array) => void;

export interface DatapathParts {
  readonly table: PathTable;
  readonly udp: UdpIo;
  readonly derpSend: DerpSend;
  readonly paths: Paths;
  readonly wireguard: WireGuard;
  readonly filter: PacketFilter;
  readonly tsmp: TsmpService;
  readonly netstack: Netstack;
  readonly now: () => number;
}

const DATAGRAM_BYTES = 2048; // of anything not sealed in place

/**
 * The only caller of paths → wireguard → filter → tcpip, each on a whole batch, and of the way back.
 * Outgoing packets are sealed straight into the UDP train of their peer's path; a turn ends with one flush.
 */
export class Datapath {
  readonly #parts: DatapathParts;
  readonly #derpSlab: Uint8Array = new Uint8Array(DATAGRAM_BYTES);
  readonly #derpBatch: PacketBatch = createBatch(1, 65_536);
  /** Where this turn's packets to `#target` go: a run of them asks once. Void with each flush. */
  #target = -1;
  #path = -1;
  #way: Path | undefined;
  #second = -1;
  /** By peer, where the last packets to it went, and of which peers that is another place since the last flush. */
  readonly #lastPaths: number[] = [];
  readonly #moved: number[] = [];
  #isInTurn = false;
  #isFlushQueued = false;
  readonly counters: { rxPackets: number; txPackets: number; unroutable: number; full: number } = {
    rxPackets: 0,
    txPackets: 0,
    unroutable: 0,
    full: 0,
  };

  constructor(parts: DatapathParts) {
    this.#parts = parts;
  }

  /** A batch of datagrams from the UDP socket. Never throws. */
  receive(batch: PacketBatch, now: number): void {
    const { paths, wireguard, filter, netstack } = this.#parts;
    this.counters.rxPackets += batch.count;
    this.#isInTurn = true;
    this.#target = -1;
    paths.input(batch, now);
    if (batch.count > 0) wireguard.open(batch, now);
    if (batch.count > 0) this.#takeTsmp(batch, now);
    if (batch.count > 0) filter.inbound(batch, now);
    if (batch.count > 0) netstack.input(batch, now);
    this.#isInTurn = false;
    this.flush();
  }

  #takeTsmp({ slab, at, count }: PacketBatch, now: number): void {
    for (let i = 0; i < count; i++) {
      const from = i * STRIDE;
      const offset = at[from + PACKET.offset]!;
      const protocol = slab[offset]! >> 4 === 4 ? slab[offset + IPV4.protocol] : slab[offset + IPV6.nextHeader];
      if (protocol !== TSMP_PROTOCOL) continue;
      this.#parts.tsmp.input(slab, offset, at[from + PACKET.length]!, at[from + PACKET.peer]!, now);
    }
  }

  /** A DERP frame enters as a batch of one. */
  receiveDerp(path: number, payload: Uint8Array, now: number): void {
    const batch = this.#derpBatch;
    if (payload.length > batch.slab.length) return;
    batch.slab.set(payload);
    batch.at[PACKET.offset] = 0;
    batch.at[PACKET.length] = payload.length;
    batch.at[PACKET.path] = path;
    batch.at[PACKET.peer] = -1;
    batch.count = 1;
    this.receive(batch, now);
  }

  /** One inner packet from the stack; `peer` is where its connection came from, or -1 to route by destination. */
  output(packet: Uint8Array, peer: number, now: number): void {
    const { filter, wireguard, derpSend } = this.#parts;
    const target = peer >= 0 ? peer : this.route(packet);
    if (target < 0) {
      this.counters.unroutable++;
      return;
    }
    filter.outbound(packet, now);
    if (target !== this.#target) this.#aim(target, now);
    const way = this.#way;
    if (way?.kind === "udp") {
      const train = this.#claim(this.#path, wireguard.sealedBytes(packet.length));
      if (train === undefined) return;
      const { slab, offset } = train;
      const sealed = wireguard.seal(target, packet, slab, offset, now);
      if (sealed > 0) {
        this.counters.txPackets++;
        train.push(sealed);
        if (this.#second >= 0) this.sendDatagram(this.#second, slab.subarray(offset, offset + sealed));
        this.#afterwards();
        return;
      }
    } else if (way?.kind === "derp") {
      const sealed = wireguard.seal(target, packet, this.#derpSlab, 0, now);
      if (sealed > 0) {
        this.counters.txPackets++;
        const datagram = this.#derpSlab.subarray(0, sealed);
        derpSend(way.region, way.nodeKey, datagram);
        if (this.#second >= 0) this.sendDatagram(this.#second, datagram);
        this.#afterwards();
        return;
      }
    }
    wireguard.send(target, packet, now); // no session yet: it keeps the packet and shakes hands
    this.#afterwards();
  }

  /** While the direct path is not proved, the relay carries a copy: that is `#second`. */
  #aim(target: number, now: number): void {
    const { paths, table } = this.#parts;
    paths.sent(target, now);
    this.#target = target;
    this.#path = paths.best(target, now);
    this.#way = this.#path < 0 ? undefined : table.get(this.#path);
    this.#second = paths.second(target, now);
    const last = this.#lastPaths[target] ?? -1;
    if (last === this.#path || this.#path < 0) return;
    this.#lastPaths[target] = this.#path;
    if (last >= 0) this.#moved.push(target);
  }

  /** A whole datagram: handshakes and keepalives of WireGuard (`path` undefined: the peer's best), or disco. */
  sendDatagram(path: number, datagram: Uint8Array): void {
    const way = this.#parts.table.get(path);
    if (way === undefined) return;
    if (way.kind === "derp") {
      this.#parts.derpSend(way.region, way.nodeKey, datagram);
      return;
    }
    const train = this.#claim(path, datagram.length);
    if (train === undefined) return;
    train.slab.set(datagram, train.offset);
    train.push(datagram.length);
    this.#afterwards();
  }

  /** Longest prefix of the peers' allowed IPs for the destination of an inner packet; -1 = nobody. */
  route(packet: Uint8Array): number {
    const version = packet[0]! >> 4;
    if (version === 4) return this.#parts.wireguard.route(packet, IPV4.destination, 4);
    return version === 6 ? this.#parts.wireguard.route(packet, IPV6.destination, 16) : -1;
  }

  /** The peer that holds `address`, or -1. */
  peerFor(address: string): number {
    const bytes: AddressBytes | undefined = parseAddress(address);
    return bytes === undefined ? -1 : this.#parts.wireguard.route(bytes, 0, bytes.length as 4 | 16);
  }

  routes(address: AddressBytes): boolean {
    return this.#parts.wireguard.route(address, 0, address.length as 4 | 16) >= 0;
  }

  flush(): void {
    this.#target = -1;
    this.#parts.udp.flush();
    if (this.#moved.length === 0) return;
    for (const peer of this.#moved.splice(0)) this.#parts.netstack.changePath(peer);
  }

  #claim(path: number, bytes: number): TxTrain | undefined {
    const train = this.#parts.udp.claim(path, bytes);
    if (train === undefined) this.counters.full++; // as a full socket buffer would: TCP sends it again
    return train;
  }

  /** Outside of a turn nobody flushes for us: do it once all that this turn of the loop sends is in. */
  #afterwards(): void {
    if (this.#isInTurn || this.#isFlushQueued) return;
    this.#isFlushQueued = true;
    setImmediate(() => {
      this.#isFlushQueued = false;
      this.flush();
    });
  }
}
