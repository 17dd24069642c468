import type { CertificateStatus } from "../../certs/keeper.ts";
import type { ServeConfig } from "../../wire/serve-config.ts";
import type { LocalClient } from "../local-client.ts";
import { terminalText } from "../terminal-text.ts";

/** No visitor asks for a wildcard itself, so nobody can look at it from outside; but who signs for it is known (FN-9). */
export async function wildcardWarning(name: string, client: LocalClient): Promise<string | undefined> {
  const [warning] = await wildcardWarnings({ AllowFunnel: { [`${name}:443`]: true } }, client);
  return warning;
}

/** Of all wildcards that are public. */
export async function wildcardWarnings(config: ServeConfig, client: LocalClient): Promise<readonly string[]> {
  const open = Object.entries(config.AllowFunnel ?? {}).filter(([key, isOn]) => isOn && key.startsWith("*"));
  const names = new Set(open.map(([key]) => key.slice(0, key.lastIndexOf(":"))));
  if (names.size === 0) return [];
  const internal = (await certificatesOf(client)).filter(isInternal).flatMap((one) => one.names ?? []);
  return internal.filter((name) => names.has(name)).map(refusal);
}

const isInternal = ({ authority }: Partial<CertificateStatus>): boolean => authority === "internal";

async function certificatesOf(client: LocalClient): Promise<readonly Partial<CertificateStatus>[]> {
  const all = await client.certificates().catch(() => []);
  return Array.isArray(all) ? (all as readonly Partial<CertificateStatus>[]) : [];
}

function refusal(name: string): string {
  const shown = terminalText(name);
  return `visitors refuse the certificate of ${shown}, which is of this gateway's own CA: DNS-01 proves a wildcard (sallyport cert doctor '${shown}')`;
}
