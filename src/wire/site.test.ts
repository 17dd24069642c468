import { describe, expect, it } from "vitest";
import { leasedPort } from "./serve-config.ts";
import { atSite, foldSite, splitSite } from "./site.ts";

/** Text, its parts, and the form it is compared in. */
const SITES: [site: string, name: string, port: number, folded?: string][] = [
  ["shop.example.org:443", "shop.example.org", 443, "shop.example.org:443"],
  ["Shop.Example.org.:8443", "Shop.Example.org.", 8443, "shop.example.org:8443"],
  ["*.example.org:443", "*.example.org", 443, "*.example.org:443"],
  ["*:2222", "*", 2222],
  ["gate:65535", "gate", 65_535, "gate:65535"],
  ["gate:65536", "gate", NaN],
  ["gate:0", "gate", NaN],
  ["gate:0443", "gate", NaN],
  ["gate:4e2", "gate", NaN],
  ["gate: 443", "gate", NaN],
  ["gate:", "gate", NaN],
  ["gate", "gate", NaN],
  ["", "", NaN],
  [":443", "", 443],
  ["a:b:443", "a:b", 443],
  ["[fd7a::1]:443", "[fd7a::1]", 443],
  ["10.1.2.3:443", "10.1.2.3", 443],
];

describe("a name and port as one text", () => {
  it.each(SITES)("%j is %j and %d", (site, name, port, folded) => {
    expect(splitSite(site)).toEqual({ name, port });
    expect(foldSite(site)).toBe(folded);
  });

  it.each<[key: string, port: number | undefined]>([
    ["*:2222", 2222],
    ["*:65535", 65_535],
    ["*:65536", undefined],
    ["*:022", undefined],
    ["*.example.org:22", undefined],
    ["gate:22", undefined],
    ["*", undefined],
  ])("%j is the lease of %j", (key, port) => {
    expect(leasedPort(key)).toBe(port);
  });

  it("what is kept for a name goes before what is kept for the wildcard right above", () => {
    const kept = new Map([
      ["shop.example.org:443", "own"],
      ["*.example.org:443", "wild"],
    ]);
    const found = (name: string, port: number) => atSite(kept, { name, port });
    expect(found("shop.example.org", 443)).toBe("own");
    expect(found("blog.example.org", 443)).toBe("wild");
    expect(found("*.example.org", 443)).toBe("wild");
    expect(found("shop.example.org", 8443)).toBeUndefined();
    expect(found("a.blog.example.org", 443)).toBeUndefined();
  });
});
