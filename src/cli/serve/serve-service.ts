import { isServiceName } from "../../config/services.ts";
import type { IpnStatus } from "../../wire/ipn.ts";
import type { ServeConfig, ServiceConfig } from "../../wire/serve-config.ts";
import { CliExit, type CliIo } from "../io.ts";
import type { LocalClient } from "../local-client.ts";
import { terminalText } from "../terminal-text.ts";
import type { ServeChange } from "./serve-args.ts";
import { applyOff, applySet, type KindOfPath } from "./serve-change.ts";
import { nodeName } from "./serve-text.ts";

export type ServiceVerb = "advertise" | "drain" | "clear";

/** What `serve --service=svc:NAME …` changes (upstream `serve_v2.go` with `forService`): always in the background. */
export function applyToService(
  config: ServeConfig,
  change: ServeChange & { readonly service: string },
  status: IpnStatus,
  kindOf: KindOfPath,
): ServeConfig {
  const host = serviceHost(change.service, status);
  const { [change.service]: before = {}, ...others } = config.Services ?? {};
  if (change.action === "set" && before.Tun) {
    throw new CliExit(`cannot add TCP or web handlers as TUN mode is enabled for ${change.service}`);
  }
  const apply = change.action === "set" ? applySet : applyOff;
  const own: ServiceConfig = apply(before, change, host, kindOf).config;
  const isEmpty = Object.keys(own).length === 0;
  return { ...config, Services: isEmpty ? others : { ...others, [change.service]: own } };
}

export function serviceHost(service: string, status: IpnStatus): string {
  const name = nodeName(status);
  return `${service.slice("svc:".length)}${name.slice(name.indexOf("."))}`;
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
  checkServiceName(service);
  if (verb === "clear") {
    const { config, etag } = await client.serveConfig();
    const { [service]: gone, ...others } = config?.Services ?? {};
    await advertise(client, service, false);
    if (gone === undefined) io.stderr(`service ${terminalText(service)} not found in serve config, nothing to clear\n`);
    else await client.setServeConfig({ ...config, Services: others }, etag);
  } else await advertise(client, service, verb === "advertise");
  return 0;
}

export function checkServiceName(service: string): void {
  if (!isServiceName(service))
    throw new CliExit(`invalid service name: "${service}", wanted svc: and one DNS label`, 2);
}

/** What to know after a service was set up. */
export function serviceMessage(service: string, { kind, port }: ServeChange, status: IpnStatus): string {
  const [hosted] = (status.Self.CapMap?.["service-host"] ?? []) as readonly Readonly<Record<string, unknown>>[];
  const isApproved = hosted !== undefined && Object.hasOwn(hosted, service);
  const head = isApproved
    ? "Available within your tailnet:"
    : `This machine hosts ${service} once an administrator of the network has created and approved it, as:`;
  const scheme = kind === "https" || kind === "http" ? kind : "tcp";
  const isUsual = (kind === "https" && port === 443) || (kind === "http" && port === 80);
  const address = `${scheme}://${serviceHost(service, status)}${isUsual ? "" : `:${port}`}`;
  return terminalLinesOf([
    head,
    "",
    address,
    "",
    "Serve started and running in the background.",
    `To disable the proxy, run: sallyport serve --service=${service} --${kind}=${port} off`,
    `To remove config for the service, run: sallyport serve clear ${service}`,
  ]);
}

const terminalLinesOf = (lines: readonly string[]): string => `${lines.map(terminalText).join("\n")}\n`;
