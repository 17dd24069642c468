import type { ServeConfig } from "../../wire/serve-config.ts";
import { splitSite } from "../../wire/site.ts";
import type { ServeChange } from "./serve-args.ts";
import { type Applied, applyOff } from "./serve-change.ts";

/**
 * What is public is taken back in whatever state the node is (FN-8): out of the mesh, without a name because no network map
 * ever came, or with something left over that nothing serves.
 */
export function applyFunnelOff(config: ServeConfig, request: ServeChange, ownName: string): Applied {
  const name = ownName === "" ? servedName(config, request.port) : ownName;
  const key = `${name}:${request.port}`;
  try {
    return applyOff(config, request, name);
  } catch (thrown) {
    const { AllowFunnel: open = {} } = config;
    const handler = config.TCP?.[request.port];
    if (handler !== undefined || request.isLease === true || !Object.hasOwn(open, key)) throw thrown;
    const kept = Object.entries(open).filter(([other]) => other !== key);
    return { config: { ...config, AllowFunnel: Object.fromEntries(kept) }, notes: [] };
  }
}

/** The one name that something is served under on this port; empty: none, or several. */
function servedName({ Web = {}, AllowFunnel = {} }: ServeConfig, port: number): string {
  const keys = [...Object.keys(Web), ...Object.keys(AllowFunnel)].filter((key) => key.endsWith(`:${port}`));
  const names = new Set(keys.map((key) => splitSite(key).name).filter((name) => !name.startsWith("*")));
  const [name = "", ...others] = names;
  return others.length === 0 ? name : "";
}
