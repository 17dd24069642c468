import { describe, expect, test } from "vitest";
import { mapNode, networkMap } from "../../../test/suites/network-map.ts";
import type { ServeConfig } from "../../wire/serve-config.ts";
import type { Node } from "../../wire/tailcfg.ts";
import { demandsDoors, openPlaces, withoutOpenSites } from "./door-demand.ts";

const text = { Text: "x" };
const CONFIG: ServeConfig = {
  TCP: {
    ...{ 443: { HTTPS: true }, 8443: { HTTPS: true }, 10000: { TCPForward: "127.0.0.1:9" } },
    ...{ 9443: { TCPForward: "127.0.0.1:9", TerminateTLS: "web.tail.test" }, 80: { HTTP: true } },
  },
  Web: {
    "Web.tail.test:443": { Handlers: { "/": text, "/admin": text } },
    "*.apps.test:443": { Handlers: { "/": text } },
    "one.apps.test:443": { Handlers: { "/own": text } },
    "web.tail.test:80": { Handlers: { "/": text } },
  },
};
const withPublic = (...sites: readonly string[]): ServeConfig => ({
  ...CONFIG,
  AllowFunnel: Object.fromEntries(sites.map((site) => [site, true])),
});

describe("a demanded door", () => {
  test.each<[site: string, doors: readonly string[], open: readonly string[], isPublic: boolean]>([
    ["web.tail.test:443", [], ["web.tail.test:443", "web.tail.test:443/admin"], false],
    ["web.tail.test:443", ["web.tail.test:443/"], ["web.tail.test:443/admin"], true],
    ["WEB.tail.test.:443", ["web.tail.test:443/"], ["web.tail.test:443/admin"], true],
    ["web.tail.test:443", ["web.tail.test:443/", "web.tail.test:443/admin"], [], true],
    [
      "web.tail.test:443",
      ["web.tail.test:8443/", "other.tail.test:443/"],
      ["web.tail.test:443", "web.tail.test:443/admin"],
      false,
    ],
    ["two.apps.test:443", [], ["two.apps.test:443"], false],
    ["two.apps.test:443", ["two.apps.test:443/"], [], true],
    ["one.apps.test:443", ["one.apps.test:443/"], ["one.apps.test:443/own"], false],
    ["*.apps.test:443", ["*.apps.test:443/"], ["one.apps.test:443/own"], true],
    ["*.apps.test:443", ["*.apps.test:443/", "one.apps.test:443/own"], [], true],
    // Nothing there that could have one: raw, ended TLS, plain HTTP, a port without content, a port that nobody serves.
    ["web.tail.test:10000", ["web.tail.test:10000/"], ["web.tail.test:10000"], false],
    ["web.tail.test:9443", ["web.tail.test:9443/"], ["web.tail.test:9443"], false],
    ["web.tail.test:80", ["web.tail.test:80/"], ["web.tail.test:80"], false],
    ["web.tail.test:8443", ["web.tail.test:8443/"], ["web.tail.test:8443"], false],
    ["*:10000", ["*:10000/", "web.tail.test:10000/"], ["*:10000"], false], // leased as it is
    ["*:443", ["web.tail.test:443/"], ["*:443"], false],
    ["web.tail.test:1", ["web.tail.test:1/"], ["web.tail.test:1"], false],
  ])("FN-6 %s with doors at %j", (site, doors, open, isPublic) => {
    const config = withPublic(site);
    const hasDoor = ({ name, port, mount }: { name: string; port: number; mount: string }): boolean =>
      doors.includes(`${name}:${port}${mount}`);
    expect(openPlaces(config, hasDoor)).toEqual(open);
    expect(withoutOpenSites(config, hasDoor).AllowFunnel).toEqual({ [site]: isPublic });
  });

  test("what is not public needs none, and stays so", () => {
    const config = { ...CONFIG, AllowFunnel: { "web.tail.test:443": false } };
    expect([openPlaces(config, () => false), openPlaces(CONFIG, () => false)]).toEqual([[], []]);
    expect(withoutOpenSites(config, () => true)).toEqual(config);
  });

  test.each<[capMap: Node["CapMap"], isDemanded: boolean]>([
    [undefined, false],
    [{}, false],
    [{ funnel: null }, false],
    [{ "sallyport.dev/door-required": null }, true],
    [{ "sallyport.dev/door-required": [] }, true],
    [{ "sallyport.dev/door-required": [{ except: ["everything"] }] }, true],
  ])("is there by %j", (CapMap, isDemanded) => {
    expect(demandsDoors(networkMap([], { self: mapNode(1, CapMap === undefined ? {} : { CapMap }) }))).toBe(isDemanded);
    expect(demandsDoors(undefined)).toBe(false);
  });
});
