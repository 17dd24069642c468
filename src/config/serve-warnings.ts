import { BlockList, isIP } from "node:net";
import type { HttpHandler, ServeConfig, ServiceConfig, TcpPortHandler, WebServerConfig } from "../wire/serve-config.ts";

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8, "ipv4");
LOOPBACK.addAddress("::1", "ipv6");

/**
 * What an operator should know though it is allowed (CF-7, ID-14): a backend elsewhere believes whoever reaches it, and an
 * unverified certificate may be anybody's.
 */
export function serveWarnings(
  config: ServeConfig | ServiceConfig | null,
  hasDoor: (name: string, port: number, mount: string) => boolean = () => false,
): readonly string[] {
  if (config === null) return [];
  const found: string[] = [];
  for (const [port, handler] of Object.entries(config.TCP ?? {})) found.push(...ofTcp(port, handler));
  for (const [site, { Handlers }] of Object.entries(config.Web ?? {}))
    for (const [mount, handler] of Object.entries(Handlers ?? {})) found.push(...ofWeb(`${site}${mount}`, handler));
  const { Foreground = {}, Services = {}, AllowFunnel = {} } = config as ServeConfig;
  for (const [site, isOpen] of Object.entries(AllowFunnel))
    if (isOpen && !isGuarded(site, config.Web?.[site], hasDoor))
      found.push(`${site} is open to the internet, without login`);
  for (const part of [...Object.values(Foreground), ...Object.values(Services)])
    found.push(...serveWarnings(part, hasDoor));
  return found;
}

/** Is there a door before all that is served there? */
function isGuarded(
  site: string,
  web: WebServerConfig | undefined,
  hasDoor: (name: string, port: number, mount: string) => boolean,
): boolean {
  const colon = site.lastIndexOf(":");
  const mounts = Object.keys(web?.Handlers ?? {});
  return (
    mounts.length > 0 && mounts.every((mount) => hasDoor(site.slice(0, colon), Number(site.slice(colon + 1)), mount))
  );
}

function* ofTcp(port: string, { TCPForward = "" }: TcpPortHandler): Generator<string> {
  const host = TCPForward.replace(/:\d+$/, "");
  if (TCPForward !== "" && !TCPForward.startsWith("unix:") && !isOwnMachine(host)) {
    yield `port ${port} is forwarded to ${host}, which is another machine: what lies between can read it`;
  }
}

function* ofWeb(where: string, { Proxy: target = "" }: HttpHandler): Generator<string> {
  if (target === "" || target.startsWith("unix:")) return;
  const [, scheme = "http", host = ""] = /^([a-z0-9+]+):\/\/(?:[^/@]*@)?(\[[^\]]*\]|[^/:]*)/i.exec(target) ?? [];
  if (scheme === "https+insecure") yield `${where}: the certificate of ${host} is not verified`;
  if (!isOwnMachine(host)) {
    yield `${where}: ${host} is another machine: whoever else reaches it there can send it any identity header; let it check Sallyport-Assertion (docs/identity.md)`;
  }
}

function isOwnMachine(host: string): boolean {
  const plain = host.replace(/^\[|\]$/g, "").toLowerCase();
  if (plain === "localhost" || plain.endsWith(".localhost") || plain === "") return true;
  const family = isIP(plain);
  return family !== 0 && LOOPBACK.check(plain, family === 4 ? "ipv4" : "ipv6");
}
