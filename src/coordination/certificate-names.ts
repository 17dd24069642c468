import type { Core } from "./core.ts";
import type { Ledger } from "./ledger.ts";
import { nameOf } from "./node-view.ts";
import type { Change, NodeRecord } from "./records.ts";
import { hostedBy, servicesOf } from "./services.ts";

const DAY_MS = 86_400_000;
/** No public CA gives more from March 2026 on (CA/Browser Forum ballot SC-081v3). */
const LONGEST_LIFE_MS = 200 * DAY_MS;
const SETTING = "certifiedNames";
const MOST_NAMES = 20_000;

/** Names that `node` may have certificates for: its own, and those of services that it hosts and somebody approved. */
export function certificateNames(node: NodeRecord, ledger: Ledger, baseDomain: string): readonly string[] {
  if (node.gateways !== undefined || node.isUnapproved === true) return [];
  const hosted = Object.keys(hostedBy(node, servicesOf(ledger))).toSorted();
  return [nameOf(node, baseDomain), ...hosted.map((name) => `${name.slice("svc:".length)}.${baseDomain}`)];
}

/** Is `name` the whole name of a node or service that may have a certificate? */
export function isCertificateName(core: Core, name: string): boolean {
  const { ledger, options } = core;
  const node = core.named(name);
  if (node !== undefined) return certificateNames(node, ledger, options.baseDomain).length > 0;
  const suffix = `.${options.baseDomain}`;
  return name.endsWith(suffix) && servicesOf(ledger).has(`svc:${name.slice(0, -suffix.length)}`);
}

interface Certified {
  /** Who proved it: a user, or tags. */
  readonly owner: string;
  /** Unix time in ms at which the last certificate is surely over. */
  readonly until: number;
}

export function ownerKey({ userId, tags }: Pick<NodeRecord, "userId" | "tags">): string {
  return tags.length > 0 ? tags.toSorted().join() : `user:${userId}`;
}

const parsed: WeakMap<Ledger, { readonly text: string; readonly names: ReadonlyMap<string, Certified> }> =
  new WeakMap();

function certifiedNames(ledger: Ledger): ReadonlyMap<string, Certified> {
  const text = ledger.settings.get(SETTING) ?? "{}";
  let known = parsed.get(ledger);
  if (known?.text !== text) {
    known = { text, names: new Map(Object.entries(JSON.parse(text) as Record<string, Certified>)) };
    parsed.set(ledger, known);
  }
  return known.names;
}

/**
 * A name that was given up, but that a certificate of its last owner may still speak for: nobody else gets it before that
 * is over.
 */
export function isResting(ledger: Ledger, label: string, owner: string | undefined, wall: number): boolean {
  const last = certifiedNames(ledger).get(label);
  return last !== undefined && last.until > wall && last.owner !== owner;
}

/** Notes, before it is possible, that `node` gets a certificate for `label`. */
export async function noteCertified(core: Core, label: string, node: NodeRecord): Promise<void> {
  const owner = ownerKey(node);
  const isNoted = (last: Certified | undefined): boolean =>
    last?.owner === owner && last.until > core.wall + LONGEST_LIFE_MS - DAY_MS;
  if (isNoted(certifiedNames(core.ledger).get(label))) return;
  await core.exclusive(async () => {
    const names = new Map(certifiedNames(core.ledger));
    names.set(label, { owner, until: core.wall + LONGEST_LIFE_MS });
    const kept = [...names].filter(([, { until }]) => until > core.wall).slice(-MOST_NAMES);
    await core.ledger.commit([changeTo(kept)]);
  });
}

/** An administrator knows that the certificate is revoked, or that its owner may be trusted. */
export function releaseName(core: Core, label: string, by: string): Promise<boolean> {
  return core.exclusive(async () => {
    const names = new Map(certifiedNames(core.ledger));
    if (!names.delete(label)) return false;
    await core.ledger.commit([changeTo([...names]), core.entry(by, "name.release", label)]);
    return true;
  });
}

function changeTo(names: readonly (readonly [string, Certified])[]): Change {
  return { put: "setting", name: SETTING, value: JSON.stringify(Object.fromEntries(names)) };
}
