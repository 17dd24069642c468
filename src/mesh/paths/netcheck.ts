import { formatAddressPort, parseAddress } from "../../base/address.ts";
import { toHex } from "../../base/bytes.ts";
import type { PathTable } from "../../base/path-table.ts";
import type { Random } from "../../base/random.ts";
import { decodeStunAnswer, encodeStunRequest, STUN_TX_BYTES } from "../../wire/stun.ts";
import type { DerpMap, DerpNode, NetInfo } from "../../wire/tailcfg.ts";

export interface NetcheckOptions {
  readonly random: Random;
  readonly table: PathTable;
  readonly send: (path: number, datagram: Uint8Array) => void;
  /** Addresses of a STUN server that the map knows only by name. May answer at once, later or never. */
  readonly resolve?: ((hostName: string, onAnswer: (addresses: readonly string[]) => void) => void) | undefined;
}

export interface RegionLatency {
  v4?: number;
  v6?: number;
}

/** What one round of STUN told. */
export interface NetcheckReport {
  readonly regions: ReadonlyMap<number, RegionLatency>;
  /** Where servers saw us, best first, without repeats. */
  readonly seenV4: readonly string[];
  readonly seenV6: readonly string[];
}

const STAGE_MS = 3000;
const TRY_SPACING_MS = 100;
const TRIES = 3;
/** Enough regions for a choice: wait no longer than the slowest of them once more. */
const ENOUGH_REGIONS = 3;
const MOST_REGIONS = 64;
const DEFAULT_PORT = 3478;

interface Probe {
  readonly region: number;
  readonly path: number;
  readonly family: "v4" | "v6";
  readonly at: number;
  sentAt: number;
}

/** One round at a time: asks the STUN servers of the map where they see us, and how far they are. */
export class Netcheck {
  readonly #options: NetcheckOptions;
  readonly #resolved: Map<string, readonly string[]> = new Map();
  #planned: Probe[] = [];
  readonly #asked: Map<string, Probe> = new Map();
  #regions: Map<number, RegionLatency> = new Map();
  #seenV4: string[] = [];
  #seenV6: string[] = [];
  #startedAt = 0;
  #endsAt: number = Infinity;
  #nodeTurn = 0;

  constructor(options: NetcheckOptions) {
    this.#options = options;
  }

  get isRunning(): boolean {
    return this.#endsAt !== Infinity;
  }

  get deadline(): number {
    return Math.min(this.#endsAt, this.#planned[0]?.at ?? Infinity);
  }

  start(map: DerpMap | undefined, home: number, now: number): void {
    if (this.isRunning) return;
    this.#asked.clear();
    this.#regions = new Map();
    this.#seenV4 = [];
    this.#seenV6 = [];
    this.#startedAt = now;
    this.#endsAt = now + STAGE_MS;
    const planned: Probe[] = [];
    for (const region of Object.values(map?.Regions ?? {}).slice(0, MOST_REGIONS)) {
      if (region === null || region.NoMeasureNoHome === true) continue;
      if (region.Avoid === true && region.RegionID !== home) continue;
      const nodes = (region.Nodes ?? []).filter((node) => node.STUNPort !== -1);
      for (let i = 0; i < TRIES && nodes.length > 0; i++) {
        const node = nodes[(this.#nodeTurn + i) % nodes.length]!;
        for (const address of this.#addressesOf(node)) {
          const path = this.#options.table.intern({ kind: "udp", address, port: node.STUNPort || DEFAULT_PORT });
          const family = address.includes(":") ? "v6" : "v4";
          planned.push({ region: region.RegionID, path, family, at: now + i * TRY_SPACING_MS, sentAt: 0 });
        }
      }
    }
    this.#nodeTurn++;
    this.#planned = planned.sort((a, b) => a.at - b.at);
  }

  #addressesOf(node: DerpNode): readonly string[] {
    const literals = [node.IPv4, node.IPv6].filter((text) => text !== undefined && parseAddress(text) !== undefined);
    if (literals.length > 0) return literals as string[];
    if (parseAddress(node.HostName) !== undefined) return [node.HostName];
    const known = this.#resolved.get(node.HostName);
    if (known === undefined) {
      this.#options.resolve?.(node.HostName, (addresses) => {
        if (this.#resolved.size >= 4 * MOST_REGIONS) this.#resolved.clear();
        this.#resolved.set(node.HostName, addresses.filter((text) => parseAddress(text) !== undefined).slice(0, 4));
      });
    }
    const addresses = known ?? this.#resolved.get(node.HostName) ?? [];
    return addresses.filter((address) => (address.includes(":") ? node.IPv6 : node.IPv4) !== "none");
  }

  /** Forgets looked-up addresses: the map changed, or the network did. */
  forget(): void {
    this.#resolved.clear();
  }

  /** Takes a STUN answer that came by `path`. */
  answered(datagram: Uint8Array, path: number, now: number): void {
    const answer = decodeStunAnswer(datagram);
    const probe = answer === undefined ? undefined : this.#asked.get(toHex(answer.tx));
    if (answer === undefined || probe === undefined || probe.path !== path) return; // not asked, or not asked there
    this.#asked.delete(toHex(answer.tx));
    const latency = now - probe.sentAt;
    const region = this.#regions.get(probe.region) ?? {};
    region[probe.family] = Math.min(region[probe.family] ?? Infinity, latency);
    this.#regions.set(probe.region, region);
    const seen = formatAddressPort(answer.mapped);
    const list = answer.mapped.address.includes(":") ? this.#seenV6 : this.#seenV4;
    if (!list.includes(seen)) list.push(seen);
    const waiting = new Set([...this.#planned, ...this.#asked.values()].map((one) => one.region));
    for (const measured of this.#regions.keys()) waiting.delete(measured);
    if (this.#isComplete()) this.#endsAt = now;
    else if (waiting.size === 0) this.#endsAt = Math.min(this.#endsAt, now + 2 * TRY_SPACING_MS);
    else if (this.#regions.size >= ENOUGH_REGIONS)
      this.#endsAt = Math.min(this.#endsAt, now + 2 * (now - this.#startedAt));
  }

  /** All that was asked has answered, and what is still planned would only repeat it. */
  #isComplete(): boolean {
    const isMeasured = ({ region, family }: Probe) => this.#regions.get(region)?.[family] !== undefined;
    return this.#asked.size === 0 && this.#planned.every(isMeasured);
  }

  /** The report, once the round is over. */
  poll(now: number): NetcheckReport | undefined {
    while (this.#planned.length > 0 && this.#planned[0]!.at <= now) {
      const probe = this.#planned.shift()!;
      if (this.#regions.get(probe.region)?.[probe.family] !== undefined) continue;
      const tx = this.#options.random(STUN_TX_BYTES);
      probe.sentAt = now;
      this.#asked.set(toHex(tx), probe);
      this.#options.send(probe.path, encodeStunRequest(tx));
    }
    const isEmpty = this.isRunning && this.#planned.length === 0 && this.#asked.size === 0 && this.#regions.size === 0;
    if (!isEmpty && now < this.#endsAt) return undefined;
    if (!this.isRunning) return undefined;
    this.#endsAt = Infinity;
    this.#planned = [];
    this.#asked.clear();
    return { regions: this.#regions, seenV4: this.#seenV4, seenV6: this.#seenV6 };
  }
}

/** What the server and the peers are told of it. */
export function netInfoOf(report: NetcheckReport, home: number, hasIpv6: boolean): NetInfo {
  const latencies: Record<string, number> = {};
  for (const [region, { v4, v6 }] of report.regions) {
    if (v4 !== undefined) latencies[`${region}-v4`] = v4 / 1000;
    if (v6 !== undefined) latencies[`${region}-v6`] = v6 / 1000;
  }
  const measuredV4 = [...report.regions.values()].filter(({ v4 }) => v4 !== undefined).length;
  return {
    MappingVariesByDestIP: measuredV4 < 2 ? null : report.seenV4.length > 1,
    WorkingIPv6: report.seenV6.length > 0,
    OSHasIPv6: hasIpv6,
    WorkingUDP: report.regions.size > 0,
    PreferredDERP: home,
    DERPLatency: latencies,
  };
}
