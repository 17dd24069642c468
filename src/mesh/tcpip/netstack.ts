import { type AddressBytes, type AddressPort, formatAddressPort, parseAddress } from "../../base/address.ts";
import { equalBytes } from "../../base/bytes.ts";
import type { Conn, Listener, Proof } from "../../base/conn.ts";
import { Fault } from "../../base/fault.ts";
import { PACKET, type PacketBatch, STRIDE } from "../../base/packet.ts";
import type { Random } from "../../base/random.ts";
import { foldSum, sumWords } from "../../wire/checksum.ts";
import { createIpView, type IpView, PROTOCOL, readIp } from "../../wire/ip.ts";
import { createTcpSegment, readTcp, type TcpSegment } from "../../wire/tcp.ts";
import type { CongestionControl } from "./congestion.ts";
import { IcmpService } from "./icmp-service.ts";
import type { Keepalive } from "./keepalive.ts";
import { TcpMemory } from "./memory.ts";
import { Reassembly } from "./reassembly.ts";
import { PacketWriter } from "./segment-writer.ts";
import type { NetstackCounters, StackCore } from "./stack-core.ts";
import { type Admission, TcpService } from "./tcp-service.ts";
import { type UdpReceive, UdpService, type UdpSocket } from "./udp-service.ts";

export type { NetstackCounters } from "./stack-core.ts";
export type { UdpSocket } from "./udp-service.ts";

const DEFAULT_MTU = 1280;
const MOST_LOOPED = 512;
/** The loop was held up so long that what waits in the socket says nothing about the path. */
const STALL_MS = 50;

export interface NetstackOptions {
  readonly addresses: readonly AddressBytes[];
  readonly mtu?: number;
  readonly random: Random;
  /**
   * A packet to send; the view is dead on return. `peer` is the WireGuard peer index that the connection came from;
   * -1: route by destination.
   */
  readonly output: (packet: Uint8Array, peer: number, now: number) => void;
  /** Who is at the other end; asked once for each accepted connection. */
  readonly proofOf: (peer: number, source: AddressPort, destination: AddressPort) => Proof;
  /** Does a peer hold this address? Default: some peer does. */
  readonly hasPeer?: (address: AddressBytes) => boolean;
  /** `deadline` may have become earlier, outside of `input` and `poll`: have `poll` called, but not from within. */
  readonly wake: () => void;
  /** For calls that come from users of streams. */
  readonly now: () => number;
  /** Default: after 2 h idle, each 75 s, 9 times, as upstream. */
  readonly keepalive?: Keepalive;
  /** Default: "bbr", which keeps its pace on lines that lose packets by themselves. */
  readonly congestion?: CongestionControl;
  /** What the buffers of all connections may hold together. @default 256 MiB */
  readonly tcpMemoryBytes?: number;
  /** Connections in all, closing ones included. */
  readonly maxConnections?: number;
}

/** TCP, UDP and ICMP over raw IP packets, in userspace. Owns no socket, timer or clock. */
export class Netstack {
  readonly counters: NetstackCounters = {
    malformed: 0,
    checksum: 0,
    fragments: 0,
    notOurs: 0,
    wrongPeer: 0,
    backlogFull: 0,
    tooManyConnections: 0,
    udpUnserved: 0,
    udpTooLong: 0,
    rateLimited: 0,
    userFailed: 0,
  };
  /** Asked for a SYN to a port without listener; `undefined`: reset. */
  onTcpSyn:
    | ((destination: AddressPort, source: AddressPort, peer: number) => ((conn: Conn) => void) | undefined)
    | undefined = undefined;
  readonly #options: NetstackOptions;
  readonly #core: StackCore;
  readonly #memory: TcpMemory;
  readonly #tcp: TcpService;
  readonly #udp: UdpService;
  readonly #icmp: IcmpService;
  readonly #reassembly: Reassembly = new Reassembly();
  #addresses: readonly AddressBytes[];
  readonly #ip: IpView = createIpView();
  readonly #segment: TcpSegment = createTcpSegment();
  /** Packets to ourselves, read back at the next poll. */
  readonly #looped: Uint8Array[] = [];
  #yieldedUntil: number | undefined;
  #isBusy = false;
  #mustPoll = false;
  #isClosed = false;

  constructor(options: NetstackOptions) {
    this.#options = options;
    this.#addresses = options.addresses.map((address) => address.slice());
    const writer = new PacketWriter(options.mtu ?? DEFAULT_MTU);
    this.#core = {
      writer,
      counters: this.counters,
      random: options.random,
      now: options.now,
      output: (packet, peer, now) => this.#output(packet, peer, now),
      wake: () => this.#wake(),
      isOurs: (slab, offset, length) => this.#ownAddress(slab, offset, length) !== undefined,
      ownAddress: (slab, offset, length) => this.#ownAddress(slab, offset, length),
      sourceFor: (remote) => this.#addresses.find((address) => address.length === remote.length),
    };
    const keepalive: Keepalive = options.keepalive ?? { idleMs: 7_200_000, intervalMs: 75_000, probes: 9 };
    this.#memory = new TcpMemory(options.tcpMemoryBytes);
    this.#tcp = new TcpService(this.#core, {
      keepalive,
      congestion: options.congestion ?? "bbr",
      memory: this.#memory,
      maxConnections: options.maxConnections ?? 65_536,
      proofOf: options.proofOf,
      onSyn: (destination, source, peer) => this.onTcpSyn?.(destination, source, peer),
      hasFallback: () => this.onTcpSyn !== undefined,
    });
    this.#udp = new UdpService(this.#core);
    this.#icmp = new IcmpService(this.#core);
  }

  /** Connections from an address that is no longer ours are cut. */
  setAddresses(addresses: readonly AddressBytes[]): void {
    const gone = this.#addresses.filter((old) => !addresses.some((address) => equalBytes(address, old)));
    this.#addresses = addresses.map((address) => address.slice());
    for (const address of gone) this.#tcp.cutAddress(address);
  }

  /** Inner IP packets with `offset`, `length` and `peer` set. Answers go out before it returns. */
  input(batch: PacketBatch, now: number): void {
    if (this.#isClosed) return;
    this.#isBusy = true;
    if (now - this.#tcp.deadline > STALL_MS) this.#tcp.noteStall();
    for (let i = 0; i < batch.count; i++) {
      const at = i * STRIDE;
      const offset = batch.at[at + PACKET.offset]!;
      this.#packet(batch.slab, offset, batch.at[at + PACKET.length]!, batch.at[at + PACKET.peer]!, now);
    }
    this.#tcp.flush(now);
    this.#isBusy = false;
  }

  #packet(slab: Uint8Array, offset: number, length: number, peer: number, now: number): void {
    const ip = this.#ip;
    if (!readIp(slab, offset, length, ip)) {
      this.counters.malformed++;
      return;
    }
    if (ip.isFragment) {
      this.counters.fragments++;
      const whole = this.#reassembly.add(slab, offset, ip, peer, now);
      if (whole !== undefined) this.#packet(whole, 0, whole.length, peer, now);
      return;
    }
    switch (ip.protocol) {
      case PROTOCOL.tcp: {
        if (!this.#isIntact(slab, ip)) return;
        if (readTcp(slab, ip.payload, ip.payloadLength, this.#segment)) {
          this.#tcp.input(this.#segment, slab, ip, peer, now);
        } else this.counters.malformed++;
        return;
      }
      case PROTOCOL.udp: {
        const unserved = this.#udp.input(slab, ip, peer, () => this.#isIntact(slab, ip));
        if (unserved) this.#icmp.rejectPort(slab, offset, ip, peer, now);
        return;
      }
      case PROTOCOL.icmp:
      case PROTOCOL.icmpv6: {
        if ((ip.protocol === PROTOCOL.icmpv6) !== ip.isIpv6) return;
        if (ip.isIpv6 ? !this.#isIntact(slab, ip) : !this.#isIcmpIntact(slab, ip)) return;
        const tooBig = this.#icmp.input(slab, ip, peer, now);
        if (tooBig !== undefined) this.#tcp.narrowPath(slab, tooBig.packet, tooBig.length, tooBig.mtu, peer);
        return;
      }
      default:
        this.counters.notOurs++;
    }
  }

  #isIntact(slab: Uint8Array, ip: IpView): boolean {
    const addresses = sumWords(slab, ip.source, 2 * ip.addressLength);
    const sum = addresses + ip.protocol + ip.payloadLength + sumWords(slab, ip.payload, ip.payloadLength);
    if (foldSum(sum) === 0xffff) return true;
    this.counters.checksum++;
    return false;
  }

  #isIcmpIntact(slab: Uint8Array, ip: IpView): boolean {
    if (sumWords(slab, ip.payload, ip.payloadLength) === 0xffff) return true;
    this.counters.checksum++;
    return false;
  }

  /** Accepts connections to `port` on all our addresses. */
  listenTcp(port: number, accept: (conn: Conn) => void): Listener {
    return this.#tcp.listen(port, accept);
  }

  /** Opens a connection. The `proof` of what it gives says only where it leads. */
  dialTcp(
    target: AddressPort,
    options: { readonly source?: AddressBytes; readonly signal?: AbortSignal } = {},
  ): Promise<Conn> {
    const remote = parseAddress(target.address);
    const local = options.source ?? (remote === undefined ? undefined : this.#core.sourceFor(remote));
    if (remote === undefined || local === undefined || local.length !== remote.length || this.#isClosed) {
      const found = remote === undefined ? "not an IP address" : "no address of ours of its family";
      const message = `Cannot connect to "${formatAddressPort(target)}": ${found}, wanted one that can be reached`;
      return Promise.reject(new Fault("TCPIP_UNREACHABLE", message));
    }
    return this.#tcp.dial(
      remote,
      target.port,
      this.#core.ownAddress(local, 0, local.length) ?? local.slice(),
      options.signal,
    );
  }

  /** Port 0: an ephemeral one. */
  listenUdp(port: number, onDatagram: UdpReceive): UdpSocket {
    return this.#udp.listen(port, onDatagram);
  }

  /** Round-trip time of an ICMP echo, in ms. */
  ping(address: AddressBytes, options: { readonly timeoutMs?: number } = {}): Promise<number> {
    return this.#icmp.ping(address, options.timeoutMs ?? 5000);
  }

  /** Cuts every connection of a peer that is known no more. */
  abortPeer(peer: number, fault: Fault): void {
    this.#tcp.cutPeer(peer, fault);
  }

  /** A peer was started anew, and may have forgotten its connections: it is asked. Where it has, it resets them. */
  suspectPeer(peer: number): void {
    this.#tcp.suspectPeer(peer);
    this.#wake();
  }

  /** Packets to this peer go another way from now on, through a relay or past it: what was measured is not of that way. */
  changePath(peer: number): void {
    this.#tcp.changePath(peer);
    this.#wake();
  }

  /** Cuts what peers opened and would not be let in with now. */
  abortUnless(isAdmitted: Admission, fault: Fault): void {
    this.#tcp.cutUnless(isAdmitted, fault);
  }

  /** To be called when peers are gone: whoever is dialed there will never answer. */
  abortLostDials(): void {
    const { hasPeer } = this.#options;
    const isOwn = (remote: AddressBytes): boolean => this.#ownAddress(remote, 0, remote.length) !== undefined;
    this.#tcp.cutDialsUnless((remote) => isOwn(remote) || hasPeer?.(remote) !== false);
  }

  /** Connections, closing ones included. */
  get connections(): number {
    return this.#tcp.size;
  }

  /** Of those, the ones that have ended and only keep their numbers for a minute. */
  get timeWait(): number {
    return this.#tcp.timeWait;
  }

  /** Bytes of TCP's buffers. */
  get heldBytes(): number {
    return this.#memory.held;
  }

  get deadline(): number {
    if (this.#yieldedUntil !== undefined) return this.#yieldedUntil;
    if (this.#mustPoll || this.#looped.length > 0 || this.#tcp.isPending) return 0;
    return Math.min(this.#tcp.deadline, this.#icmp.deadline, this.#reassembly.deadline);
  }

  poll(now: number): void {
    this.#mustPoll = false;
    if (this.#mustYield(now)) return;
    this.#isBusy = true;
    for (const packet of this.#looped.splice(0)) this.#packet(packet, 0, packet.length, -1, now);
    this.#icmp.poll(now);
    this.#reassembly.poll(now);
    this.#tcp.poll(now);
    this.#tcp.flush(now);
    this.#isBusy = false;
  }

  /** Timers that ran out while the loop stood still say nothing: what waits in the socket is heard first. */
  #mustYield(now: number): boolean {
    if (this.#yieldedUntil === undefined && now - this.#tcp.deadline > STALL_MS) {
      this.#tcp.noteStall();
      this.#yieldedUntil = now + 1;
    } else if (this.#yieldedUntil !== undefined && now >= this.#yieldedUntil) this.#yieldedUntil = undefined;
    return this.#yieldedUntil !== undefined;
  }

  /** Cuts everything. */
  close(): void {
    if (this.#isClosed) return;
    this.#tcp.close(new Fault("TCPIP_CLOSED", "Cannot go on: the network stack was closed, wanted an open one"));
    this.#udp.close();
    this.#icmp.close();
    this.#isClosed = true;
  }

  #ownAddress(slab: Uint8Array, offset: number, length: number): AddressBytes | undefined {
    search: for (const address of this.#addresses) {
      if (address.length !== length) continue;
      for (let i = 0; i < length; i++) if (address[i] !== slab[offset + i]) continue search;
      return address;
    }
    return undefined;
  }

  #output(packet: Uint8Array, peer: number, now: number): void {
    if (peer < 0) {
      const length = packet[0]! >> 4 === 4 ? 4 : 16;
      if (this.#ownAddress(packet, length === 4 ? 16 : 24, length) !== undefined) {
        if (this.#looped.length < MOST_LOOPED) this.#looped.push(packet.slice());
        if (!this.#isBusy) this.#wake();
        return;
      }
    }
    this.#options.output(packet, peer, now);
  }

  #wake(): void {
    if (this.#isBusy || this.#mustPoll) return;
    this.#mustPoll = true;
    this.#options.wake();
  }
}
