import { expect, test } from "vitest";
import { findMount, readTarget } from "./path.ts";
import type { Mount } from "./serve-lookup.ts";

/** A site that counts how often it is asked. */
class CountingSite extends Map<string, Mount> {
  asked = 0;
  override get(point: string): Mount | undefined {
    this.asked++;
    return super.get(point);
  }
}

function siteOf(...points: readonly string[]): CountingSite {
  return new CountingSite(points.map((point) => [point, { point, handler: { Text: point } }]));
}

const LONG = 8192;
const repeated = (piece: string): string => piece.repeat(Math.floor(LONG / piece.length));

test.each([
  ["slashes", repeated("/")],
  ["short segments", repeated("/a")],
  ["escaped slashes", repeated("/%2Fa")],
  ["slashes and one letter", `${repeated("/")}a`],
  ["double slashes", repeated("//a")],
  ["segments of the mount", repeated("/docs")],
  ["dots", repeated("/./a")],
  ["a climb", `${repeated("/a/..")}/a`],
])("RT-4 the cost of 8 KiB is that of the mounts, not of the path: %s", (_, path) => {
  // What is asked for is hashed, up to the length of the path: one look-up a segment would be a square.
  const target = readTarget(path)!;
  const site = siteOf("/", "/docs", "/docs/v2/", "/a/b/c");
  const mount = findMount(site, target.decoded);
  expect(mount?.point).toBe(path.startsWith("/docs") ? "/docs" : "/");
  expect(site.asked).toBeLessThanOrEqual(1 + 2 * 5);
});

test("RT-4 the mount is the same as with a step for each segment", () => {
  const stepwise = (site: ReadonlyMap<string, Mount>, decoded: string): string | undefined => {
    const exact = site.get(decoded);
    if (exact !== undefined) return exact.point;
    let path = decoded.replace(/\/{2,}/g, "/");
    if (path.length > 1 && path.endsWith("/")) path = path.slice(0, -1);
    for (;;) {
      const found = site.get(path === "/" ? "/" : `${path}/`) ?? site.get(path);
      if (found !== undefined || path === "/") return found?.point;
      path = path.slice(0, path.lastIndexOf("/")) || "/";
    }
  };
  const segments = ["", "a", "b", "docs"];
  const paths = [1, 2, 3, 4].flatMap((depth) =>
    Array.from({ length: segments.length ** depth }, (_, i) =>
      Array.from(
        { length: depth },
        (_, at) => `/${segments[Math.floor(i / segments.length ** at) % segments.length]}`,
      ).join(""),
    ),
  );
  const sites = [["/"], ["/a"], ["/a/"], ["/", "/a/b"], ["/docs/a/", "/docs"], ["/a/b/docs", "/a", "/b/"], []].map(
    (points) => siteOf(...points),
  );
  for (const site of sites) {
    for (const path of paths) expect(findMount(site, path)?.point, path).toBe(stepwise(site, path));
  }
});
