import type { HttpHandler, ServeConfig } from "../../wire/serve-config.ts";
import { authorityOf, otherReadings, pathOf, type Sent, withoutDots } from "./request.ts";

/** What stands around the captures: the configuration that was served, and the backend's answers by name. */
export interface Fixture {
  readonly setup: ServeConfig;
  readonly answers: Readonly<Record<string, string>>;
}

/** Where a request leads by the configuration: what a rule may know beside the request's own bytes. */
export interface Route {
  readonly isServed: boolean;
  readonly isHttp: boolean;
  readonly mount: string | undefined;
  /** Some backend reads a path of another mount. */
  readonly isAmbiguous: boolean;
  readonly handler: HttpHandler;
  /** What the recorder says to it; empty where no proxy mount is asked. */
  readonly answer: string;
}

export const SELF_NAME = "gw.tail.test";
export const SELF_ADDRESS = "100.64.0.1";
const SUFFIX = ".tail.test";

/** The Host that chooses the site: an absolute target's authority comes first (RFC 9112 section 3.2.2). */
export function hostOf(sent: Sent): string {
  return authorityOf(sent) ?? sent.values("host")[0] ?? "";
}

/** Is this one of our names or addresses, however spelled? */
export function isOurs(host: string): boolean {
  const name = nameOf(host).toLowerCase().replace(/\.$/, "");
  return name === SELF_ADDRESS || name === SELF_NAME || name + SUFFIX === SELF_NAME;
}

/** Spelled so that upstream serves it, too. */
export function isUpstreamSpelling(host: string): boolean {
  const name = nameOf(host);
  return name === SELF_NAME || name + SUFFIX === SELF_NAME;
}

function nameOf(host: string): string {
  return host.replace(/:.*$/, "");
}

export function routeOf(sent: Sent, port: number, { setup, answers }: Fixture): Route {
  const tcp = setup.TCP?.[port];
  const isHttp = tcp?.HTTP === true;
  const handlers = setup.Web?.[`${SELF_NAME}:${port}`]?.Handlers ?? {};
  const mounts = Object.keys(handlers);
  const mount = isHttp && isOurs(hostOf(sent)) ? mountOf(mounts, pathOf(sent)) : undefined;
  const handler = mount === undefined ? {} : handlers[mount]!;
  const word = /([A-Za-z0-9]+)\/?$/.exec(pathOf(sent))?.[1] ?? "";
  const isAsked = handler.Proxy !== undefined && !handler.Proxy.endsWith(":3999");
  return {
    isServed: tcp !== undefined,
    isHttp,
    mount,
    isAmbiguous: mount !== undefined && otherReadings(pathOf(sent)).some((path) => mountOf(mounts, path) !== mount),
    handler,
    answer: isAsked ? (answers[word] ?? answers["plain"]!) : "",
  };
}

/** Serve sheet 3.3, on the path as it would travel. */
function mountOf(mounts: readonly string[], raw: string): string | undefined {
  if (!raw.startsWith("/")) return undefined;
  const path = withoutDots(raw).replace(/%[0-9A-Fa-f]{2}/g, (hex) =>
    String.fromCharCode(Number.parseInt(hex.slice(1), 16)),
  );
  if (mounts.includes(path)) return path;
  const segments = path.split("/").filter((segment) => segment !== "");
  for (let count = segments.length; count >= 0; count--) {
    const prefix = `/${segments.slice(0, count).join("/")}`;
    const found = [prefix === "/" ? "/" : `${prefix}/`, prefix].find((mount) => mounts.includes(mount));
    if (found !== undefined) return found;
  }
  return undefined;
}
