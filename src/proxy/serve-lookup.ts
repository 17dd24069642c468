import type { HttpHandler, ServeConfig, TcpPortHandler, WebServerConfig } from "../wire/serve-config.ts";
import { splitSite } from "../wire/site.ts";

export interface Mount {
  /** The mount point with each byte of its UTF-8 form as one character, as decoded request paths are. */
  readonly point: string;
  readonly handler: HttpHandler;
}

export type Site = ReadonlyMap<string, Mount>;

interface Lookup {
  readonly tcp: ReadonlyMap<number, TcpPortHandler>;
  readonly sites: ReadonlyMap<string, Site>;
}

const lookups: WeakMap<object, Lookup> = new WeakMap();

/** Foreground configurations come before the background (upstream `FindTCP`, `FindWeb`). A Service has only its own. */
function lookupOf(config: ServeConfig, service: string | undefined): Lookup {
  if (service !== undefined) {
    const own = config.Services?.[service];
    return own === undefined ? EMPTY : cached(own, () => [own]);
  }
  return cached(config, () => [...Object.values(config.Foreground ?? {}), config]);
}

const EMPTY: Lookup = { tcp: new Map(), sites: new Map() };

function cached(key: object, layers: () => readonly Pick<ServeConfig, "TCP" | "Web">[]): Lookup {
  let lookup = lookups.get(key);
  if (lookup === undefined) {
    lookup = build(layers());
    lookups.set(key, lookup);
  }
  return lookup;
}

function build(layers: readonly Pick<ServeConfig, "TCP" | "Web">[]): Lookup {
  const tcp = new Map<number, TcpPortHandler>();
  const sites = new Map<string, Site>();
  for (const { TCP, Web } of layers) {
    for (const [port, handler] of Object.entries(TCP ?? {})) if (!tcp.has(Number(port))) tcp.set(Number(port), handler);
    for (const [name, web] of Object.entries(Web ?? {})) {
      const key = siteKey(name);
      if (!sites.has(key)) sites.set(key, siteOf(web));
    }
  }
  return { tcp, sites };
}

function siteOf(web: WebServerConfig): Site {
  const site = new Map<string, Mount>();
  for (const [text, handler] of Object.entries(web.Handlers ?? {})) {
    const point = Buffer.from(text).toString("latin1");
    site.set(point, { point, handler });
  }
  return site;
}

/** Names are compared without ASCII case, and a dot at their end is nothing (RT-3). */
function siteKey(text: string): string {
  const { name, port } = splitSite(text);
  return `${foldHost(name)}:${port}`;
}

export function foldHost(name: string): string {
  const lower = name.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
  return lower.endsWith(".") ? lower.slice(0, -1) : lower;
}

export function findTcp(config: ServeConfig, port: number, service?: string): TcpPortHandler | undefined {
  return lookupOf(config, service).tcp.get(port);
}

/** Of the node's own names. */
export function servedPorts(config: ServeConfig): readonly number[] {
  return [...lookupOf(config, undefined).tcp.keys()];
}

/** Is something served under this very name, whatever wildcards say? */
export function hasOwnSite(config: ServeConfig, name: string, port: number): boolean {
  return lookupOf(config, undefined).sites.has(`${foldHost(name)}:${port}`);
}

/** An exact name, else the wildcard right above it. */
export function findSite(config: ServeConfig, name: string, port: number, service?: string): Site | undefined {
  const { sites } = lookupOf(config, service);
  const folded = foldHost(name);
  if (folded.startsWith("*")) return undefined; // a pattern is nobody's name
  const exact = sites.get(`${folded}:${port}`);
  if (exact !== undefined || !BELOW_WILDCARD.test(folded)) return exact;
  return sites.get(`*${folded.slice(folded.indexOf("."))}:${port}`);
}

/** One label stands for the asterisk (RFC 9525 section 6.3). */
const BELOW_WILDCARD = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.[^:]+$/;
