import { serveConfigEtag } from "../config/serve-document.ts";
import type { ServeConfig } from "../wire/serve-config.ts";
import { splitSite } from "../wire/site.ts";

/** One configuration of the lasting part and all open foreground sessions; a foreground port wins (upstream `ipn/serve.go`). */
export function effectiveConfig(config: ServeConfig | null): ServeConfig {
  const { Foreground = {}, ...lasting } = config ?? {};
  let whole: ServeConfig = lasting;
  for (const part of Object.values(Foreground)) {
    whole = {
      ...whole,
      TCP: { ...whole.TCP, ...part.TCP },
      Web: { ...whole.Web, ...part.Web },
      AllowFunnel: { ...withoutPorts(whole.AllowFunnel, Object.keys(part.TCP ?? {})), ...part.AllowFunnel },
    };
  }
  return whole;
}

/** `now` with nothing public that `next` does not make public. */
export function concealed(now: ServeConfig, next: ServeConfig | null): ServeConfig {
  const { AllowFunnel: open = {} } = effectiveConfig(next);
  const kept = Object.entries(now.AllowFunnel ?? {}).filter(([name]) => Object.hasOwn(open, name) && open[name]);
  return { ...now, AllowFunnel: Object.fromEntries(kept) };
}

/** Is nothing else changed than what hangs on commands in the foreground? It ends with them, and is never on disk. */
export function isOfForeground(before: ServeConfig | null, after: ServeConfig | null): boolean {
  const [{ Foreground: was, ...kept }, { Foreground: is, ...lasting }] = [before ?? {}, after ?? {}];
  const isSame = (one: ServeConfig, other: ServeConfig): boolean => serveConfigEtag(one) === serveConfigEtag(other);
  return isSame(kept, lasting) && !isSame({ Foreground: was ?? {} }, { Foreground: is ?? {} });
}

/** What is public was said of what stood there then: a foreground port of the same number is not public by it. */
function withoutPorts(open: ServeConfig["AllowFunnel"] = {}, ports: readonly string[]): ServeConfig["AllowFunnel"] {
  const taken = new Set(ports.map(Number));
  return Object.fromEntries(Object.entries(open).filter(([key]) => !taken.has(splitSite(key).port)));
}
