import type { StoredServeConfig } from "../../wire/ipn.ts";
import { leasedPort, type ServeConfig } from "../../wire/serve-config.ts";
import { splitSite } from "../../wire/site.ts";

/**
 * A lease, and a domain of one's own that a TCP port is public under, go with what they were for: what is served on the port
 * later by another command is another matter. Upstream's `serve` does not know `*:2222` and `shop.example.org:2222`, and would
 * leave them in place; but it always takes `<own name>:2222` out of `AllowFunnel` (`cmd/tailscale/cli/serve_v2.go:applyFunnel`),
 * and `funnel` turns it on. So that is put there, turned off, beside each: where it is gone, or on, somebody has said anew what
 * the port is for. `isEdit`: `given` was made of `before`, and not by somebody who never saw such a mark; without one the port
 * must be for the same thing then.
 */
export function settledLeases(
  given: ServeConfig,
  { before, ownName, isEdit }: Omit<Past, "before"> & { readonly before: StoredServeConfig },
): ServeConfig {
  const { Foreground, ...lasting } = given;
  const { Foreground: partsBefore = {}, ...lastingBefore } = before ?? {};
  const own = settled(lasting, { before: lastingBefore, ownName, isEdit });
  if (Foreground === undefined) return own;
  const parts = Object.entries(Foreground).map(([session, part]) => {
    const partBefore = (Object.hasOwn(partsBefore, session) ? partsBefore[session] : undefined) ?? {};
    return [session, settled(part, { before: partBefore, ownName, isEdit })] as const;
  });
  return { ...own, Foreground: Object.fromEntries(parts) };
}

interface Past {
  readonly before: ServeConfig;
  readonly ownName: string;
  readonly isEdit: boolean;
}

function settled(config: ServeConfig, past: Past): ServeConfig {
  const { before, ownName } = past;
  const open = new Map(Object.entries(config.AllowFunnel ?? {}));
  const markable = markableKeys(config, ownName);
  for (const port of new Set([...markable.values(), ...markableKeys(before, ownName).values()])) {
    let isKept = false;
    for (const [key, its] of markable) {
      if (its !== port) continue;
      const isHere = isLeft(key, port, config, past);
      if (!isHere) open.delete(key);
      isKept ||= isHere;
    }
    for (const [key, isOn] of open) if (!isOn && splitSite(key).port === port) open.delete(key);
    const mark = `${ownName}:${port}`;
    if (isKept && ownName !== "" && !open.has(mark)) open.set(mark, false);
  }
  const { AllowFunnel: _, ...rest } = config;
  return open.size === 0 ? rest : { ...rest, AllowFunnel: Object.fromEntries(open) };
}

/** Is this lease, or domain, still what it was, or new? */
function isLeft(key: string, port: number, config: ServeConfig, { before, ownName, isEdit }: Past): boolean {
  const isLease = leasedPort(key) !== undefined;
  if (isLease && (config.TCP?.[port]?.TCPForward ?? "") === "") return false;
  const { AllowFunnel: open = {} } = config;
  const mark = open[`${ownName}:${port}`];
  if (mark === false || before.AllowFunnel?.[key] !== true) return true;
  if (mark === true) return !isLease; // public it is in any case; but in one way
  // A node that was renamed meanwhile has a mark under its name of before, which tells less.
  const isMarked = Object.entries(open).some(([other, isOn]) => !isOn && splitSite(other).port === port);
  return (isMarked || !isEdit) && JSON.stringify(config.TCP?.[port]) === JSON.stringify(before.TCP?.[port]);
}

/** Public in ways that upstream's commands do not know, by key: its port. */
function markableKeys({ AllowFunnel = {}, TCP = {} }: ServeConfig, ownName: string): ReadonlyMap<string, number> {
  const found = new Map<string, number>();
  for (const [key, isOn] of Object.entries(AllowFunnel)) {
    const { name, port } = splitSite(key);
    const isDomain = ownName !== "" && name !== ownName && Boolean(TCP[port]?.TCPForward);
    if (isOn && (leasedPort(key) !== undefined || isDomain)) found.set(key, port);
  }
  return found;
}
