import { foldPattern, wildcardOf } from "./host-name.ts";

/** What a site (`name:port`, or `*.example.org:port`) is made of: the keys of a serve configuration and of what is said about them. */
export interface SiteParts {
  /** As it is written: in any case, a wildcard, or `*`. */
  readonly name: string;
  /** NaN when it is written in any way but the one that a number is printed in: it is nobody's port then. */
  readonly port: number;
}

export function splitSite(site: string): SiteParts {
  const colon = site.lastIndexOf(":");
  if (colon < 0) return { name: site, port: NaN };
  const text = site.slice(colon + 1);
  const port = /^[1-9]\d{0,4}$/.test(text) ? Number(text) : NaN;
  return { name: site.slice(0, colon), port: port < 65_536 ? port : NaN };
}

/** The site of a place, which may be a mount of it: `name:port/mount`. */
export function siteOf(place: string): string {
  return place.split("/", 1)[0]!;
}

/** The form that sites are compared in; `undefined` for text that is no name, or wildcard, and port. */
export function foldSite(site: string): string | undefined {
  const { name, port } = splitSite(site);
  const folded = foldPattern(name);
  return folded === undefined || Number.isNaN(port) ? undefined : `${folded}:${port}`;
}

/** What is kept for the name itself, else for the wildcard right above it. */
export function atSite<Kept>(bySite: ReadonlyMap<string, Kept>, { name, port }: SiteParts): Kept | undefined {
  if (bySite.size === 0) return undefined; // asked for each request
  return bySite.get(`${name}:${port}`) ?? bySite.get(`${wildcardOf(name)}:${port}`);
}
