import { leaseKey, type ServeConfig } from "../wire/serve-config.ts";

/** One configuration of the lasting part and all open foreground sessions; a foreground port wins (upstream `ipn/serve.go`). */
export function effectiveConfig(config: ServeConfig | null): ServeConfig {
  const { Foreground = {}, ...lasting } = config ?? {};
  let whole: ServeConfig = lasting;
  for (const part of Object.values(Foreground)) {
    whole = {
      ...whole,
      TCP: { ...whole.TCP, ...part.TCP },
      Web: { ...whole.Web, ...part.Web },
      AllowFunnel: { ...withoutLeases(whole.AllowFunnel, Object.keys(part.TCP ?? {})), ...part.AllowFunnel },
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

/** A lease is for what it was said of: a foreground port of the same number is not public by it. */
function withoutLeases(open: ServeConfig["AllowFunnel"] = {}, ports: readonly string[]): ServeConfig["AllowFunnel"] {
  const keys = new Set(ports.map(leaseKey));
  return Object.fromEntries(Object.entries(open).filter(([key]) => !keys.has(key)));
}
