import {
  type AddressBytes,
  type Prefix,
  parseAddress,
  parseAddressPort,
  prefixContains,
  prefixes,
} from "../../base/address.ts";

/** How we know of an address of a peer. */
export const LEARNED = { fromMap: 1, fromCallMeMaybe: 2, fromPing: 4 } as const;

/** An address that a peer may be reachable at. Only a pong makes it more than a hint. */
export interface Candidate {
  /** `ip:port`. */
  readonly endpoint: string;
  readonly address: string;
  readonly port: number;
  readonly bytes: AddressBytes;
  /** Bits of `LEARNED`. */
  learned: number;
  /** When we last pinged it; -Infinity = never. */
  pingedAt: number;
  /** When its last ping came in; -Infinity = never. */
  heardAt: number;
  /** When that made us ping it in turn. */
  pingedBackAt: number;
  /** Transaction of its last ping, hex: a repeat proves nothing new. */
  heardTx: string;
  latencyMs: number;
  /** Waits for its turn to be pinged. */
  isDue: boolean;
}

export function parseCandidate(endpoint: string): Candidate | undefined {
  const parsed = parseAddressPort(endpoint);
  const bytes = parsed === undefined ? undefined : parseAddress(parsed.address);
  if (parsed === undefined || bytes === undefined) return undefined;
  return {
    endpoint: bytes.length === 4 ? `${parsed.address}:${parsed.port}` : `[${parsed.address}]:${parsed.port}`,
    address: parsed.address,
    port: parsed.port,
    bytes,
    learned: 0,
    pingedAt: -Infinity,
    heardAt: -Infinity,
    pingedBackAt: -Infinity,
    heardTx: "",
    latencyMs: Infinity,
    isDue: false,
  };
}

const LOOPBACK = prefixes("127.0.0.0/8", "::1/128");
const LINK_LOCAL = prefixes("169.254.0.0/16", "fe80::/10");
const PRIVATE = prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7");
/**
 * Nothing of ours ever goes there, whoever names it: a list of candidates must not make us the hammer of others (DD-3).
 * "This network", multicast and broadcast, cloud metadata, IPv6 link-local (has no zone), the mesh itself.
 */
const FORBIDDEN = prefixes(
  "0.0.0.0/8",
  "224.0.0.0/3",
  "169.254.169.254/32",
  "100.100.100.100/32",
  "::/128",
  "ff00::/8",
  "fe80::/10",
  "fd00:ec2::254/128",
  "fd7a:115c:a1e0::/48",
);

const isIn = (list: readonly Prefix[], bytes: AddressBytes) => list.some((prefix) => prefixContains(prefix, bytes));

export function isLoopback(bytes: AddressBytes): boolean {
  return isIn(LOOPBACK, bytes);
}

export function isForbidden(candidate: Candidate): boolean {
  return candidate.port === 0 || isIn(FORBIDDEN, candidate.bytes);
}

/** Whether `a` is to be preferred to `b`: upstream `magicsock/endpoint.go:betterAddr`, without relays and MTU probes. */
export function isBetter(a: Candidate, b: Candidate | undefined): boolean {
  if (b === undefined) return true;
  if (a === b) return false;
  let aPoints = 0;
  let bPoints = 0;
  if (a.latencyMs < b.latencyMs) aPoints = Math.trunc(100 - (a.latencyMs * 100) / b.latencyMs);
  else if (a.latencyMs > b.latencyMs) bPoints = Math.trunc(100 - (b.latencyMs * 100) / a.latencyMs);
  aPoints += pointsOf(a.bytes);
  bPoints += pointsOf(b.bytes);
  if (aPoints <= 1 && bPoints === 0) return false; // one per cent of hysteresis
  return aPoints > bPoints;
}

function pointsOf(bytes: AddressBytes): number {
  const near = isIn(LOOPBACK, bytes) ? 50 : isIn(LINK_LOCAL, bytes) ? 30 : isIn(PRIVATE, bytes) ? 20 : 0;
  return near + (bytes.length === 16 ? 10 : 0);
}
