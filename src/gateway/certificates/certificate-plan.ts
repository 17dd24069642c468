import type { WantedCertificate } from "../../certs/keeper.ts";
import { isWildcardOfOthers } from "../../certs/wanted-names.ts";
import { type CertificatesConfig, type ChallengeConfig, isCertificateName } from "../../config/certificates.ts";
import { publicNameClaims } from "../../wire/funnel.ts";
import { plainName, wildcardOf } from "../../wire/host-name.ts";
import type { ServeConfig } from "../../wire/serve-config.ts";
import { splitSite } from "../../wire/site.ts";
import type { CapMap } from "../../wire/tailcfg.ts";

const MOST_DOMAINS = 100;

/** What is known where it is decided which certificates there are to be. Names are in lower case, without a dot at the end. */
export interface PlanFacts {
  readonly settings: CertificatesConfig;
  /** Empty before the first network map. */
  readonly ownName: string;
  /** Names for which the coordination server puts our challenges into its zone. */
  readonly certDomains: readonly string[];
  /** The coordination server lets names below ours lead to us. */
  readonly ownWildcard: boolean;
  /** Names for which TLS ends here. */
  readonly served: readonly string[];
  /** Names whose visitors from the Internet, and so a CA, reach port 443 here. */
  readonly visited: readonly string[];
  /** The operator brought a certificate for it. */
  readonly hasFile: (name: string) => boolean;
}

export interface CertificatePlan {
  /** From a public CA. */
  readonly wanted: readonly WantedCertificate[];
  /** Served names that our own CA signs for. */
  readonly internal: ReadonlySet<string>;
  /** Of `internal`: names that a public CA would be asked for if there were a way to prove them. */
  readonly unprovable: readonly string[];
  /** Names that certificate transparency logs will show to everybody. */
  readonly published: readonly string[];
}

/** Says of every name which kind of certificate it gets. Nothing else than what is said here is ever ordered (AC-10). */
export function certificatePlan(facts: PlanFacts): CertificatePlan {
  const { settings, certDomains, ownName, served, hasFile } = facts;
  const named = new Map(Object.entries(settings.names ?? {}).map(([name, how]) => [plainName(name), how]));
  const isInternal = (name: string): boolean =>
    settings.authority === "internal" || named.get(name)?.authority === "internal";
  const wanted: WantedCertificate[] = [];
  const covered = new Set<string>();
  const internal = new Set<string>();
  const unprovable: string[] = [];
  const want = (names: readonly string[], when: "ahead" | "needed"): void => {
    const { keyType = settings.keyType, profile } = named.get(names[0]!) ?? {};
    for (const name of names) covered.add(name);
    wanted.push({
      names,
      when: named.get(names[0]!)?.when ?? when,
      ...(keyType === undefined ? {} : { keyType }),
      ...(profile === undefined ? {} : { profile }),
    });
  };
  // A stored configuration may hold any text where a name should be; it must not keep the others from theirs.
  const provable = (names: readonly string[]): boolean =>
    names.every((name) => isCertificateName(name) && canProve(name, facts));

  // Several names in one certificate, and names that others than we present.
  for (const [name, how] of named) {
    const names = [name, ...(how.with ?? []).map(plainName)];
    if (hasFile(name) || isInternal(name) || !provable(names)) continue;
    want(names, names.some((one) => served.includes(one)) ? "ahead" : "needed");
  }
  for (const domain of (settings.wildcards ?? []).map(plainName)) {
    const wildcard = `*.${domain}`;
    if (isInternal(wildcard) || covered.has(wildcard) || !provable([wildcard, domain])) continue;
    if (served.some((name) => name === wildcard || parentOf(name) === domain)) want([wildcard, domain], "ahead");
  }
  for (const name of served) {
    if (hasFile(name) || covered.has(name) || internal.has(name)) continue;
    if (!isInternal(name) && covered.has(`*.${parentOf(name)}`)) continue;
    if (!isInternal(name) && provable([name])) want([name], "ahead");
    else {
      internal.add(name);
      if (!isInternal(name) && name !== ownName) unprovable.push(name);
    }
  }
  // As upstream's `cert` has it: these may be had although nothing is served under them.
  for (const name of certDomains) {
    if (!covered.has(name) && !internal.has(name) && !isInternal(name) && !hasFile(name)) want([name], "needed");
  }
  const [wildcard, isAllowed] = [`*.${ownName}`, facts.ownWildcard && certDomains.includes(ownName)];
  if (isAllowed && !covered.has(wildcard) && !isInternal(wildcard) && !hasFile(wildcard)) {
    want([wildcard, ownName], "needed");
  }
  const published = wanted.filter(({ when }) => when === "ahead").flatMap(({ names }) => names);
  return { wanted, internal, unprovable, published };
}

/** The server's list, which may hold anything. */
export function certDomainsOf(listed: readonly string[] | undefined): readonly string[] {
  return (listed ?? []).map(plainName).filter(isCertificateName).slice(0, MOST_DOMAINS);
}

/** Names for which TLS ends here; plain HTTP wants no certificate. */
export function servedNames(config: ServeConfig): readonly string[] {
  const names = new Set<string>();
  for (const layer of [config, ...Object.values(config.Services ?? {})]) {
    for (const { TerminateTLS } of Object.values(layer.TCP ?? {})) if (TerminateTLS) names.add(plainName(TerminateTLS));
    for (const key of Object.keys(layer.Web ?? {})) {
      const { name, port } = splitSite(key);
      if (layer.TCP?.[port]?.HTTPS === true) names.add(plainName(name));
    }
  }
  return [...names];
}

/**
 * Names that our own configuration makes public on 443 and that the server leads here: there a CA finds its proof by
 * TLS-ALPN-01, through the ingress.
 */
export function visitedNames({ AllowFunnel = {} }: ServeConfig, capMap: CapMap | undefined): readonly string[] {
  const led = publicNameClaims(capMap).filter(({ ports }) => ports.includes(443));
  return Object.entries(AllowFunnel).flatMap(([key, isOn]) => {
    const name = isOn && key.endsWith(":443") ? plainName(key.slice(0, -":443".length)) : "";
    const isLed = led.some((claim) => claim.name === name || claim.name === wildcardOf(name));
    return isLed && !name.startsWith("*.") ? [name] : [];
  });
}

/** Is there a way to show a CA that the name is ours? Names of the mesh are the coordination server's, unless said otherwise. */
function canProve(name: string, { settings, certDomains, visited, ownName, ownWildcard }: PlanFacts): boolean {
  const isWildcard = name.startsWith("*.");
  const base = isWildcard ? name.slice(2) : name;
  if (certDomains.includes(name) || (isWildcard && ownWildcard && base === ownName && certDomains.includes(base))) {
    return true;
  }
  const suffix = parentOf(ownName);
  if (isWildcardOfOthers(name, { ownName, suffix })) return false;
  const isOfMesh = suffix !== "" && (base === suffix || base.endsWith(`.${suffix}`));
  if (!isWildcard && !isOfMesh && visited.includes(name)) return true;
  return (settings.challenges ?? []).some((challenge) => {
    if (challenge.type === "control" || (isWildcard && !isDns(challenge))) return false;
    return challenge.for === undefined ? !isOfMesh : challenge.for.some((domain) => isBelow(base, plainName(domain)));
  });
}

function isDns({ type }: ChallengeConfig): boolean {
  return type !== "http-01" && type !== "tls-alpn-01";
}

export function isBelow(name: string, domain: string): boolean {
  return name === domain || name.endsWith(`.${domain}`);
}

function parentOf(name: string): string {
  const dot = name.indexOf(".");
  return dot < 0 ? "" : name.slice(dot + 1);
}
