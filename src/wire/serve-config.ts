import { splitSite } from "./site.ts";

/** The serve configuration as upstream's daemon stores and exchanges it (`ipn/serve.go`), same spelling. */
export interface ServeConfig {
  /** By port as a decimal string. */
  readonly TCP?: Readonly<Record<string, TcpPortHandler>>;
  /** By `name:port`. */
  readonly Web?: Readonly<Record<string, WebServerConfig>>;
  /** By `svc:name`. */
  readonly Services?: Readonly<Record<string, ServiceConfig>>;
  /** By `name:port`. */
  readonly AllowFunnel?: Readonly<Record<string, boolean>>;
  /** By session: nested configurations that end with the notification stream that brought them. */
  readonly Foreground?: Readonly<Record<string, ServeConfig>>;
}

export interface TcpPortHandler {
  readonly HTTPS?: boolean;
  readonly HTTP?: boolean;
  /** `host:port` or `unix:path`. */
  readonly TCPForward?: string;
  /** The name whose certificate is used; only with TCPForward. */
  readonly TerminateTLS?: string;
  /** 0 or absent, 1 or 2; only with TCPForward. */
  readonly ProxyProtocol?: number;
}

export interface WebServerConfig {
  /** By mount point; `null` when there is none. */
  readonly Handlers: Readonly<Record<string, HttpHandler>> | null;
}

/** One of Path, Proxy, Text, Redirect. */
export interface HttpHandler {
  readonly Path?: string;
  readonly Proxy?: string;
  readonly Text?: string;
  readonly Redirect?: string;
  readonly AcceptAppCaps?: readonly string[];
}

export interface ServiceConfig {
  readonly TCP?: Readonly<Record<string, TcpPortHandler>>;
  readonly Web?: Readonly<Record<string, WebServerConfig>>;
  readonly Tun?: boolean;
}

/**
 * A raw public port in `AllowFunnel`: whoever comes to it, by whatever name. Upstream has no such thing, but its programs keep
 * the entry when they change others.
 */
export function leaseKey(port: number | string): string {
  return `*:${port}`;
}

/** The port of such a key. */
export function leasedPort(key: string): number | undefined {
  const { name, port } = splitSite(key);
  return name === "*" && port > 0 ? port : undefined;
}
