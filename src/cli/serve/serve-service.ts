import { isServiceName } from "../../config/services.ts";
import type { IpnStatus } from "../../wire/ipn.ts";
import type { ServeConfig, ServiceConfig } from "../../wire/serve-config.ts";
import { CliExit, type CliIo } from "../io.ts";
import type { LocalClient } from "../local-client.ts";
import { terminalText } from "../terminal-text.ts";
import type { ServeChange } from "./serve-args.ts";
import { applyOff, applySet, type KindOfPath } from "./serve-change.ts";
import { serviceHost } from "./serve-text.ts";

export type ServiceVerb = "advertise" | "drain" | "clear";

/** What `serve --service=svc:NAME …` changes (upstream `serve_v2.go` with `forService`): always in the background. */
export function applyToService(
  config: ServeConfig,
  change: ServeChange & { readonly service: string },
  status: IpnStatus,
  kindOf: KindOfPath,
): ServeConfig {
  const host = serviceHost(change.service, status);
  const { [change.service]: before, ...others } = config.Services ?? {};
  const isTcp = change.kind === "tcp" || change.kind === "tls-terminated-tcp";
  if (change.action === "off" && before === undefined && !isTcp)
    throw new CliExit("failed to remove web serve: service does not exist");
  if (change.action === "set" && before?.Tun) {
    throw new CliExit(`cannot add TCP or web handlers as TUN mode is enabled for ${change.service}`);
  }
  const apply = change.action === "set" ? applySet : applyOff;
  const own: ServiceConfig = apply(before ?? {}, change, host, kindOf).config;
  const isEmpty = Object.keys(own).length === 0;
  return { ...config, Services: isEmpty ? others : { ...others, [change.service]: own } };
}

/** Services that this node offers to host; it tells the server of them. */
export async function advertise(client: LocalClient, service: string, isOffered: boolean): Promise<void> {
  const { AdvertiseServices } = await client.prefs();
  const before = AdvertiseServices ?? [];
  if (before.includes(service) === isOffered) return;
  const after = isOffered ? [...before, service] : before.filter((name) => name !== service);
  await client.editPrefs({ AdvertiseServices: after, AdvertiseServicesSet: true });
}

/** `serve advertise|drain|clear svc:NAME`. */
export async function actOnService(
  verb: ServiceVerb,
  service: string,
  io: CliIo,
  client: LocalClient,
): Promise<number> {
  const refusal = serviceNameRefusal(service);
  if (refusal !== undefined) throw new CliExit(`invalid service name: ${refusal}`);
  if (verb === "clear") {
    const { config, etag } = await client.serveConfig();
    const { [service]: gone, ...others } = config?.Services ?? {};
    await advertise(client, service, false);
    if (gone === undefined) io.stderr(`service ${terminalText(service)} not found in serve config, nothing to clear\n`);
    else await client.setServeConfig({ ...config, Services: others }, etag);
  } else await advertise(client, service, verb === "advertise");
  return 0;
}

/** Why this is no name of a service, in upstream's words (`tailcfg.ServiceName.Validate`, `dnsname.ValidLabel`). */
export function serviceNameRefusal(service: string): string | undefined {
  if (isServiceName(service)) return undefined;
  if (!service.startsWith("svc:")) return `"${service}" is not a valid service name: must start with 'svc:'`;
  const label = service.slice("svc:".length);
  if (label === "") return `"${service}" is not a valid service name: must not be empty after the 'svc:' prefix`;
  if (Buffer.byteLength(label) > 63) return `"${label}" is too long, max length is 63 bytes`;
  const why = !/^[a-z0-9]/i.test(label)
    ? "must start with a letter or number"
    : !/[a-z0-9]$/i.test(label)
      ? "must end with a letter or number"
      : `contains invalid character '${/[^a-z0-9-]/iu.exec(label)?.[0] ?? ""}'`;
  return `"${label}" is not a valid DNS label: ${why}`;
}
