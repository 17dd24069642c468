import type { ServeConfig } from "../wire/serve-config.ts";
import { encodeServeConfig } from "./serve-document.ts";

/** What a new configuration changes, by listener: `tcp:443`, `gw.tail.test:443/docs`. */
export interface ServeDifference {
  readonly added: readonly string[];
  readonly removed: readonly string[];
  readonly changed: readonly string[];
}

/** Listeners and mounts that come, go, or do something else. Unchanged ones are not reopened. */
export function serveDifference(before: ServeConfig, after: ServeConfig): ServeDifference {
  const old = flatten(before);
  const next = flatten(after);
  return {
    added: [...next.keys()].filter((key) => !old.has(key)),
    removed: [...old.keys()].filter((key) => !next.has(key)),
    changed: [...next].filter(([key, value]) => old.has(key) && old.get(key) !== value).map(([key]) => key),
  };
}

function flatten(config: ServeConfig): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const [port, handler] of Object.entries(config.TCP ?? {})) {
    found.set(`tcp:${port}`, encodeServeConfig({ TCP: { [port]: handler } }));
  }
  for (const [host, web] of Object.entries(config.Web ?? {})) {
    for (const [mount, handler] of Object.entries(web.Handlers ?? {})) {
      found.set(`${host}${mount}`, encodeServeConfig({ Web: { [host]: { Handlers: { [mount]: handler } } } }));
    }
  }
  for (const [host, isAllowed] of Object.entries(config.AllowFunnel ?? {}))
    if (isAllowed) found.set(`funnel ${host}`, "true");
  for (const [name, service] of Object.entries(config.Services ?? {})) {
    found.set(name, encodeServeConfig({ Services: { [name]: service } }));
  }
  return found;
}
