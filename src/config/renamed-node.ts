import type { HttpHandler, ServeConfig, TcpPortHandler, WebServerConfig } from "../wire/serve-config.ts";
import { siteOf, splitSite } from "../wire/site.ts";
import { UNNAMED } from "./node-serve-config.ts";

/**
 * What a node serves, after it was renamed: under its new name is what was under its own before. Upstream leaves all of it
 * under a name that nobody asks for any more. Public by the new name is what was public by the old one and nothing else,
 * whatever was said of the new name while it was another's. `from` is empty for what was declared before there was a name.
 */
export function renamedNode(config: ServeConfig, from: string, to: string): ServeConfig {
  const { Services, Foreground, AllowFunnel, ...own } = config;
  const services = mapped(Services, (service, name) => {
    const label = name.slice("svc:".length);
    return renamedLayer(service, `${label}.${suffixOf(from)}`, `${label}.${suffixOf(to)}`);
  });
  const parts = mapped(Foreground, (part) => renamedNode(part, from, to));
  return {
    ...renamedLayer(own, from, to),
    ...(services === undefined ? {} : { Services: services }),
    ...(AllowFunnel === undefined ? {} : { AllowFunnel: renamedSites(withoutName(AllowFunnel, to), from, to) }),
    ...(parts === undefined ? {} : { Foreground: parts }),
  };
}

/** The sites of `from` as sites of `to`, in the place of what is there under that name. */
export function renamedSites<T>(
  sites: Readonly<Record<string, T>>,
  from: string,
  to: string,
): Readonly<Record<string, T>> {
  const moved = Object.entries(sites).map(([site, value]) => [renamedSite(site, from, to), value, site] as const);
  const isTaken = new Set(moved.flatMap(([after, , before]) => (after === before ? [] : [after])));
  return Object.fromEntries(moved.filter(([after, , before]) => after !== before || !isTaken.has(after)));
}

function renamedSite(site: string, from: string, to: string): string {
  const { name } = splitSite(siteOf(site));
  return name.toLowerCase() === from.toLowerCase() ? `${to}${site.slice(name.length)}` : site;
}

interface Layer {
  readonly TCP?: Readonly<Record<string, TcpPortHandler>>;
  readonly Web?: Readonly<Record<string, WebServerConfig>>;
}

function renamedLayer<L extends Layer>(layer: L, from: string, to: string): L {
  const ender = (from || UNNAMED).toLowerCase();
  const TCP = mapped(layer.TCP, (handler) =>
    handler.TerminateTLS?.toLowerCase() === ender ? { ...handler, TerminateTLS: to } : handler,
  );
  const web = mapped(layer.Web, (server, site) =>
    splitSite(site).name === from ? { ...server, Handlers: leading(server.Handlers, from, to) } : server,
  );
  return {
    ...layer,
    ...(TCP === undefined ? {} : { TCP }),
    ...(web === undefined ? {} : { Web: renamedSites(web, from, to) }),
  };
}

/** Of `redirectHttp` of the services file (`node-serve-config.ts`): it leads to the node's own name. */
function leading(handlers: WebServerConfig["Handlers"], from: string, to: string): WebServerConfig["Handlers"] {
  const before = `308:https://${from}`;
  const led = (handler: HttpHandler): HttpHandler => {
    const rest = handler.Redirect?.startsWith(before) === true ? handler.Redirect.slice(before.length) : "";
    // biome-ignore lint/suspicious/noTemplateCurlyInString: upstream's placeholder is spelled so
    return /^(?::\d+)?$/.test(rest.replace("${REQUEST_URI}", "")) && rest !== ""
      ? { ...handler, Redirect: `308:https://${to}${rest}` }
      : handler;
  };
  return handlers === null ? null : (mapped(handlers, led) ?? null);
}

function withoutName<T>(sites: Readonly<Record<string, T>>, name: string): Readonly<Record<string, T>> {
  return Object.fromEntries(Object.entries(sites).filter(([site]) => renamedSite(site, name, "") === site));
}

function suffixOf(name: string): string {
  return name.slice(name.indexOf(".") + 1);
}

function mapped<T>(
  table: Readonly<Record<string, T>> | undefined,
  change: (value: T, key: string) => T,
): Readonly<Record<string, T>> | undefined {
  if (table === undefined) return undefined;
  return Object.fromEntries(Object.entries(table).map(([key, value]) => [key, change(value, key)]));
}
