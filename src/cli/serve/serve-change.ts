import { type HttpHandler, leaseKey, type ServeConfig, type TcpPortHandler } from "../../wire/serve-config.ts";
import { CliExit } from "../io.ts";
import type { ServeChange } from "./serve-args.ts";
import { cleanPath, expandTarget, forwardOf, TCP_SCHEMES, WEB_SCHEMES } from "./serve-target.ts";

/** What the file system of the command's process says of a path. */
export type KindOfPath = (path: string) => "file" | "directory" | "absent";

/** The configuration after a change, and what the user should know. Errors are `CliExit` with upstream's texts. */
export interface Applied {
  readonly config: ServeConfig;
  readonly notes: readonly string[];
}

/** Adds what `change` asks for to `config` (upstream `serve_v2.go:setServe`). `name` is this node's full name. */
export function applySet(config: ServeConfig, change: ServeChange, name: string, kindOf: KindOfPath): Applied {
  const isTcp = change.kind === "tcp" || change.kind === "tls-terminated-tcp";
  const next = isTcp ? setTcp(config, change, name) : setWeb(config, change, name, kindOf);
  const named = `${name}:${change.port}`;
  const leased = leaseKey(change.port);
  const { AllowFunnel: open = {} } = next;
  if (change.isFunnel) {
    // One port is public in one way: by name or as it is, which is said by both (gateway/funnel/lease-marks.ts).
    const said = change.isLease === true ? { [leased]: true, [named]: false } : { [named]: true };
    return { config: { ...next, AllowFunnel: { ...without(open, leased, named), ...said } }, notes: [] };
  }
  // A TCP port goes to one place, under whichever name.
  const isClosed = (key: string): boolean => key === named || key === leased || (isTcp && isOfPort(key, change.port));
  const closed = Object.keys(open).filter(isClosed);
  if (closed.length === 0) return { config: next, notes: [] };
  const gone = new Set(closed.flatMap((key) => (open[key] ? [key === leased ? named : key] : [])));
  const notes = [...gone].map((key) => `Removing Funnel for ${key}`);
  return { config: { ...next, AllowFunnel: without(open, ...closed) }, notes };
}

function setWeb(config: ServeConfig, change: ServeChange, name: string, kindOf: KindOfPath): ServeConfig {
  const found = webHandler(change, kindOf);
  const ports = config.TCP ?? {};
  const port = String(change.port);
  if (ownValue(ports, port)?.TCPForward) fail("web", "cannot serve web; already serving TCP");
  const key = `${name}:${port}`;
  const mount = found.isDirectory && !change.mount.endsWith("/") ? `${change.mount}/` : change.mount;
  // `/foo/` replaces `/foo`, and the reverse.
  const twin = mount.endsWith("/") ? mount.slice(0, -1) : `${mount}/`;
  const handlers = without(ownValue(config.Web ?? {}, key)?.Handlers ?? {}, twin);
  return {
    ...config,
    TCP: { ...ports, [port]: change.kind === "http" ? { HTTP: true } : { HTTPS: true } },
    Web: { ...config.Web, [key]: { Handlers: { ...handlers, [mount]: found.handler } } },
  };
}

function webHandler(
  change: ServeChange,
  kindOf: KindOfPath,
): { readonly handler: HttpHandler; readonly isDirectory: boolean } {
  const { target, acceptAppCaps } = change;
  const refuseCaps = (): void => {
    // Upstream drops them silently, which reads as protection that is not there.
    if (acceptAppCaps.length > 0) fail("web", "--accept-app-caps needs a web backend as target");
  };
  if (target.startsWith("text:")) {
    if (target === "text:") fail("web", "unable to serve; text cannot be an empty string");
    refuseCaps();
    return { handler: { Text: target.slice("text:".length) }, isDirectory: false };
  }
  if (target.startsWith("/")) {
    const path = cleanPath(target);
    const kind = kindOf(path);
    if (kind === "absent") fail("web", "invalid path");
    refuseCaps();
    return { handler: { Path: path }, isDirectory: kind === "directory" };
  }
  const proxy = guarded("web", "", () => expandTarget(target, WEB_SCHEMES, "http"));
  const caps = acceptAppCaps.length > 0 ? { AcceptAppCaps: acceptAppCaps } : {};
  return { handler: { Proxy: proxy, ...caps }, isDirectory: false };
}

function setTcp(config: ServeConfig, change: ServeChange, name: string): ServeConfig {
  if (change.isMountGiven) throw new CliExit("cannot mount a path for TCP serve");
  const full = guarded("tcp", "unable to expand target: ", () => expandTarget(change.target, TCP_SCHEMES, "tcp"));
  const forward = guarded("tcp", "", () => forwardOf(full, change.target));
  const port = String(change.port);
  const before = ownValue(config.TCP ?? {}, port);
  if (before?.HTTP || before?.HTTPS) fail("tcp", `cannot serve TCP; already serving web on ${port} for ${name}`);
  if (change.proxyProtocol > 0 && forward.startsWith("unix:")) {
    fail("tcp", "PROXY protocol is not supported with unix socket targets");
  }
  if (change.domain !== undefined && before?.TerminateTLS && before.TerminateTLS !== name)
    fail("tcp", `already ending TLS on ${port} for ${before.TerminateTLS}`);
  if (change.acceptAppCaps.length > 0) fail("tcp", "--accept-app-caps needs a web listener");
  const handler: TcpPortHandler = {
    TCPForward: forward,
    ...(change.kind === "tls-terminated-tcp" ? { TerminateTLS: name } : {}),
    ...(change.proxyProtocol > 0 ? { ProxyProtocol: change.proxyProtocol } : {}),
  };
  return { ...config, TCP: { ...config.TCP, [port]: handler } };
}

/** Mounts that `off` would remove, so that more than one can be asked about. */
export function mountsToRemove(config: ServeConfig, change: ServeChange, name: string): readonly string[] {
  if (change.kind === "tcp" || change.kind === "tls-terminated-tcp") return [];
  const mounts = Object.keys(ownValue(config.Web ?? {}, `${name}:${change.port}`)?.Handlers ?? {});
  return change.isMountGiven ? mounts.filter((mount) => mount === change.mount) : mounts;
}

/** Takes away what `change` names (upstream `serve_v2.go:unsetServe`). */
export function applyOff(config: ServeConfig, change: ServeChange, name: string): Applied {
  const port = String(change.port);
  const key = `${name}:${port}`;
  const before = ownValue(config.TCP ?? {}, port);
  if (change.kind === "tcp" || change.kind === "tls-terminated-tcp") {
    if (before === undefined) throw new CliExit("failed to remove TCP serve: serve config does not exist");
    if (before.HTTP || before.HTTPS) {
      throw new CliExit(
        `failed to remove TCP serve: unable to remove; serving web, not TCP forwarding on serve port ${port}`,
      );
    }
    return {
      config: withoutName(config, key, port, change.domain === undefined ? [] : openKeys(config)),
      notes: [],
    };
  }
  if (before?.TCPForward)
    throw new CliExit("failed to remove web serve: cannot remove web handler; currently serving TCP");
  const mounts = mountsToRemove(config, change, name);
  const isOtherKind = change.kind === "http" ? before?.HTTPS : before?.HTTP;
  // Upstream removes an `--http` mount for `--https`, too; here only what was named.
  if (mounts.length === 0 || isOtherKind) throw new CliExit("failed to remove web serve: handler does not exist");
  const handlers = { ...ownValue(config.Web ?? {}, key)?.Handlers };
  for (const mount of mounts) delete handlers[mount];
  if (Object.keys(handlers).length > 0) {
    return { config: { ...config, Web: { ...config.Web, [key]: { Handlers: handlers } } }, notes: [] };
  }
  return { config: withoutName(config, key, port, Object.keys(config.Web ?? {})), notes: [] };
}

const isOfPort = (key: string, port: number | string): boolean => key.endsWith(`:${port}`);

function openKeys({ AllowFunnel = {} }: ServeConfig): readonly string[] {
  return Object.keys(AllowFunnel).filter((key) => AllowFunnel[key]);
}

/** A port that others of `names` are served on stays open for them. */
function withoutName(config: ServeConfig, key: string, port: string, names: readonly string[]): ServeConfig {
  const isShared = names.some((name) => name !== key && isOfPort(name, port));
  const open = config.AllowFunnel ?? {};
  return tidy({
    ...config,
    TCP: isShared ? (config.TCP ?? {}) : without(config.TCP ?? {}, port),
    Web: without(config.Web ?? {}, key),
    // Who serves the port again later, to the tailnet alone, must not find it public.
    AllowFunnel: without(open, key, ...(isShared ? [] : Object.keys(open).filter((one) => isOfPort(one, port)))),
  });
}

/**
 * `funnel reset` here takes away only what `funnel` gave: the permission, not what the tailnet is served. What a command in the
 * foreground made public ends with that command.
 */
export function withoutFunnel(config: ServeConfig): ServeConfig {
  const { AllowFunnel: _, Foreground = {}, ...rest } = config;
  const kept = Object.entries(Foreground).filter(([, part]) => !Object.values(part.AllowFunnel ?? {}).includes(true));
  return kept.length === 0 ? rest : { ...rest, Foreground: Object.fromEntries(kept) };
}

function tidy(config: ServeConfig): ServeConfig {
  const kept = Object.entries(config).filter(([, member]) => member !== undefined && Object.keys(member).length > 0);
  return Object.fromEntries(kept) as ServeConfig;
}

function ownValue<T>(map: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(map, key) ? map[key] : undefined;
}

function without<T>(map: Readonly<Record<string, T>>, ...keys: readonly string[]): Readonly<Record<string, T>> {
  return Object.fromEntries(Object.entries(map).filter(([name]) => !keys.includes(name)));
}

const PREFIXES = { web: "failed apply web serve: ", tcp: "failed to apply TCP serve: " } as const;

function fail(kind: "web" | "tcp", text: string): never {
  throw new CliExit(PREFIXES[kind] + text);
}

function guarded<T>(kind: "web" | "tcp", prefix: string, work: () => T): T {
  try {
    return work();
  } catch (thrown) {
    if (thrown instanceof CliExit) fail(kind, prefix + thrown.message);
    throw thrown;
  }
}
