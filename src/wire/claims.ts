import { capabilityValues } from "./capabilities.ts";
import { foldPattern } from "./host-name.ts";
import type { CapMap, Hostinfo, HostService } from "./tailcfg.ts";

// What a node may claim of the Internet beside its own name, in words of ours (docs/design/0004-funnel.md): a domain of the
// operator's, or a raw port of the ingresses. Both are one text, since no name is all digits: `shop.example.org`, `2222`.

/** The node attribute whose values `{"names": ["demo.example.org", "*.demo.example.org"]}` grant own domains. */
export const DOMAINS_ATTRIBUTE: string = "sallyport.dev/domains";
/** The node attribute whose values `{"ports": ["2222", "7000-7010"]}` grant raw ports. */
export const PORTS_ATTRIBUTE: string = "sallyport.dev/ports";
/** In a node's own `CapMap`: what became of each of its claims, `{"claim": "2222", "state": "held"}`. */
export const CLAIMS: string = "sallyport.dev/claims";
/** In a peer's `CapMap`, as an ingress sees it: raw ports that lead to it, `{"port": 2222}`. */
export const LEASES: string = "sallyport.dev/leases";

/** In `Hostinfo.Services`: a claim, by port or by the name in `Description`; and the ports that an ingress has to let. */
const CLAIM_PROTO = "sallyport-claim";
const LEASABLE_PROTO = "sallyport-leasable";
/** The same: which question this is. The answers say which one they are to. */
const SERIAL_PROTO = "sallyport-claims";

export const CLAIM_STATES = ["held", "taken", "ungranted", "closed", "crowded"] as const;

/**
 * `taken`: another node holds it. `ungranted`: the policy does not give it. `closed`: no ingress has this port to let.
 * `crowded`: the node claims too many.
 */
export type ClaimState = (typeof CLAIM_STATES)[number];

export interface ClaimAnswer {
  readonly claim: string;
  readonly state: ClaimState;
  /** The server's own name, or its name server's: `ungranted` for good, whatever the policy says. */
  readonly isServers?: true;
}

export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** Leases of one node. */
export const MOST_LEASES = 64;
const MOST_CLAIMS = 256;
const MOST_RANGES = 256;
const LONGEST_SERIAL = 32;

export const isPortClaim = (claim: string): boolean => /^\d+$/.test(claim);

/** `2222,7000-7010`; undefined: that is no list of ports. */
export function parsePortRanges(text: string): readonly PortRange[] | undefined {
  const parts = text.split(",");
  if (parts.length > MOST_RANGES) return undefined;
  const ranges = parts.map((part): PortRange | undefined => {
    const [, first = "", last = first] = /^ *(\d{1,5})(?:-(\d{1,5}))? *$/.exec(part) ?? [];
    const range = { first: Number(first), last: Number(last) };
    return range.first > 0 && range.first <= range.last && range.last < 65_536 ? range : undefined;
  });
  return ranges.every((range) => range !== undefined) ? ranges : undefined;
}

export function formatPortRanges(ranges: readonly PortRange[]): string {
  return ranges.map(({ first, last }) => (first === last ? `${first}` : `${first}-${last}`)).join();
}

export function isInRanges(ranges: readonly PortRange[], port: number): boolean {
  return ranges.some(({ first, last }) => first <= port && port <= last);
}

/** What a node tells the server that it claims; `serial` is another one for every other list. */
export function claimServices(claims: readonly string[], serial?: string): readonly HostService[] {
  const told = claims.map((claim) =>
    isPortClaim(claim)
      ? { Proto: CLAIM_PROTO, Port: Number(claim) }
      : { Proto: CLAIM_PROTO, Port: 0, Description: claim },
  );
  if (told.length === 0 || serial === undefined) return told;
  return [...told, { Proto: SERIAL_PROTO, Port: 0, Description: serial }];
}

/** Which question a node's claims are. */
export function claimSerial({ Services = [] }: Hostinfo): string | undefined {
  return Services.find(({ Proto }) => Proto === SERIAL_PROTO)?.Description?.slice(0, LONGEST_SERIAL);
}

/** All that these words say, to be compared. */
export function claimsText({ Services = [] }: Hostinfo): string {
  const own: readonly string[] = [CLAIM_PROTO, SERIAL_PROTO, LEASABLE_PROTO];
  return JSON.stringify(Services.filter(({ Proto }) => own.includes(Proto)));
}

/** What a node says that it claims, each once; names folded. */
export function claimsOf({ Services = [] }: Hostinfo): readonly string[] {
  const told = Services.filter(({ Proto }) => Proto === CLAIM_PROTO).slice(0, MOST_CLAIMS);
  return [...new Set(told.flatMap(({ Port, Description }) => (Port > 0 ? `${Port}` : named(Description))))];
}

const named = (name: string | undefined): string | readonly [] => foldPattern(name ?? "") ?? [];

export function leasableServices(ranges: readonly PortRange[]): readonly HostService[] {
  return ranges.length === 0 ? [] : [{ Proto: LEASABLE_PROTO, Port: 0, Description: formatPortRanges(ranges) }];
}

/** Ports that an ingress says it has to let. */
export function leasablePorts({ Services = [] }: Hostinfo): readonly PortRange[] {
  const told = Services.find(({ Proto }) => Proto === LEASABLE_PROTO)?.Description;
  return (told === undefined ? undefined : parsePortRanges(told)) ?? [];
}

/** The names that these attributes grant, folded; what is no name is left out. */
export function grantedDomains(attributes: CapMap): readonly string[] {
  return listed(attributes, DOMAINS_ATTRIBUTE, "names").flatMap((name) =>
    typeof name === "string" ? (foldPattern(name) ?? []) : [],
  );
}

/** What is wrong with one value of a grant, for who writes it: what is not understood grants nothing. */
export function grantProblem(attribute: string, value: unknown): string | undefined {
  const member = attribute === DOMAINS_ATTRIBUTE ? "names" : attribute === PORTS_ATTRIBUTE ? "ports" : undefined;
  if (member === undefined) return undefined;
  const example = member === "names" ? '["demo.example.org", "*.demo.example.org"]' : '["2222", "7000-7010"]';
  const members = Object.entries(Object(value) as object);
  const list: unknown = members.length === 1 && members[0]![0] === member ? members[0]![1] : undefined;
  if (!Array.isArray(list)) return `wanted {"${member}": ${example}}`;
  const isGood = (one: unknown): boolean =>
    member === "names"
      ? typeof one === "string" && foldPattern(one) !== undefined
      : (typeof one === "string" || typeof one === "number") && parsePortRanges(String(one)) !== undefined;
  const bad: unknown = list.find((one) => !isGood(one));
  return bad === undefined ? undefined : `found ${JSON.stringify(bad)}, wanted such as ${example}`;
}

/** The raw ports that these attributes grant. */
export function grantedPorts(attributes: CapMap): readonly PortRange[] {
  return listed(attributes, PORTS_ATTRIBUTE, "ports").flatMap((range) =>
    typeof range === "string" || typeof range === "number" ? (parsePortRanges(String(range)) ?? []) : [],
  );
}

/** Undefined: the server has no word for claims. */
export function claimAnswers(capMap: CapMap | undefined): readonly ClaimAnswer[] | undefined {
  return capabilityValues(capMap, CLAIMS)
    ?.slice(0, MOST_CLAIMS)
    .flatMap((value) => {
      const { claim, state, isServers } = Object(value) as Readonly<Record<string, unknown>>;
      const known = CLAIM_STATES.find((one) => one === state);
      if (typeof claim !== "string" || known === undefined) return [];
      return [{ claim, state: known, ...(isServers === true ? { isServers } : {}) }];
    });
}

/** Which question the answers are to. */
export function answeredSerial(capMap: CapMap | undefined): string | undefined {
  const values = capabilityValues(capMap, CLAIMS) ?? [];
  const serials = values.map((value) => (Object(value) as { readonly serial?: unknown }).serial);
  return serials.find((serial) => typeof serial === "string");
}

/** Raw ports that lead to a peer. */
export function leasedPorts(capMap: CapMap | undefined): readonly number[] {
  const values = capabilityValues(capMap, LEASES) ?? [];
  return values.slice(0, MOST_LEASES).flatMap((value) => {
    const { port } = Object(value) as { readonly port?: unknown };
    return Number.isInteger(port) && Number(port) > 0 && Number(port) < 65_536 ? [Number(port)] : [];
  });
}

function listed(attributes: CapMap, attribute: string, member: string): readonly unknown[] {
  const values = (Object.hasOwn(attributes, attribute) ? attributes[attribute] : undefined) ?? [];
  return values.flatMap((value) => {
    const list: unknown = (Object(value) as Readonly<Record<string, unknown>>)[member];
    return Array.isArray(list) ? list : [];
  });
}
