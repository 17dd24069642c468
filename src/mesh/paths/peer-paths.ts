import { formatAddressPort } from "../../base/address.ts";
import { equalBytes, toHex } from "../../base/bytes.ts";
import type { Path, PathTable } from "../../base/path-table.ts";
import { type Candidate, isBetter, isForbidden, isLoopback, LEARNED, parseCandidate } from "./candidate.ts";
import type { OwnEndpoints } from "./own-endpoints.ts";

export interface PathsPeer {
  /** Of the WireGuard peer. */
  readonly index: number;
  readonly nodeKey: Uint8Array;
  readonly discoKey: Uint8Array | undefined;
  readonly endpoints: readonly string[];
  /** 0 = unknown. */
  readonly homeDerp: number;
  readonly isWireGuardOnly: boolean;
}

/** Times of upstream `magicsock.go` and `endpoint.go`. */
const ACTIVE_MS = 45_000;
const HEARTBEAT_MS = 3000;
const TRUST_MS = 6500;
const PING_SPACING_MS = 5000;
const FULL_PING_MS = 60_000;
const GOOD_LATENCY_MS = 5;
/**
 * Ours: so long a trusted way may stay silent while we send on it; then it is asked, and so long may the answer take.
 * Upstream waits for the trust to run out, which is too long for the 3 s of DD-12.
 */
const SILENCE_MS = 500;
/** An address that pings us is pinged back so often: it just showed that a way is open. */
const PING_BACK_MS = 1000;
/** DD-3: a peer's list of addresses must not make us flood anybody. */
const MOST_CANDIDATES = 32;
const PROBES_PER_SECOND = 5;
/** Peers without disco: how long an address may stay silent before the next one is tried. */
const ROAM_MS = 5000;

interface Way {
  readonly path: Path;
  readonly number: number;
}

/** What we know of one peer's ways. Holds no socket: says which candidate to ping, and takes what came of it. */
export class PeerPaths {
  readonly index: number;
  readonly nodeKey: Uint8Array;
  readonly nodeKeyHex: string;
  readonly discoKeyHex: string;
  readonly boxKey: Uint8Array | undefined;
  lastSentAt: number = -Infinity;
  heartbeatAt: number = Infinity;
  callMeMaybeAfter: number = -Infinity;
  readonly #isWireGuardOnly: boolean;
  readonly #table: PathTable;
  readonly #ways: Map<string, Way> = new Map();
  #homeDerp = 0;
  #heardRegion = 0;
  #candidates: Candidate[] = [];
  #best: Candidate | undefined;
  #bestWay: Way | undefined;
  #derpWay: Way | undefined;
  #trustedUntil: number = -Infinity;
  /** The first send since the direct way was last heard. */
  #unansweredSince: number = Infinity;
  #doubtedAt: number = Infinity;
  #fullPingAt: number = -Infinity;
  #probeTokens: number = PROBES_PER_SECOND;
  #tokensAt: number = -Infinity;
  /** WireGuard-only: the address in use, and since when it owes us a sign of life. */
  #roaming: Path | undefined;
  #roamedAt: number = -Infinity;
  #turn = 0;

  constructor(peer: PathsPeer, boxKey: Uint8Array | undefined, table: PathTable) {
    this.index = peer.index;
    this.nodeKey = new Uint8Array(peer.nodeKey);
    this.nodeKeyHex = toHex(peer.nodeKey);
    this.discoKeyHex = peer.discoKey === undefined ? "" : toHex(peer.discoKey);
    this.boxKey = boxKey;
    this.#isWireGuardOnly = peer.isWireGuardOnly;
    this.#table = table;
  }

  matches(peer: PathsPeer): boolean {
    const discoKey = peer.discoKey === undefined ? "" : toHex(peer.discoKey);
    if (!equalBytes(this.nodeKey, peer.nodeKey)) return false;
    return discoKey === this.discoKeyHex && peer.isWireGuardOnly === this.#isWireGuardOnly;
  }

  update(peer: PathsPeer, own: OwnEndpoints, allowLoopback: boolean): void {
    this.#homeDerp = peer.homeDerp;
    this.#learn(peer.endpoints, LEARNED.fromMap, own, allowLoopback);
  }

  get hasDisco(): boolean {
    return this.boxKey !== undefined;
  }

  get candidates(): readonly Candidate[] {
    return this.#candidates;
  }

  get deadline(): number {
    if (!this.#candidates.some((candidate) => candidate.isDue)) return this.heartbeatAt;
    return Math.min(this.heartbeatAt, this.#probeTokens >= 1 ? -Infinity : this.#tokensAt + 1000 / PROBES_PER_SECOND);
  }

  isActive(now: number): boolean {
    return now - this.lastSentAt <= ACTIVE_MS;
  }

  isTrusted(now: number): boolean {
    return this.#best !== undefined && now <= this.#trustedUntil;
  }

  distrust(): void {
    this.#trustedUntil = -Infinity;
    for (const candidate of this.#candidates) candidate.pingedAt = -Infinity;
  }

  /** The region through which we reach the peer; 0 = none. */
  get derpRegion(): number {
    if (this.#isWireGuardOnly) return 0;
    return this.#homeDerp !== 0 ? this.#homeDerp : this.#heardRegion;
  }

  derpPath(): number {
    const region = this.derpRegion;
    if (region === 0) return -1;
    const known = this.#derpWay;
    if (known?.path.kind === "derp" && known.path.region === region && this.#isCurrent(known)) return known.number;
    this.#derpWay = this.#way({ kind: "derp", region, nodeKey: this.nodeKeyHex });
    return this.#derpWay.number;
  }

  pathOf(candidate: Candidate): number {
    return this.#way({ kind: "udp", address: candidate.address, port: candidate.port }).number;
  }

  directPath(): number {
    if (this.#best === undefined) return -1;
    if (this.#bestWay === undefined || !this.#isCurrent(this.#bestWay)) {
      this.#bestWay = this.#way({ kind: "udp", address: this.#best.address, port: this.#best.port });
    }
    return this.#bestWay.number;
  }

  bestPath(now: number): number {
    if (this.#isWireGuardOnly) return this.#roamingPath(now);
    if (this.isTrusted(now)) return this.directPath();
    const derp = this.derpPath();
    return derp >= 0 ? derp : this.directPath();
  }

  secondPath(now: number): number {
    if (this.#best === undefined || now <= this.#trustedUntil || this.#isWireGuardOnly) return -1;
    return this.derpPath() < 0 ? -1 : this.directPath();
  }

  /** The table may have given a number away since; ours is asked for again then. */
  #isCurrent(way: Way): boolean {
    return this.#table.get(way.number) === way.path;
  }

  #way(path: Path): Way {
    const key = path.kind === "udp" ? formatAddressPort(path) : String(path.region);
    const known = this.#ways.get(key);
    if (known !== undefined && this.#isCurrent(known)) return known;
    const number = this.#table.intern(path);
    if (this.#ways.size >= 2 * MOST_CANDIDATES) this.#ways.clear();
    const way = { path: this.#table.get(number)!, number };
    this.#ways.set(key, way);
    return way;
  }

  #setBest(candidate: Candidate | undefined): void {
    if (candidate === this.#best) return;
    this.#best = candidate;
    this.#bestWay = undefined;
  }

  #roamingPath(now: number): number {
    const isSilent = this.#roamedAt === -Infinity || now - this.#roamedAt > ROAM_MS;
    if ((this.#roaming === undefined || isSilent) && this.#candidates.length > 0) {
      const next = this.#candidates[this.#turn++ % this.#candidates.length]!;
      this.#roaming = { kind: "udp", address: next.address, port: next.port };
      this.#roamedAt = now;
    }
    return this.#roaming === undefined ? -1 : this.#way(this.#roaming).number;
  }

  /** Something authentic came by `way`. */
  heardFrom(way: Path, number: number, now: number): void {
    if (way.kind === "derp") {
      this.#heardRegion = way.region;
      // It sends through the relay, and the way that we trust is silent: it will be no way any more.
      if (now - this.#unansweredSince >= SILENCE_MS) this.#trustedUntil = -Infinity;
    } else if (this.#isWireGuardOnly) {
      this.#roaming = way;
      this.#roamedAt = now;
    } else if (number === this.#bestWay?.number) {
      this.#answered();
    }
  }

  #answered(): void {
    this.#unansweredSince = Infinity;
    this.#doubtedAt = Infinity;
  }

  /** We send data. Gives the direct path when it is to be asked whether it still is one; -1 = not now. */
  sent(now: number): number {
    this.lastSentAt = now;
    if (this.#unansweredSince === Infinity) this.#unansweredSince = now;
    if (now - this.#unansweredSince < SILENCE_MS || !this.isTrusted(now)) return -1;
    if (this.#doubtedAt === Infinity) {
      this.#doubtedAt = now;
      return this.directPath();
    }
    const patienceMs = Math.max(SILENCE_MS, 3 * (this.#best?.latencyMs ?? 0));
    if (now - this.#doubtedAt >= patienceMs) this.#trustedUntil = -Infinity;
    return -1;
  }

  armHeartbeat(now: number): void {
    this.heartbeatAt = now + HEARTBEAT_MS;
  }

  wantsFullPing(now: number): boolean {
    if (!this.isTrusted(now)) return true;
    return (this.#best?.latencyMs ?? 0) > GOOD_LATENCY_MS && now - this.#fullPingAt >= FULL_PING_MS;
  }

  /** Queues a ping to every candidate that had none lately. */
  probeAll(now: number): boolean {
    this.#fullPingAt = now;
    let isAny = false;
    for (const candidate of this.#candidates) {
      if (now - candidate.pingedAt < PING_SPACING_MS || candidate.isDue) continue;
      candidate.isDue = true;
      isAny = true;
    }
    return isAny;
  }

  /** The next candidate to ping now, within the limit of probes per second. */
  nextProbe(now: number): Candidate | undefined {
    const due = this.#candidates.filter((one) => one.isDue);
    const candidate = due.find((one) => one.pingedBackAt > one.pingedAt) ?? due[0];
    if (candidate === undefined) return undefined;
    const refill = ((now - this.#tokensAt) * PROBES_PER_SECOND) / 1000;
    if (refill >= 1) {
      this.#probeTokens = Math.min(PROBES_PER_SECOND, this.#probeTokens + Math.floor(refill));
      this.#tokensAt = now;
    }
    if (this.#probeTokens < 1) return undefined;
    this.#probeTokens--;
    candidate.isDue = false;
    candidate.pingedAt = now;
    return candidate;
  }

  sentCallMeMaybe(now: number): void {
    this.callMeMaybeAfter = now + PING_SPACING_MS;
  }

  /** The peer's list, sent through DERP: it is pinging us at this moment, so we ping back at once. */
  calledMe(endpoints: readonly string[], own: OwnEndpoints, allowLoopback: boolean, _now: number): void {
    this.#learn(endpoints, LEARNED.fromCallMeMaybe, own, allowLoopback);
    for (const candidate of this.#candidates) candidate.isDue = true;
  }

  /**
   * An authentic ping came from there. True: it is pinged back at once. Our own ping may have met a NAT that its sender
   * had not opened yet; upstream would try again with the next heartbeat only.
   */
  pingedFrom(endpoint: string, tx: string, own: OwnEndpoints, now: number): boolean {
    const known = this.#candidates.find((one) => one.endpoint === endpoint);
    const candidate = known ?? parseCandidate(endpoint);
    if (candidate === undefined || candidate.heardTx === tx) return false;
    if (known === undefined) {
      if (isForbidden(candidate) || own.isOurs(candidate.address, candidate.port) || !this.#makeRoom()) return false;
      this.#candidates.push(candidate);
    }
    candidate.learned |= LEARNED.fromPing;
    candidate.heardAt = now;
    candidate.heardTx = tx;
    if (this.isTrusted(now) || !this.isActive(now) || now - candidate.pingedBackAt < PING_BACK_MS) return false;
    candidate.pingedBackAt = now;
    candidate.isDue = true;
    return true;
  }

  pongFrom(endpoint: string, latencyMs: number, now: number): void {
    const candidate = this.#candidates.find((one) => one.endpoint === endpoint);
    if (candidate === undefined) return; // forgotten since
    candidate.latencyMs = latencyMs;
    if (!this.isTrusted(now) || isBetter(candidate, this.#best)) this.#setBest(candidate);
    if (candidate !== this.#best) return;
    this.#trustedUntil = now + TRUST_MS;
    this.#answered();
  }

  pingTimedOut(to: Path, now: number): void {
    if (to.kind !== "udp" || this.#best === undefined || this.isTrusted(now)) return;
    if (this.#best.address === to.address && this.#best.port === to.port) this.#setBest(undefined);
  }

  /** Drops candidates that only pings told of, long ago. */
  forgetStale(now: number): void {
    for (const candidate of this.#candidates) {
      if (now - candidate.heardAt > ACTIVE_MS) candidate.learned &= ~LEARNED.fromPing;
    }
    this.#prune();
  }

  #learn(endpoints: readonly string[], learned: number, own: OwnEndpoints, allowLoopback: boolean): void {
    const parsed = endpoints.map(parseCandidate).filter((one) => one !== undefined);
    const isLocalOnly = own.hasOnlyLoopback && parsed.every(({ bytes }) => isLoopback(bytes));
    for (const candidate of this.#candidates) candidate.learned &= ~learned;
    for (const candidate of parsed) {
      if (isForbidden(candidate) || own.isOurs(candidate.address, candidate.port)) continue;
      if (isLoopback(candidate.bytes) && !allowLoopback && !isLocalOnly) continue;
      const known = this.#candidates.find((one) => one.endpoint === candidate.endpoint);
      if (known !== undefined) known.learned |= learned;
      else if (this.#makeRoom()) this.#candidates.push({ ...candidate, learned });
    }
    this.#prune();
  }

  /** Room for one more: at the cost of one that nothing names any more, or that only a ping told of. */
  #makeRoom(): boolean {
    if (this.#candidates.length < MOST_CANDIDATES) return true;
    this.#prune();
    if (this.#candidates.length < MOST_CANDIDATES) return true;
    const guests = this.#candidates.filter((one) => one.learned === LEARNED.fromPing && one !== this.#best);
    const oldest = guests.sort((a, b) => a.heardAt - b.heardAt)[0];
    if (oldest === undefined) return false;
    this.#candidates = this.#candidates.filter((one) => one !== oldest);
    return true;
  }

  #prune(): void {
    this.#candidates = this.#candidates.filter((one) => one.learned !== 0);
    if (this.#best !== undefined && !this.#candidates.includes(this.#best)) {
      this.#setBest(undefined);
      this.#trustedUntil = -Infinity;
    }
  }
}
