import { type AddressBytes, formatAddress } from "../../base/address.ts";
import { Fault } from "../../base/fault.ts";
import { checksumOf, sumPseudoHeader, sumWords } from "../../wire/checksum.ts";
import { ICMP, ICMP_MTU, ICMPV4_CODE, ICMPV4_TYPE, ICMPV6_CODE, ICMPV6_TYPE } from "../../wire/icmp.ts";
import { type IpView, ipHeaderLength, PROTOCOL, read16, write16, write32, writeIpHeader } from "../../wire/ip.ts";
import type { StackCore } from "./stack-core.ts";

const ANSWERS_PER_SECOND = 1000;
const PINGS_AT_ONCE = 256;
const QUOTED_BYTES = 8; // what RFC 792 asks of the rejected packet, besides its header
/** Linux' min_pmtu; IPv6 has none below 1280 (RFC 8201 §4). */
const LEAST_MTU = { ipv4: 552, ipv6: 1280 } as const;

interface Ping {
  readonly remote: AddressBytes;
  readonly sentAt: number;
  readonly expiresAt: number;
  readonly resolve: (rtt: number) => void;
  readonly reject: (fault: Fault) => void;
}

export class IcmpService {
  readonly #core: StackCore;
  readonly #pings: Map<number, Ping> = new Map();
  #answers = { second: 0, count: 0 };
  deadline: number = Infinity;

  constructor(core: StackCore) {
    this.#core = core;
  }

  /** A message with a good checksum. The result: a packet of ours, quoted at `packet`, was too long for the path. */
  input(
    slab: Uint8Array,
    ip: IpView,
    peer: number,
    now: number,
  ): { readonly packet: number; readonly length: number; readonly mtu: number } | undefined {
    if (ip.payloadLength < ICMP.end) {
      this.#core.counters.malformed++;
      return undefined;
    }
    if (!this.#core.isOurs(slab, ip.destination, ip.addressLength)) {
      this.#core.counters.notOurs++;
      return undefined;
    }
    const types = ip.isIpv6 ? ICMPV6_TYPE : ICMPV4_TYPE;
    const type = slab[ip.payload + ICMP.type]!;
    if (type === types.echo) this.#answerEcho(slab, ip, peer, now);
    else if (type === types.echoReply) this.#takeReply(slab, ip, now);
    else return this.#tooBig(slab, ip, type);
    return undefined;
  }

  #tooBig(slab: Uint8Array, ip: IpView, type: number): { packet: number; length: number; mtu: number } | undefined {
    const code = slab[ip.payload + ICMP.code]!;
    const isTooBig = ip.isIpv6
      ? type === ICMPV6_TYPE.packetTooBig
      : type === ICMPV4_TYPE.unreachable && code === ICMPV4_CODE.fragmentationNeeded;
    if (!isTooBig || ip.payloadLength < ICMP.end + 28) return undefined;
    const claimed = ip.isIpv6
      ? read16(slab, ip.payload + ICMP_MTU.ipv6) * 0x10000 + read16(slab, ip.payload + ICMP_MTU.ipv6 + 2)
      : read16(slab, ip.payload + ICMP_MTU.ipv4);
    const mtu = Math.max(claimed, ip.isIpv6 ? LEAST_MTU.ipv6 : LEAST_MTU.ipv4);
    return { packet: ip.payload + ICMP.end, length: ip.payloadLength - ICMP.end, mtu };
  }

  #mayAnswer(now: number): boolean {
    const second = Math.floor(now / 1000);
    if (this.#answers.second !== second) this.#answers = { second, count: 0 };
    if (this.#answers.count++ < ANSWERS_PER_SECOND) return true;
    this.#core.counters.rateLimited++;
    return false;
  }

  #answerEcho(slab: Uint8Array, ip: IpView, peer: number, now: number): void {
    const { writer } = this.#core;
    const local = slab.subarray(ip.destination, ip.destination + ip.addressLength);
    const start = ipHeaderLength(local);
    if (start + ip.payloadLength > writer.mtu || !this.#mayAnswer(now)) return;
    writer.bytes.set(slab.subarray(ip.payload, ip.payload + ip.payloadLength), start);
    writer.bytes[start + ICMP.type] = ip.isIpv6 ? ICMPV6_TYPE.echoReply : ICMPV4_TYPE.echoReply;
    this.#seal(local, slab.subarray(ip.source, ip.source + ip.addressLength), ip.payloadLength, peer, now);
  }

  /** Checksum and IP header of a message already at its place in the packet. */
  #seal(local: AddressBytes, remote: AddressBytes, length: number, peer: number, now: number): void {
    const { writer } = this.#core;
    const { bytes } = writer;
    const start = ipHeaderLength(local);
    const protocol = local.length === 4 ? PROTOCOL.icmp : PROTOCOL.icmpv6;
    writeIpHeader(bytes, local, remote, protocol, length);
    write16(bytes, start + ICMP.checksum, 0);
    const pseudo = local.length === 4 ? 0 : sumPseudoHeader(local, remote, protocol) + length;
    write16(bytes, start + ICMP.checksum, checksumOf(pseudo + sumWords(bytes, start, length)));
    this.#core.output(writer.view(start + length), peer, now);
  }

  /** Port unreachable for the UDP packet at `offset`. Never longer than what it answers. */
  rejectPort(slab: Uint8Array, offset: number, ip: IpView, peer: number, now: number): void {
    if (!this.#mayAnswer(now)) return;
    const { bytes } = this.#core.writer;
    const local = slab.subarray(ip.destination, ip.destination + ip.addressLength);
    const start = ipHeaderLength(local);
    const quoted = Math.min(ip.payload - offset + QUOTED_BYTES, ip.payload - offset + ip.payloadLength);
    const body = start + ICMP.end;
    bytes[start + ICMP.type] = ip.isIpv6 ? ICMPV6_TYPE.unreachable : ICMPV4_TYPE.unreachable;
    bytes[start + ICMP.code] = ip.isIpv6 ? ICMPV6_CODE.portUnreachable : ICMPV4_CODE.portUnreachable;
    write32(bytes, start + ICMP.id, 0);
    bytes.set(slab.subarray(offset, offset + quoted), body);
    this.#seal(local, slab.subarray(ip.source, ip.source + ip.addressLength), ICMP.end + quoted, peer, now);
  }

  ping(remote: AddressBytes, timeoutMs: number): Promise<number> {
    const local = this.#core.sourceFor(remote);
    const text = formatAddress(remote);
    if (local === undefined) {
      const message = `Cannot ping "${text}": no address of ours of its family, wanted one`;
      return Promise.reject(new Fault("TCPIP_UNREACHABLE", message));
    }
    if (this.#pings.size >= PINGS_AT_ONCE) {
      const message = `Cannot ping "${text}": ${PINGS_AT_ONCE} are under way, wanted fewer`;
      return Promise.reject(new Fault("TCPIP_BUSY", message));
    }
    const now = this.#core.now();
    let key = this.#drawKey();
    while (this.#pings.has(key)) key = this.#drawKey();
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    this.#pings.set(key, { remote: remote.slice(), sentAt: now, expiresAt: now + timeoutMs, resolve, reject });
    this.deadline = Math.min(this.deadline, now + timeoutMs);
    const { bytes } = this.#core.writer;
    const start = ipHeaderLength(local);
    bytes[start + ICMP.type] = local.length === 4 ? ICMPV4_TYPE.echo : ICMPV6_TYPE.echo;
    bytes[start + ICMP.code] = 0;
    write32(bytes, start + ICMP.id, key);
    this.#seal(local, remote, ICMP.end, -1, now);
    this.#core.wake();
    return promise;
  }

  #drawKey(): number {
    const bytes = this.#core.random(4);
    return read16(bytes, 0) * 0x10000 + read16(bytes, 2);
  }

  #takeReply(slab: Uint8Array, ip: IpView, now: number): void {
    const key = read16(slab, ip.payload + ICMP.id) * 0x10000 + read16(slab, ip.payload + ICMP.sequence);
    const ping = this.#pings.get(key);
    if (ping === undefined || ping.remote.length !== ip.addressLength) return;
    for (let i = 0; i < ip.addressLength; i++) if (slab[ip.source + i] !== ping.remote[i]) return;
    this.#pings.delete(key);
    ping.resolve(now - ping.sentAt);
  }

  poll(now: number): void {
    if (now < this.deadline) return;
    this.deadline = Infinity;
    for (const [key, ping] of this.#pings) {
      if (ping.expiresAt > now) {
        this.deadline = Math.min(this.deadline, ping.expiresAt);
        continue;
      }
      this.#pings.delete(key);
      const message = `Cannot ping "${formatAddress(ping.remote)}": no answer, wanted one`;
      ping.reject(new Fault("TCPIP_TIMEOUT", message));
    }
  }

  close(): void {
    for (const ping of this.#pings.values())
      ping.reject(new Fault("TCPIP_CLOSED", "Cannot ping: the stack was closed"));
    this.#pings.clear();
    this.deadline = Infinity;
  }
}
