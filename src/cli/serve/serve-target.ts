import { CliExit } from "../io.ts";

const LOOPBACK: readonly string[] = ["localhost", "127.0.0.1", "::1"];

/** Upstream's split of `[scheme://][user@]host[:port][/rest]`; `URL` would lose letter case, default ports and path as typed. */
interface Parts {
  readonly scheme: string;
  readonly user: string;
  readonly host: string;
  readonly port: string | undefined;
  readonly tail: string;
}

/** @throws {CliExit} with what Go's `net/url` says */
function split(text: string): Parts {
  const fail = (why: string): never => {
    throw new CliExit(`invalid URL parse ${JSON.stringify(text)}: ${why}`);
  };
  if (hasControl(text)) fail("net/url: invalid control character in URL");
  const at = text.indexOf("://");
  if (at === 0) fail("missing protocol scheme");
  const scheme = text.slice(0, at).toLowerCase();
  const rest = text.slice(at + 3);
  const end = rest.search(/[/?]|$/); // Go's ParseRequestURI knows no fragment
  const [authority, tail] = [rest.slice(0, end), rest.slice(end)];
  const userEnd = authority.lastIndexOf("@") + 1;
  const [user, hostPort] = [authority.slice(0, userEnd), authority.slice(userEnd)];
  if (/^\[[^\]]*$/.test(hostPort)) fail("missing ']' in host");
  // A colon too many: of the web's schemes Go takes the first one, else the last.
  const form = WEB.test(scheme) ? /^(\[[^\]]*\]|[^:]*)(?::(.*))?$/s : /^(\[[^\]]*\]|.*?)(?::([^:]*))?$/s;
  const [, host = "", port = ""] = form.exec(hostPort) ?? [
    undefined,
    "",
    hostPort.slice(hostPort.lastIndexOf(":") + 1),
  ];
  const ofHost = /%.{0,2}/.exec(host.replace(/^\[.*\]$/, ""));
  const [badEscape] = ofHost ?? /%(?![0-9a-f]{2}).{0,2}/i.exec(tail.replace(/\?.*/s, "")) ?? [];
  if (badEscape !== undefined) fail(`invalid URL escape "${badEscape}"`);
  if (!/^\d*$/.test(port)) fail(`invalid port ":${port}" after host`);
  const odd = /[ "<>\\^`{|}]/.exec(host)?.[0];
  if (odd !== undefined) fail(`invalid character ${JSON.stringify(odd)} in host name`);
  return { scheme, user, host, port: port === "" ? undefined : port, tail: escaped(tail) };
}

const WEB = /^https?$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const hasControl = (text: string): boolean => /[\u0000-\u001f\u007f]/.test(text);

/** Path and query as they travel: no octet that a request line has no room for (Go's `url.EscapedPath`). */
function escaped(tail: string): string {
  const query = tail.indexOf("?");
  const path = query < 0 ? tail : tail.slice(0, query);
  const kept = path.replace(/[^A-Za-z0-9\-_.~$&+,/:;=@!'()*[\]%]/gu, (character) => encodeURIComponent(character));
  return `${kept}${query < 0 ? "" : tail.slice(query).replaceAll("#", "%23")}`;
}

/** Upstream `dnsname.ValidHostname`, or an address. */
function isHostName(host: string): boolean {
  if (/^\[[0-9a-f:.]+\]$/i.test(host)) return true;
  return /^(?=.{1,254}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*\.?$/i.test(
    host,
  );
}

/**
 * A target as it is stored (upstream `ipn/serve.go:ExpandProxyTargetValue`, same order, same texts). Differences: port 0 and
 * user:password are refused, and `[::1]` keeps its brackets.
 */
export function expandTarget(target: string, schemes: readonly string[], fallback: string): string {
  if (target === "") throw new CliExit("empty target");
  if (/^\d+$/.test(target) && Number(target) <= 65535) {
    if (Number(target) === 0) throw new CliExit('invalid port "0"');
    return `${fallback}://127.0.0.1:${Number(target)}`;
  }
  if (target.startsWith("unix:") && schemes.includes("unix")) {
    if (target === "unix:") throw new CliExit("unix socket path cannot be empty");
    return target;
  }
  const hasScheme = target.includes("://");
  const full = hasScheme ? target : `${fallback}://${target}`;
  const parts = split(full);
  if (!schemes.includes(parts.scheme)) {
    throw new CliExit(`must be a URL starting with one of the supported schemes: [${schemes.join(" ")}]`);
  }
  const bare = parts.host.replace(/^\[(.*)\]$/, "$1");
  if (!isHostName(parts.host)) throw new CliExit(`invalid hostname or IP address "${bare}"`);
  const isLocal = LOOPBACK.includes(bare);
  if (!isLocal && !hasScheme) throw new CliExit(`non-localhost target "${full}" must include a scheme`);
  if (isLocal && parts.port === undefined) throw new CliExit(`port required for localhost target "${full}"`);
  if (parts.user.includes(":")) {
    throw new CliExit("target with a password: every reader of the configuration would see it; leave the password out");
  }
  if (parts.port === undefined) return `${parts.scheme}://${parts.user}${parts.host}${parts.tail}`;
  const port = Number(parts.port);
  if (port === 0 || port > 65535) throw new CliExit(`invalid port "${parts.port}"`);
  return `${parts.scheme}://${parts.user}${parts.host}:${port}${parts.tail}`;
}

export const WEB_SCHEMES: readonly string[] = ["http", "https", "https+insecure", "unix"];
export const TCP_SCHEMES: readonly string[] = ["tcp", "unix"];

/** `host:port` or `unix:path` of a TCP target that was expanded. `target`: as it was typed. */
export function forwardOf(full: string, target: string): string {
  if (full.startsWith("unix:")) return full;
  const { host, port } = split(full);
  if (port === undefined) throw new CliExit(`TCP target "${target}" must include a port`);
  return `${host}:${port}`;
}

/** Go's `path.Clean` for absolute paths. */
export function cleanPath(text: string): string {
  const kept: string[] = [];
  for (const part of text.split("/")) {
    if (part === "" || part === ".") continue;
    if (part === "..") kept.pop();
    else kept.push(part);
  }
  return `/${kept.join("/")}`;
}

/** Upstream `cleanURLPath`: clean, perhaps with one slash at the end. */
export function cleanMount(text: string): string {
  if (text === "") return "/";
  const rooted = text.startsWith("/") ? text : `/${text}`;
  const clean = cleanPath(rooted);
  if (rooted === clean || rooted === `${clean}/`) return rooted;
  throw new CliExit(`failed to clean the mount point: invalid mount point "${rooted}"`);
}
