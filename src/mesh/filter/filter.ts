import { type AddressBytes, type Prefix, parsePrefix } from "../../base/address.ts";
import { PACKET, type PacketBatch, STRIDE } from "../../base/packet.ts";
import { AddressSet, rangeOfPrefix } from "../../wire/address-set.ts";
import type { CapMap, FilterRule } from "../../wire/tailcfg.ts";
import { FlowTable } from "./flow-table.ts";
import { Header, PROTOCOL } from "./header.ts";
import { ALL_PORTS, ANY_PORT, compileRule, holds, type Rule, sourceMatches, targetMatches } from "./rule.ts";

const TCP_SYN = 0x02;
const TCP_SYN_ACK = 0x12;
const METADATA_SERVICE = 0xa9fea9fe; // 169.254.169.254, the one link-local destination that upstream lets through

/** What an advertised default route does not make local (upstream `ipn/ipnlocal/local.go:shrinkDefaultRoute`). */
const NEVER_INTERNET = [
  "10.0.0.0/8",
  "172.16.0.0/12",
  "192.168.0.0/16",
  "169.254.0.0/16",
  "224.0.0.0/4",
  "100.64.0.0/10",
  "fe80::/10",
  "ff00::/8",
  "fd7a:115c:a1e0::/48",
];

/** Told of a SYN that no rule admitted, so that a TSMP reject can be sent. The view is dead when the call returns. */
export type RejectSink = (packet: Uint8Array, peer: number, reason: "acl" | "shields") => void;

/**
 * The packet filter: what peers may send us. Decisions as upstream `wgengine/filter/filter.go:RunIn`. Before the first
 * `setRules` nothing but return traffic is admitted.
 */
export class PacketFilter {
  #rules: readonly Rule[] = [];
  #local: AddressSet = new AddressSet([]);
  #hasDefaultV4 = false;
  #hasDefaultV6 = false;
  readonly #notInternet: AddressSet = new AddressSet(NEVER_INTERNET.map((text) => rangeOfPrefix(parsePrefix(text)!)));
  #capsOf: ((peer: number) => CapMap) | undefined;
  #hasShieldsUp = false;
  readonly #jailed: Set<number> = new Set();
  readonly #flows: FlowTable = new FlowTable();
  readonly #header: Header = new Header();
  #peerApi: readonly { readonly addresses: AddressSet; readonly port: number }[] = [];
  #onReject: RejectSink | undefined;
  #epoch = 0;
  #dropped = 0;

  /** Grows whenever what is admitted may have changed. */
  get epoch(): number {
    return this.#epoch;
  }

  get dropped(): number {
    return this.#dropped;
  }

  /**
   * `local`: our own addresses and the routes we advertise; nothing else is ever admitted as a destination. `capsOf`
   * serves sources of the form `cap:<name>`.
   */
  setRules(rules: readonly FilterRule[], local: readonly Prefix[], capsOf?: (peer: number) => CapMap): void {
    this.#rules = rules.map(compileRule).filter((rule) => rule !== undefined);
    this.#local = new AddressSet(local.filter((prefix) => prefix.bits > 0).map(rangeOfPrefix));
    this.#hasDefaultV4 = local.some((prefix) => prefix.bits === 0 && prefix.address.length === 4);
    this.#hasDefaultV6 = local.some((prefix) => prefix.bits === 0 && prefix.address.length === 16);
    this.#capsOf = capsOf;
    this.#epoch++;
  }

  /** No rule counts; replies still pass. */
  setShieldsUp(isUp: boolean): void {
    this.#hasShieldsUp = isUp;
    this.#epoch++;
  }

  /** As shields-up, for one peer. */
  setJailed(peer: number, isJailed: boolean): void {
    if (isJailed) this.#jailed.add(peer);
    else this.#jailed.delete(peer);
    this.#epoch++;
  }

  /** Where we answer peerapi: a SYN to it needs no rule (upstream `net/tstun/wrap.go`). */
  setPeerApi(places: readonly { readonly address: AddressBytes; readonly port: number }[]): void {
    this.#peerApi = places.map(({ address, port }) => ({
      addresses: new AddressSet([rangeOfPrefix({ address, bits: address.length * 8 })]),
      port,
    }));
    this.#epoch++;
  }

  setOnReject(sink: RejectSink | undefined): void {
    this.#onReject = sink;
  }

  /**
   * Drops from the batch what may not come in. Of the others it sets protocol (255 = later fragment), ports and length
   * (without padding after the IP packet).
   */
  inbound(batch: PacketBatch, _now: number): void {
    const { at, slab } = batch;
    let kept = 0;
    for (let i = 0; i < batch.count; i++) {
      const from = i * STRIDE;
      const length = at[from + PACKET.length]!;
      if (length === 0) continue; // a keepalive: nothing to drop, nothing to pass on
      if (!this.#admits(slab, at[from + PACKET.offset]!, length, at[from + PACKET.peer]!)) {
        this.#dropped++;
        continue;
      }
      const to = kept * STRIDE;
      if (to !== from) at.copyWithin(to, from, from + STRIDE);
      at[to + PACKET.length] = this.#header.total;
      at[to + PACKET.protocol] = this.#header.protocol;
      at[to + PACKET.sourcePort] = this.#header.sourcePort;
      at[to + PACKET.destinationPort] = this.#header.destinationPort;
      kept++;
    }
    batch.count = kept;
  }

  /** Would a peer get in that opens a TCP connection now? */
  admitsTcp(peer: number, source: AddressBytes, destination: AddressBytes, port: number): boolean {
    const header = this.#header;
    header.setTcp(source, destination, port);
    return this.#isLocal(header) && (this.#ruleAdmits(peer, port, true) || this.#isPeerApi());
  }

  /** Remembers the UDP and SCTP flows that we start, so that replies pass. */
  outbound(packet: Uint8Array, _now: number): void {
    const header = this.#header;
    if (packet[packet[0]! >> 4 === 4 ? 9 : 6] === PROTOCOL.TCP) return; // nearly all: no need to read the rest
    if (!header.read(packet, 0, packet.length)) return;
    if (header.protocol !== PROTOCOL.UDP && header.protocol !== PROTOCOL.SCTP) return;
    const { key } = this.#flows;
    key.set(header.source, 0);
    key.set(header.destination, 4);
    key[8] = header.sourcePort * 65536 + header.destinationPort;
    key[9] = header.version * 256 + header.protocol;
    this.#flows.remember();
  }

  #admits(bytes: Uint8Array, at: number, length: number, peer: number): boolean {
    const header = this.#header;
    if (!header.read(bytes, at, length) || header.protocol === PROTOCOL.UNKNOWN) return false;
    if (isUnroutable(header) || !this.#isLocal(header)) return false;
    switch (header.protocol) {
      case PROTOCOL.FRAGMENT:
      case PROTOCOL.TSMP:
        return true;
      case PROTOCOL.ICMP:
      case PROTOCOL.ICMPV6:
        return isReplyOrError(header) || this.#ruleAdmits(peer, ANY_PORT, false);
      case PROTOCOL.TCP: {
        if ((header.tcpFlags & TCP_SYN_ACK) !== TCP_SYN) return true;
        if (this.#ruleAdmits(peer, header.destinationPort, true) || this.#isPeerApi()) return true;
        if (this.#onReject !== undefined && header.version === 4) {
          const isUp = this.#hasShieldsUp || this.#jailed.has(peer);
          this.#onReject(bytes.subarray(at, at + header.total), peer, isUp ? "shields" : "acl");
        }
        return false;
      }
      case PROTOCOL.UDP:
      case PROTOCOL.SCTP:
        return this.#isReply() || this.#ruleAdmits(peer, header.destinationPort, true);
      default:
        return this.#ruleAdmits(peer, ALL_PORTS, true);
    }
  }

  #isLocal(header: Header): boolean {
    if (holds(this.#local, header.version, header.destination)) return true;
    const hasDefault = header.version === 4 ? this.#hasDefaultV4 : this.#hasDefaultV6;
    return hasDefault && !holds(this.#notInternet, header.version, header.destination);
  }

  #isPeerApi(): boolean {
    const { version, destination, destinationPort } = this.#header;
    return this.#peerApi.some(
      ({ addresses, port }) => port === destinationPort && holds(addresses, version, destination),
    );
  }

  #isReply(): boolean {
    const header = this.#header;
    const { key } = this.#flows;
    key.set(header.destination, 0);
    key.set(header.source, 4);
    key[8] = header.destinationPort * 65536 + header.sourcePort;
    key[9] = header.version * 256 + header.protocol;
    return this.#flows.knows();
  }

  #ruleAdmits(peer: number, port: number, isProtocolAsked: boolean): boolean {
    if (this.#hasShieldsUp || this.#jailed.has(peer)) return false;
    const header = this.#header;
    for (let i = 0; i < this.#rules.length; i++) {
      const rule = this.#rules[i]!;
      if (isProtocolAsked && rule.protocols[header.protocol] !== 1) continue;
      if (!sourceMatches(rule, header) && !this.#hasSourceCap(rule, peer)) continue;
      if (targetMatches(rule, header, port)) return true;
    }
    return false;
  }

  #hasSourceCap(rule: Rule, peer: number): boolean {
    if (rule.sourceCaps.length === 0 || this.#capsOf === undefined || peer < 0) return false;
    const held = this.#capsOf(peer);
    for (let i = 0; i < rule.sourceCaps.length; i++) if (Object.hasOwn(held, rule.sourceCaps[i]!)) return true;
    return false;
  }
}

/** Multicast, and link-local unicast but for the metadata service. */
function isUnroutable({ version, destination }: Header): boolean {
  if (version === 4) {
    const address = destination[3]!;
    return address >>> 28 === 0xe || (address >>> 16 === 0xa9fe && address !== METADATA_SERVICE);
  }
  const top = destination[0]!;
  return top >>> 24 === 0xff || top >>> 22 === 0xfe80 >>> 6;
}

/** Echo replies and errors answer something of ours (upstream `packet.go:IsEchoResponse, IsError`). */
function isReplyOrError({ version, protocol, icmpType }: Header): boolean {
  if (version === 4) {
    return protocol === PROTOCOL.ICMP && (icmpType === 0 || icmpType === 3 || icmpType === 11 || icmpType === 12);
  }
  return protocol === PROTOCOL.ICMPV6 && (icmpType === 129 || (icmpType >= 1 && icmpType <= 4));
}
