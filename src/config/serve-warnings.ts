import { BlockList, isIP } from "node:net";
import { formatAddress, parseAddress, withoutBrackets } from "../base/address.ts";
import { asDialled, isUnspecified } from "../base/backend-places.ts";
import {
  type HttpHandler,
  leasedPort,
  type ServeConfig,
  type ServiceConfig,
  type TcpPortHandler,
  type WebServerConfig,
} from "../wire/serve-config.ts";
import { splitSite } from "../wire/site.ts";

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
  ownAddresses: readonly string[] = [],
): readonly string[] {
  if (config === null) return [];
  const found: string[] = [];
  const isOurs: IsOurs = (host, port) =>
    config.TCP?.[port] !== undefined &&
    (ownAddresses.includes(plainHost(host)) || config.Web?.[`${plainHost(host)}:${port}`] !== undefined);
  for (const [port, handler] of Object.entries(config.TCP ?? {})) found.push(...ofTcp(port, handler, isOurs));
  for (const [site, { Handlers }] of Object.entries(config.Web ?? {}))
    for (const [mount, handler] of Object.entries(Handlers ?? {}))
      found.push(...ofWeb(`${site}${mount}`, handler, isOurs));
  const { Foreground = {}, Services = {}, AllowFunnel = {} } = config as ServeConfig;
  for (const [site, isOpen] of Object.entries(AllowFunnel))
    if (isOpen && !isGuarded(site, config.Web?.[site], hasDoor))
      found.push(`${publicPlace(site)} is open to the internet, without login`);
  for (const part of [...Object.values(Foreground), ...Object.values(Services)])
    found.push(...serveWarnings(part, hasDoor, ownAddresses));
  return found;
}

/** As a person calls it. */
export function publicPlace(site: string): string {
  const lease = leasedPort(site);
  return lease === undefined ? site : `port ${lease}`;
}

/** Is there a door before all that is served there? */
function isGuarded(
  site: string,
  web: WebServerConfig | undefined,
  hasDoor: (name: string, port: number, mount: string) => boolean,
): boolean {
  const { name, port } = splitSite(site);
  const mounts = Object.keys(web?.Handlers ?? {});
  return mounts.length > 0 && mounts.every((mount) => hasDoor(name, port, mount));
}

type IsOurs = (host: string, port: number) => boolean;

function* ofTcp(port: string, { TCPForward = "" }: TcpPortHandler, isOurs: IsOurs): Generator<string> {
  if (TCPForward === "" || TCPForward.startsWith("unix:")) return;
  const [, given = TCPForward, to = ""] = /^(.*):(\d+)$/.exec(TCPForward) ?? [];
  const host = asDialled(given);
  if (isUnspecified(host)) yield `port ${port}: ${unspecified(host)}`;
  else if (isOurs(host, Number(to))) yield `port ${port}: ${goesRound(host, to)}`;
  else if (!isOwnMachine(host))
    yield `port ${port} is forwarded to ${host}, which is another machine: what lies between can read it`;
}

function* ofWeb(where: string, { Proxy: target = "" }: HttpHandler, isOurs: IsOurs): Generator<string> {
  if (target === "" || target.startsWith("unix:")) return;
  const [, scheme = "http", host = "", given] =
    /^(?:([a-z0-9+]+):\/\/)?(?:[^/@]*@)?(\[[^\]]*\]|[^/:]*)(?::(\d+))?/i.exec(target) ?? [];
  if (given === undefined && /^\d+$/.test(host)) return; // a port of this machine
  const port = given ?? (scheme.startsWith("https") ? "443" : "80");
  if (scheme === "https+insecure") yield `${where}: the certificate of ${host} is not verified`;
  if (isUnspecified(host)) yield `${where}: ${unspecified(host)}`;
  else if (isOurs(host, Number(port))) yield `${where}: ${goesRound(host, port)}`;
  else if (!isOwnMachine(host)) {
    yield `${where}: ${host} is another machine: whoever else reaches it there can send it any identity header; let it check Sallyport-Assertion (docs/identity.md)`;
  }
}

function unspecified(host: string): string {
  return `${host} is where a program listens, not where it is asked: write 127.0.0.1 or the machine that is meant`;
}

function goesRound(host: string, port: string): string {
  return `${host}:${port} is this gateway itself: a request would go round until it is answered 508`;
}

/** Without brackets, in the one spelling that we compare. */
function plainHost(host: string): string {
  const plain = withoutBrackets(host).toLowerCase();
  const bytes = parseAddress(plain);
  return bytes === undefined ? plain.replace(/\.$/, "") : formatAddress(bytes);
}

function isOwnMachine(host: string): boolean {
  const plain = withoutBrackets(host).toLowerCase();
  if (plain === "localhost" || plain.endsWith(".localhost") || plain === "") return true;
  const family = isIP(plain);
  return family !== 0 && LOOPBACK.check(plain, family === 4 ? "ipv4" : "ipv6");
}
