import type { ServeConfig } from "../wire/serve-config.ts";

/** One configuration of the lasting part and all open foreground sessions; a foreground port wins (upstream `ipn/serve.go`). */
export function effectiveConfig(config: ServeConfig | null): ServeConfig {
  const { Foreground = {}, ...lasting } = config ?? {};
  let whole: ServeConfig = lasting;
  for (const part of Object.values(Foreground)) {
    whole = {
      ...whole,
      TCP: { ...whole.TCP, ...part.TCP },
      Web: { ...whole.Web, ...part.Web },
      AllowFunnel: { ...whole.AllowFunnel, ...part.AllowFunnel },
    };
  }
  return whole;
}
