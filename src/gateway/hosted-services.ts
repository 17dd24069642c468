import { serviceAddresses, type VipService } from "../mesh/hosted-services.ts";
import type { NetworkMap } from "../wire/network-map.ts";
import type { ServeConfig } from "../wire/serve-config.ts";

/** The service that has `address` here, and its name in the mesh. */
export function serviceAt(
  map: NetworkMap | undefined,
  address: string,
): { readonly service: string; readonly name: string } | undefined {
  const service = map === undefined ? undefined : serviceAddresses(map.self).get(address);
  if (service === undefined) return undefined;
  const suffix = map!.self.Name.replace(/\.$/, "").split(".").slice(1).join(".");
  return { service, name: `${service.slice("svc:".length)}.${suffix}` };
}

/** What the server is told: all that is configured, and all that is advertised (upstream `vipServicesFromPrefsLocked`). */
export function hostedServices({ Services = {} }: ServeConfig, advertised: readonly string[]): readonly VipService[] {
  const names = [...new Set([...Object.keys(Services), ...advertised])].toSorted();
  return names.map((Name) => {
    const { TCP = {}, Tun = false } = Services[Name] ?? {};
    const ports = Tun ? ["*"] : Object.keys(TCP).map((port) => `tcp:${port}`);
    return { Name, Ports: ports.length === 0 ? null : ports, Active: advertised.includes(Name) };
  });
}

/** Services that are to be hosted here and have no address yet. */
export function waitingServices(map: NetworkMap | undefined, advertised: readonly string[]): readonly string[] {
  if (map === undefined) return [];
  const approved = new Set(serviceAddresses(map.self).values());
  return advertised.filter((name) => !approved.has(name));
}
