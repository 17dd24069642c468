import {
  type HttpHandler,
  leaseKey,
  type ServeConfig,
  type TcpPortHandler,
  type WebServerConfig,
} from "../wire/serve-config.ts";
import type { VisitorRules } from "../wire/visitor-rules.ts";
import type { Target } from "./endpoints.ts";
import type { MountRules } from "./mount-rules.ts";
import type { Endpoint, Mount, Mounts, ServicesConfig } from "./services.ts";

const HTTPS_PORT = 443;
/** Whose certificate it is before the node has a name: no name at all would read as if TLS did not end here. */
export const UNNAMED = "name.invalid";

/**
 * What the node itself serves, as the document that the proxy and the local admin interface know. `name` is empty before there
 * is one: `renamedNode` gives it later.
 */
export function nodeServeConfig(config: ServicesConfig, name: string): ServeConfig {
  const suffix = name.slice(name.indexOf(".") + 1);
  const services = [...config.services].flatMap(([service, { endpoints }]) => {
    if (endpoints === "tun") return [];
    const { AllowFunnel: _, ...own } = listeners(endpoints, `${service.slice("svc:".length)}.${suffix}`);
    return [[service, own] as const];
  });
  const own = listeners(config.node, name);
  return services.length === 0 ? own : { ...own, Services: Object.fromEntries(services) };
}

/** Names of the services that are to be hosted. */
export function advertisedServices({ services }: ServicesConfig): readonly string[] {
  return [...services].flatMap(([name, { endpoints, advertised }]) =>
    advertised && endpoints !== "tun" ? [name] : [],
  );
}

function listeners(endpoints: readonly Endpoint[], name: string): ServeConfig {
  const ports: Record<string, TcpPortHandler> = {};
  const web: Record<string, WebServerConfig> = {};
  const funnel: Record<string, boolean> = {};
  for (const one of endpoints) {
    for (let port = one.ports.first; port <= one.ports.last; port += 1) {
      const offset = port - one.ports.first;
      if (one.listen === "https" || one.listen === "http") {
        ports[port] = one.listen === "https" ? { HTTPS: true } : { HTTP: true };
        for (const [host, mounts] of sitesOf(one, name))
          web[`${host}:${port}`] = { Handlers: handlers(mounts, offset) };
      } else {
        ports[port] = {
          TCPForward: forward(one.mounts.get("/")?.target, offset),
          ...(one.listen === "tls-terminated-tcp"
            ? { TerminateTLS: (one.hosts.keys().next().value ?? name) || UNNAMED }
            : {}),
          ...(one.proxyProtocol > 0 ? { ProxyProtocol: one.proxyProtocol } : {}),
        };
      }
      if (one.redirectHttp) {
        ports[80] = { HTTP: true };
        for (const [host] of sitesOf(one, name))
          web[`${host}:80`] = { Handlers: { "/": { Redirect: https(host, port) } } };
      }
      if (one.leases.includes(port)) funnel[leaseKey(port)] = true;
      if (one.funnel) for (const host of publicHosts(one, name)) funnel[`${host}:${port}`] = true;
    }
  }
  return {
    ...(Object.keys(ports).length > 0 ? { TCP: ports } : {}),
    ...(Object.keys(web).length > 0 ? { Web: web } : {}),
    ...(Object.keys(funnel).length > 0 ? { AllowFunnel: funnel } : {}),
  };
}

/** By name: the node's own, where it has content, and the operator's. */
function sitesOf(endpoint: Endpoint, name: string): readonly (readonly [host: string, mounts: Mounts])[] {
  return [...(endpoint.mounts.size > 0 ? [[name, endpoint.mounts] as const] : []), ...endpoint.hosts];
}

/** What visitors from the Internet may ask for: each name, or wildcard, that something is served under. */
function publicHosts(endpoint: Endpoint, name: string): readonly string[] {
  const hosts = [...endpoint.hosts.keys()];
  return endpoint.mounts.size > 0 || hosts.length === 0 ? [name, ...hosts] : hosts;
}

/** Method and body stay what they are (RFC 9110 section 15.4.9). */
function https(host: string, port: number): string {
  // biome-ignore-start lint/suspicious/noTemplateCurlyInString: upstream's placeholders are spelled so
  const name = host.startsWith("*.") ? "${HOST}" : host;
  return `308:https://${name}${port === HTTPS_PORT ? "" : `:${port}`}\${REQUEST_URI}`;
  // biome-ignore-end lint/suspicious/noTemplateCurlyInString: as above
}

function handlers(mounts: Mounts, offset: number): Readonly<Record<string, HttpHandler>> {
  return Object.fromEntries([...mounts].map(([mount, to]) => [mount, handler(to, offset)]));
}

function handler(mount: Mount, offset: number): HttpHandler {
  const { target, acceptAppCaps } = mount;
  const accepted = acceptAppCaps.length > 0 ? { AcceptAppCaps: acceptAppCaps } : {};
  switch (target.kind) {
    case "proxy":
      return { Proxy: target.url, ...accepted };
    case "ports":
      return { Proxy: `${target.scheme}://${target.host}:${target.first + offset}`, ...accepted };
    case "socket":
      return { Proxy: `unix:${target.path}`, ...accepted };
    case "path":
      return { Path: target.path };
    case "text":
      return { Text: target.text };
    case "redirect":
      return { Redirect: target.value };
    case "tun":
      return {};
  }
}

function forward(target: Target | undefined, offset: number): string {
  if (target?.kind === "ports") return `${target.host}:${target.first + offset}`;
  return target?.kind === "socket" ? `unix:${target.path}` : "";
}

export interface Place {
  readonly port: number;
  /** As it was asked for, in lower case. */
  readonly name: string;
  readonly mount: string;
}

/** The rules of one mount of the node's own. */
export function mountRules(config: ServicesConfig, { port, name, mount }: Place): MountRules | undefined {
  const endpoint = config.node.find(({ ports }) => ports.first <= port && port <= ports.last);
  const wildcard = `*${name.slice(name.indexOf("."))}`;
  const mounts = endpoint?.hosts.get(name) ?? endpoint?.hosts.get(wildcard) ?? endpoint?.mounts;
  const own = mounts?.get(mount);
  if (own !== undefined) {
    const offset = port - (endpoint?.ports.first ?? port);
    const { Proxy: backend } = own.keepAliveAfterBody ? handler(own, offset) : {};
    return backend === undefined ? own.rules : { ...own.rules, keepAliveAfterBody: backend };
  }
  // What was mounted beside the file by a command is behind it, too.
  const door = mountAbove(mounts, mount)?.rules.door ?? endpoint?.door;
  return door === undefined ? undefined : { door };
}

/** The file's nearest mount that `mount` lies below. */
function mountAbove(mounts: Mounts | undefined, mount: string): Mount | undefined {
  for (let above = mount; above !== ""; above = above.slice(0, Math.max(above.lastIndexOf("/"), 0))) {
    const found = mounts?.get(above) ?? mounts?.get(`${above}/`);
    if (found !== undefined) return found;
  }
  return mounts?.get("/");
}

/** What the file asks for visitors from the Internet on `port`, under whichever name something is public there. */
export function visitorRules({ node }: ServicesConfig, port: number): VisitorRules | undefined {
  return node.find(({ ports }) => ports.first <= port && port <= ports.last)?.visitorRules;
}

/** Names of the operator's own that are served with TLS, in the order of the file. */
export function servedHosts(config: ServicesConfig): readonly string[] {
  const tls = config.node.filter(({ listen }) => listen === "https" || listen === "tls-terminated-tcp");
  return [...new Set(tls.flatMap(({ hosts }) => [...hosts.keys()]))];
}
