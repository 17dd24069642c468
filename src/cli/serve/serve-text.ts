import { byUtf8 } from "../../config/serve-document.ts";
import { claimRefusals } from "../../funnel/claim-text.ts";
import { claimsIn } from "../../gateway/funnel/funnel-wish.ts";
import { claimAnswers } from "../../wire/claims.ts";
import { publicNameClaims } from "../../wire/funnel.ts";
import { wildcardOf } from "../../wire/host-name.ts";
import type { IpnStatus } from "../../wire/ipn.ts";
import {
  type HttpHandler,
  leasedPort,
  leaseKey,
  type ServeConfig,
  type ServiceConfig,
  type TcpPortHandler,
  type WebServerConfig,
} from "../../wire/serve-config.ts";
import { type SiteParts, splitSite } from "../../wire/site.ts";
import { terminalText } from "../terminal-text.ts";
import type { ServeChange } from "./serve-args.ts";

/** The program's name in what it tells to run. */
const PROGRAM = "sallyport";
const TEXT_SHOWN = 20;

/** This node's full name, without the final dot. */
export function nodeName(status: IpnStatus): string {
  return status.Self.DNSName.replace(/\.$/, "");
}

function shown(handler: HttpHandler): { readonly type: string; readonly value: string } {
  if (handler.Path) return { type: "path", value: handler.Path };
  if (handler.Proxy) return { type: "proxy", value: handler.Proxy };
  if (handler.Text) {
    const bytes = Buffer.from(handler.Text);
    const text =
      bytes.length <= TEXT_SHOWN
        ? handler.Text
        : `${bytes
            .subarray(0, TEXT_SHOWN - 3)
            .toString("utf8")
            .replace(/\ufffd+$/, "")}...`;
    return { type: "text", value: `"${text}"` };
  }
  return { type: "", value: handler.Redirect ?? "" };
}

/** Shorter mounts first. */
function mountsOf(web: WebServerConfig | undefined): readonly (readonly [mount: string, handler: HttpHandler])[] {
  return Object.entries(web?.Handlers ?? {}).sort(
    ([left], [right]) => left.length - right.length || byUtf8(left, right),
  );
}

function forwardLines(
  name: string,
  port: string,
  handler: TcpPortHandler,
  note: string,
  addresses: readonly string[],
): string {
  const ips = addresses.map((ip) => `|-- tcp://${ip.includes(":") ? `[${ip}]` : ip}:${port}\n`);
  const forward = handler.TCPForward ?? "";
  const to = forward.startsWith("unix:") ? forward : `tcp://${forward}`;
  return `|-- tcp://${name}:${port}${note}\n${ips.join("")}|--> ${terminalText(to)}\n`;
}

/** What was set up, after it was (upstream `serve_v2.go:messageForPort`). */
export function successMessage(config: ServeConfig, change: ServeChange, status: IpnStatus): string {
  const name = change.domain ?? nodeName(status);
  const reach = change.isFunnel ? "Available on the internet:" : "Available within your tailnet:";
  const text = `${reach}\n\n${servedText(config, change, name, status.TailscaleIPs ?? [])}`;
  if (!change.isBackground) return `${text}Press Ctrl+C to exit.\n`;
  const kind = change.isLease === true ? "lease" : change.kind;
  const domain = change.domain === undefined ? "" : ` --domain=${quoted(change.domain)}`;
  return text + howToEnd(change.isFunnel ? "funnel" : "serve", `--${kind}=${change.port}${domain}`);
}

/** The same of a service: `service-host` says whether it has been approved, and which addresses it has. */
export function serviceMessage(service: string, own: ServiceConfig, change: ServeChange, status: IpnStatus): string {
  const [hosted] = (status.Self.CapMap?.["service-host"] ?? []) as readonly Readonly<
    Record<string, readonly string[]>
  >[];
  const addresses = hosted !== undefined && Object.hasOwn(hosted, service) ? hosted[service] : undefined;
  const reach =
    addresses === undefined
      ? `This machine is configured as a service proxy for ${service}, but approval from an admin is required. Once approved, it will be available in your Tailnet as:`
      : "Available within your tailnet:";
  const text = `${reach}\n\n${servedText(own, change, serviceHost(service, status), addresses ?? [])}`;
  const end = howToEnd("serve", `--service=${service} --${change.kind}=${change.port}`);
  return `${text}${end}To remove config for the service, run: ${PROGRAM} serve clear ${service}\n`;
}

function howToEnd(command: "serve" | "funnel", flags: string): string {
  const who = command === "funnel" ? "Funnel" : "Serve";
  return `${who} started and running in the background.\nTo disable the proxy, run: ${PROGRAM} ${command} ${flags} off\n`;
}

export function serviceHost(service: string, status: IpnStatus): string {
  const name = nodeName(status);
  return `${service.slice("svc:".length)}${name.slice(name.indexOf("."))}`;
}

/** All that is served on the port of `change` under `name`. */
function servedText(
  { TCP = {}, Web = {} }: ServiceConfig,
  change: ServeChange,
  name: string,
  addresses: readonly string[],
): string {
  const port = String(change.port);
  const tcp = TCP[port];
  if (tcp?.TCPForward) {
    const notes = [
      ...(tcp.TerminateTLS ? ["TLS terminated"] : []),
      ...(tcp.ProxyProtocol ? [`PROXY protocol v${tcp.ProxyProtocol}`] : []),
      ...(change.isLease === true ? ["raw port"] : []),
    ];
    return `${forwardLines(name, port, tcp, notes.length > 0 ? ` (${notes.join(", ")})` : "", addresses)}\n`;
  }
  const scheme = tcp?.HTTP ? "http" : "https";
  return mountsOf(Web[`${name}:${port}`])
    .map(([mount, handler]) => {
      const { type, value } = shown(handler);
      const line = `|-- ${type.padEnd(5)} ${terminalText(value)}`.trimEnd();
      return `${address(scheme, name, change.port)}${terminalText(mount)}\n${line}\n\n`;
    })
    .join("");
}

/** `serve status` without --json (upstream `serve_legacy.go:printServeStatusTree`, `serve_status.go`). */
export function statusText(config: ServeConfig, status: IpnStatus): string {
  const name = nodeName(status);
  let text = funnelBlock(config, name);
  const ports = Object.entries(config.TCP ?? {}).sort(([left], [right]) => Number(left) - Number(right));
  const forwards = ports.filter(([, handler]) => handler.TCPForward && !handler.HTTP && !handler.HTTPS);
  for (const [port, handler] of forwards) {
    const isLeased = config.AllowFunnel?.[leaseKey(port)] === true;
    const isNamed = config.AllowFunnel?.[`${name}:${port}`] === true;
    const domains = Object.entries(config.AllowFunnel ?? {}).flatMap(([key, isOn]) => {
      const site = splitSite(key);
      return isOn && site.port === Number(port) && site.name !== name ? [terminalText(site.name)] : [];
    });
    const isPublic = isNamed || domains.length > 0;
    const as = domains.length > 0 ? ` as ${[...(isNamed ? [name] : []), ...domains].join(", ")}` : "";
    const reach = isLeased ? "Funnel on, raw port" : isPublic ? `Funnel on${as}` : "tailnet only";
    const note = ` (${handler.TerminateTLS ? "TLS-terminated TCP, " : ""}${reach})`;
    text += forwardLines(name, port, handler, note, status.TailscaleIPs ?? []);
  }
  if (forwards.length > 0) text += "\n";
  for (const key of Object.keys(config.Web ?? {}).sort(byUtf8)) {
    const { name: host, port } = splitSite(key);
    const isHttp = config.TCP?.[port]?.HTTP === true;
    const reach = config.AllowFunnel?.[key] ? "Funnel on" : "tailnet only";
    const short = host.split(".")[0] ?? host;
    const isOfMesh = host.slice(short.length) === name.slice(name.indexOf(".")); // else nobody finds it by one word
    if (isHttp && isOfMesh) text += `${address("http", short, port)} (${reach})\n`;
    text += `${address(isHttp ? "http" : "https", host, port)} (${reach})\n${mountLines(config.Web?.[key])}\n`;
  }
  for (const service of Object.keys(config.Services ?? {}).sort(byUtf8)) {
    text += serviceText(config, service, status.CurrentTailnet?.MagicDNSSuffix ?? status.MagicDNSSuffix);
  }
  return text;
}

function serviceText(config: ServeConfig, service: string, suffix: string): string {
  const found = config.Services?.[service];
  if (found === undefined) return "";
  const host = `${service.replace(/^svc:/, "")}.${suffix}`;
  if (found.Tun) return `tun (L3 forwarding) (${terminalText(service)})\n\n`;
  let text = "";
  for (const [port, handler] of Object.entries(found.TCP ?? {}).sort(
    ([left], [right]) => Number(left) - Number(right),
  )) {
    if (!handler.TCPForward) continue;
    const note = handler.TerminateTLS ? "TLS-terminated TCP, tailnet only" : "tailnet only";
    const forward = handler.TCPForward;
    const to = forward.startsWith("unix:") ? forward : `tcp://${forward}`;
    text += `${terminalText(`tcp://${host}:${port}`)} (${note}) (${terminalText(service)})\n|--> ${terminalText(to)}\n\n`;
  }
  for (const key of Object.keys(found.Web ?? {}).sort(byUtf8)) {
    const { port } = splitSite(key);
    const scheme = found.TCP?.[port]?.HTTP ? "http" : "https";
    text += `${address(scheme, host, port)} (tailnet only) (${terminalText(service)})\n${mountLines(found.Web?.[key])}\n`;
  }
  return text;
}

function address(scheme: "http" | "https", host: string, port: number): string {
  const isUsual = port === (scheme === "https" ? 443 : 80);
  return terminalText(`${scheme}://${host}${isUsual ? "" : `:${port}`}`);
}

function mountLines(web: WebServerConfig | undefined): string {
  const mounts = mountsOf(web);
  const width = Math.max(0, ...mounts.map(([mount]) => mount.length));
  return mounts
    .map(([mount, handler]) => {
      const { type, value } = shown(handler);
      return `|-- ${terminalText(mount.padEnd(width))} ${type.padEnd(5)} ${terminalText(value)}\n`;
    })
    .join("");
}

/** Which addresses the internet reaches; empty when none. */
export function funnelBlock(config: ServeConfig | null, ownName: string): string {
  const open = Object.entries(config?.AllowFunnel ?? {}).filter(([, isOn]) => isOn);
  for (const foreground of Object.values(config?.Foreground ?? {})) {
    open.push(...Object.entries(foreground.AllowFunnel ?? {}).filter(([, isOn]) => isOn));
  }
  if (open.length === 0) return "";
  const lines = open.map(([key]) => {
    const { name: host, port } = splitSite(key);
    if (Number.isNaN(port)) return `#     - ${terminalText(key)} (nobody comes: no name and port)\n`;
    if (leasedPort(key) !== undefined) return `#     - ${terminalText(`tcp://${ownName}:${port}`)} (raw port)\n`;
    const isTcp = Boolean(config?.TCP?.[port]?.TCPForward);
    return `#     - ${isTcp ? terminalText(`tcp://${host}:${port}`) : address("https", host, port)}\n`;
  });
  return `\n# Funnel on:\n${lines.sort(byUtf8).join("")}\n`;
}

/** Funnelled ports that nothing serves: said on stderr. */
export function funnelWarnings(config: ServeConfig): readonly string[] {
  return Object.entries(config.AllowFunnel ?? {})
    .filter(([key, isOn]) => isOn && config.TCP?.[splitSite(key).port] === undefined)
    .map(
      ([key]) =>
        `Warning: funnel=on for ${terminalText(key)}, but no serve config\n         run: \`${PROGRAM} serve --help\` to see how to configure handlers`,
    );
}

/** Public by our configuration, but no visitor is brought here: where the network says which names it routes to us (FN-9). */
export function unroutedNames(config: ServeConfig, status: IpnStatus): readonly string[] {
  const routed = publicNameClaims(status.Self.CapMap);
  if (routed.length === 0) return []; // another server, or it has not heard of us yet
  const isRouted = ({ name: host, port }: SiteParts): boolean =>
    routed.some(({ name, ports }) => (name === host || name === wildcardOf(host)) && ports.includes(port));
  const wanted = Object.entries(config.AllowFunnel ?? {}).filter(([, isOn]) => isOn);
  return wanted.flatMap(([key]) => (leasedPort(key) !== undefined || isRouted(splitSite(key)) ? [] : [key]));
}

export function unroutedWarnings(config: ServeConfig, status: IpnStatus): readonly string[] {
  const answers = claimAnswers(status.Self.CapMap ?? undefined) ?? [];
  const refused = claimRefusals(claimsIn(config, nodeName(status)), answers, nodeName(status));
  const isAnswered = (key: string): boolean => answers.some(({ claim }) => claim === splitSite(key).name);
  const unrouted = unroutedNames(config, status).filter((key) => !isAnswered(key));
  return [
    ...refused.map((text) => `Warning: ${terminalText(text)}`),
    ...unrouted.map(
      (key) =>
        `Warning: visitors of ${terminalText(key)} are not brought here: the network's policy gives it to nobody or to another node`,
    ),
  ];
}

/** As a shell takes it: it would look for files of a wildcard's name. */
function quoted(domain: string): string {
  return domain.startsWith("*") ? `'${domain}'` : domain;
}
