import type { StoredServeConfig } from "../../wire/ipn.ts";
import { leasedPort, leaseKey, type ServeConfig } from "../../wire/serve-config.ts";
import { splitSite } from "../../wire/site.ts";

/**
 * A lease goes with what it was for: what is served on the port later by another command is another matter. Upstream's
 * `serve` does not know `*:2222`, and would leave it in place; but it always takes `<own name>:2222` out of `AllowFunnel`
 * (`cmd/tailscale/cli/serve_v2.go:applyFunnel`), and `funnel` turns it on. So that is put there, turned off, beside each
 * lease: where it is gone, or on, somebody has said anew what the port is for. `isEdit`: `given` was made of `before`, and
 * not by somebody who never saw such a mark; without one the port must be for the same thing then.
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
  const leases = [...leasesIn(config)];
  for (const port of new Set([...leases, ...leasesIn(before)])) {
    const isKept = leases.includes(port) && isLeft(port, config, past);
    if (!isKept) open.delete(leaseKey(port));
    for (const [key, isOn] of open) if (!isOn && splitSite(key).port === port) open.delete(key);
    const mark = `${ownName}:${port}`;
    if (isKept && ownName !== "" && !open.has(mark)) open.set(mark, false);
  }
  const { AllowFunnel: _, ...rest } = config;
  return open.size === 0 ? rest : { ...rest, AllowFunnel: Object.fromEntries(open) };
}

/** Is this lease still what it was, or new? */
function isLeft(port: number, config: ServeConfig, { before, ownName, isEdit }: Past): boolean {
  if ((config.TCP?.[port]?.TCPForward ?? "") === "") return false;
  const { AllowFunnel: open = {} } = config;
  const mark = open[`${ownName}:${port}`];
  if (mark === false || !leasesIn(before).has(port)) return true;
  if (mark === true) return false;
  // A node that was renamed meanwhile has a mark under its name of before, which tells less.
  const isMarked = Object.entries(open).some(([key, isOn]) => !isOn && splitSite(key).port === port);
  return (isMarked || !isEdit) && JSON.stringify(config.TCP?.[port]) === JSON.stringify(before.TCP?.[port]);
}

function leasesIn({ AllowFunnel = {} }: ServeConfig): Set<number> {
  const ports = Object.entries(AllowFunnel).flatMap(([key, isOn]) => (isOn ? (leasedPort(key) ?? []) : []));
  return new Set(ports);
}
