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

function split(text: string): Parts | { readonly badPort: string } {
  const at = text.indexOf("://");
  const scheme = text.slice(0, at).toLowerCase();
  const rest = text.slice(at + 3);
  const end = rest.search(/[/?]/); // Go's ParseRequestURI knows no fragment
  const authority = end < 0 ? rest : rest.slice(0, end);
  const tail = end < 0 ? "" : rest.slice(end).replaceAll("#", "%23");
  const userEnd = authority.lastIndexOf("@");
  const user = userEnd < 0 ? "" : authority.slice(0, userEnd + 1);
  const hostPort = authority.slice(userEnd + 1);
  const match = /^(\[[^\]]*\]|[^:]*)(?::(.*))?$/s.exec(hostPort);
  if (match === null) return { badPort: `:${hostPort.slice(hostPort.lastIndexOf(":") + 1)}` };
  const port = match[2];
  if (port !== undefined && !/^\d*$/.test(port)) return { badPort: `:${port}` };
  return { scheme, user, host: match[1] ?? "", port: port === "" ? undefined : port, tail };
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
  if ("badPort" in parts) throw new CliExit(`invalid URL parse "${full}": invalid port "${parts.badPort}" after host`);
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

/** `host:port` or `unix:path` of a TCP target. */
export function expandTcpTarget(target: string): string {
  const full = expandTarget(target, TCP_SCHEMES, "tcp");
  if (full.startsWith("unix:")) return full;
  const parts = split(full);
  if ("badPort" in parts) throw new CliExit(`invalid URL parse "${full}"`);
  if (parts.port === undefined) throw new CliExit(`TCP target "${target}" must include a port`);
  return `${parts.host}:${parts.port}`;
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
  throw new CliExit(`failed to clean the mount point: invalid mount point "${text}"`);
}
