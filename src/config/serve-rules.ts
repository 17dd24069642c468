import type { ServeConfig, ServiceConfig, TcpPortHandler } from "../wire/serve-config.ts";

type Ports = Readonly<Record<string, TcpPortHandler>>;

/** What a port does, in the words of upstream's messages (`ipn/serve.go:ServeType`). */
export function listenerType(handler: TcpPortHandler): "https" | "http" | "tls-terminated-tcp" | "tcp" | "unset" {
  if (handler.HTTPS) return "https";
  if (handler.HTTP) return "http";
  if (handler.TerminateTLS) return "tls-terminated-tcp";
  return handler.TCPForward ? "tcp" : "unset";
}

/**
 * May `incoming` replace `existing`? The text of the refusal, or nothing. Rules and words of upstream's
 * `ipnlocal/serve.go:validateServeConfigUpdate`: nothing but listeners in each other's way is checked.
 */
export function refusalOfServeChange(existing: ServeConfig | null, incoming: ServeConfig | null): string | undefined {
  if (incoming === null) return undefined;
  for (const [name, service] of Object.entries(incoming.Services ?? {})) {
    if (service.Tun && hasListeners(service)) {
      return `cannot configure TUN mode in combination with TCP or web handlers for ${name}`;
    }
  }
  if (existing === null) return undefined;
  for (const [session, foreground] of Object.entries(incoming.Foreground ?? {})) {
    if (existing.Foreground?.[session] !== undefined) continue;
    for (const port of Object.keys(foreground.TCP ?? {})) {
      if (findPort(existing, port) !== undefined) return `listener already exists for port ${port}`;
    }
  }
  for (const [port, handler] of Object.entries(incoming.TCP ?? {})) {
    if (isInForeground(existing, port)) return `foreground listener already exists for port ${port}`;
    const refusal = refusalOfPort(port, existing.TCP?.[port], handler);
    if (refusal !== undefined) return refusal;
  }
  for (const [name, service] of Object.entries(incoming.Services ?? {})) {
    const before = existing.Services?.[name];
    if (before === undefined) continue;
    if (service.Tun && !before.Tun && hasListeners(before)) {
      return `cannot turn on TUN mode with existing TCP or web handlers for ${name}`;
    }
    if (before.Tun && hasListeners(service)) return `cannot add TCP or web handlers as TUN mode is enabled for ${name}`;
    for (const [port, handler] of Object.entries(service.TCP ?? {})) {
      const refusal = refusalOfPort(port, before.TCP?.[port], handler);
      if (refusal !== undefined) return `${refusal} for ${name}`;
    }
  }
  return undefined;
}

function refusalOfPort(port: string, before: TcpPortHandler | undefined, after: TcpPortHandler): string | undefined {
  if (before === undefined) return undefined;
  const had = listenerType(before);
  const wants = listenerType(after);
  if (had === "unset" || had === wants) return undefined;
  return `want to serve "${wants}", but port ${port} is already serving "${had}"`;
}

/** Some target is a path or a unix socket: the gateway opens it with its own rights (upstream `localapi/serve.go`). */
export function opensLocalFiles(config: ServeConfig | ServiceConfig | null): boolean {
  if (config === null) return false;
  const { TCP = {}, Web = {} } = config;
  const parts = "Foreground" in config || "Services" in config ? (config as ServeConfig) : {};
  const isUnix = (target: string | undefined): boolean => target?.startsWith("unix:") === true;
  return (
    Object.values(TCP).some(({ TCPForward }) => isUnix(TCPForward)) ||
    Object.values(Web).some(({ Handlers }) =>
      Object.values(Handlers ?? {}).some(({ Path, Proxy: target }) => Boolean(Path) || isUnix(target)),
    ) ||
    [...Object.values(parts.Foreground ?? {}), ...Object.values(parts.Services ?? {})].some(opensLocalFiles)
  );
}

function hasListeners(service: ServiceConfig): boolean {
  return Object.keys(service.TCP ?? {}).length > 0 || Object.keys(service.Web ?? {}).length > 0;
}

function isInForeground(config: ServeConfig, port: string): boolean {
  return Object.values(config.Foreground ?? {}).some((foreground) => portOf(foreground.TCP, port) !== undefined);
}

function findPort(config: ServeConfig, port: string): TcpPortHandler | undefined {
  return (
    portOf(config.TCP, port) ??
    Object.values(config.Foreground ?? {})
      .map((one) => portOf(one.TCP, port))
      .find(Boolean)
  );
}

function portOf(ports: Ports | undefined, port: string): TcpPortHandler | undefined {
  return ports !== undefined && Object.hasOwn(ports, port) ? ports[port] : undefined;
}

/** Sessions whose foreground part `incoming` no longer holds: their notification streams end (upstream does the same). */
export function endedSessions(existing: ServeConfig | null, incoming: ServeConfig | null): readonly string[] {
  const kept = incoming?.Foreground ?? {};
  return Object.keys(existing?.Foreground ?? {}).filter((session) => !Object.hasOwn(kept, session));
}

/** The configuration without one session's foreground part. */
export function withoutSession(config: ServeConfig, session: string): ServeConfig {
  const { Foreground, ...rest } = config;
  const kept = Object.fromEntries(Object.entries(Foreground ?? {}).filter(([name]) => name !== session));
  return Object.keys(kept).length === 0 ? rest : { ...rest, Foreground: kept };
}

/** Is some AllowFunnel value true, background or foreground? */
export function isFunnelOn(config: ServeConfig | null): boolean {
  if (config === null) return false;
  if (Object.values(config.AllowFunnel ?? {}).some(Boolean)) return true;
  return Object.values(config.Foreground ?? {}).some(isFunnelOn);
}
