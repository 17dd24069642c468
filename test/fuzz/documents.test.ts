import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  formatAddress,
  formatAddressPort,
  formatPrefix,
  maskedPrefix,
  parseAddress,
  parseAddressPort,
  parsePrefix,
  prefixContains,
} from "../../src/base/address.ts";
import { Fault } from "../../src/base/fault.ts";
import { parseHujson } from "../../src/base/hujson.ts";
import { nodeServeConfig } from "../../src/config/node-serve-config.ts";
import { decodeServeConfig, encodeServeConfig } from "../../src/config/serve-document.ts";
import { refusalOfServeChange } from "../../src/config/serve-rules.ts";
import { serveWarnings } from "../../src/config/serve-warnings.ts";
import { parseServices } from "../../src/config/services.ts";
import { findSite, findTcp } from "../../src/proxy/serve-lookup.ts";
import { AddressSet, formatRange, parseRanges } from "../../src/wire/address-set.ts";
import { capabilitiesOf } from "../../src/wire/capabilities.ts";
import { applyMaskedPrefs, EMPTY_PREFS } from "../../src/wire/ipn.ts";
import type { FilterRule } from "../../src/wire/tailcfg.ts";
import { expectUnpolluted, FUZZ_TIMEOUT_MS, holds, hostileBytes, NASTY, pathsIn, quiet, withValue } from "./fuzzing.ts";

const timeout = FUZZ_TIMEOUT_MS;
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("utf8");
const ofText = (...samples: readonly string[]) => hostileBytes(...samples.map((one) => Buffer.from(one))).map(text);

describe("addresses", { timeout }, () => {
  const address = fc.oneof(...[4, 16].map((length) => fc.uint8Array({ minLength: length, maxLength: length })));

  test("what was written is read again, in its one form", () => {
    const property = fc.property(address, fc.nat(65_535), fc.nat(128), (bytes, port, count) => {
      const written = formatAddress(bytes);
      const read = parseAddress(written)!;
      expect(formatAddress(parseAddress(formatAddress(read))!)).toBe(formatAddress(read));
      if (read.length === bytes.length) expect(read).toEqual(bytes);
      const place = { address: formatAddress(read), port };
      expect(parseAddressPort(formatAddressPort(place))).toEqual(place);
      const prefix = maskedPrefix({ address: read, bits: count % (8 * read.length + 1) });
      expect(parsePrefix(formatPrefix(prefix))).toEqual(prefix);
      expect(prefixContains(prefix, read)).toBe(true);
      const ranges = parseRanges(formatPrefix(prefix))!;
      expect(new AddressSet(ranges).has(read)).toBe(true);
      expect(parseRanges(formatRange(ranges[0]!))).toEqual(ranges);
    });
    holds(property, 500);
  });

  test("any text is an address, a range or nothing", () => {
    const samples = [
      "100.64.0.1/10",
      "fd7a:115c:a1e0::1/48",
      "::ffff:1.2.3.4-::ffff:1.2.3.9",
      "[::1]:80",
      "*",
      "1.2.3.4:80",
    ];
    const property = fc.property(ofText(...samples), (one) => {
      const read = parseAddress(one);
      if (read !== undefined) expect([4, 16]).toContain(read.length);
      const ranges = parseRanges(one) ?? [];
      for (const { low, high } of ranges) expect(low <= high).toBe(true);
      new AddressSet(ranges).has(Uint8Array.of(1, 2, 3, 4));
      parsePrefix(one);
      const place = parseAddressPort(one);
      if (place !== undefined) expect(place.port).toBeLessThan(65_536);
    });
    holds(property, 2000);
  });
});

test("capabilities: whatever the rules say, only a source that they name holds anything", { timeout }, () => {
  const rule: FilterRule = {
    SrcIPs: ["100.64.0.7"],
    CapGrant: [{ Dsts: ["100.64.0.9/32"], CapMap: { "a.test/b": [{ role: "x" }] }, Caps: ["c.test/d"] }],
  };
  const name = fc.oneof(fc.constantFrom("__proto__", "constructor", "toString"), fc.string({ maxLength: 8 }));
  const values = fc.option(fc.array(fc.jsonValue({ maxDepth: 2 }), { maxLength: 3 }));
  const property = fc.property(
    fc.array(fc.tuple(name, values), { maxLength: 4 }),
    ofText("100.64.0.7"),
    (caps, source) => {
      const CapMap = Object.fromEntries(caps);
      const rules = [rule, { SrcIPs: [source], CapGrant: [{ Dsts: ["100.64.0.9/32"], CapMap }] }];
      const held = capabilitiesOf(rules, "100.64.0.7", "100.64.0.9");
      expect(Object.keys(held)).toEqual(expect.arrayContaining(["a.test/b", "c.test/d"]));
      expect(Object.keys(capabilitiesOf(rules, "100.64.0.7", "100.64.0.8"))).toEqual([]);
      if (parseRanges(source) === undefined) expect(Object.keys(held).length).toBe(2);
      expectUnpolluted();
    },
  );
  holds(property, 300);
});

describe("the serve configuration that is posted", { timeout }, () => {
  const ports = {
    "443": { HTTPS: true },
    "22": { TCPForward: "127.0.0.1:22", TerminateTLS: "x.test", ProxyProtocol: 2 },
  };
  const web = {
    "gate.tail.test:443": {
      Handlers: {
        "/": { Proxy: "http://127.0.0.1:3000", AcceptAppCaps: ["a.test/b"] },
        "/t": { Text: "hi" },
        "/p": { Path: "/srv" },
        "/r": { Redirect: "301:https://x.test/" },
      },
    },
  };
  const whole = {
    ...{ TCP: ports, Web: web, AllowFunnel: { "gate.tail.test:443": true } },
    Services: { "svc:a": { TCP: ports, Web: web, Tun: false } },
    Foreground: { session: { TCP: { "80": { HTTP: true } }, Web: web } },
  };

  function take(body: string): void {
    const read = quiet(() => decodeServeConfig(body));
    if (read instanceof Fault) return void expect(read.code).toMatch(/^CONFIG_SERVE_/);
    const written = encodeServeConfig(read);
    expect(encodeServeConfig(decodeServeConfig(written))).toBe(written); // one form: its tag is compared
    refusalOfServeChange(decodeServeConfig(JSON.stringify(whole)), read);
    serveWarnings(read);
    if (read === null) return;
    findTcp(read, 443);
    findSite(read, "gate.tail.test", 443)?.get("/");
  }

  test("CF-1 whatever stands in the place of any member", () => {
    const property = fc.property(fc.constantFrom(...pathsIn(whole)), fc.constantFrom(...NASTY), (path, value) => {
      take(JSON.stringify(withValue(whole, path, value === NASTY.at(-1) ? NASTY.at(-2) : value)));
      expectUnpolluted();
    });
    holds(property, 800);
  });

  test("CF-1 any text", () => {
    const property = fc.property(ofText(JSON.stringify(whole), '{"TCP":{"1":{"HTTP":true}}}', "null"), take);
    holds(property, 800);
    for (const open of ["[", '{"Web":']) take(open.repeat(200_000));
    take(`{"Web":${"[".repeat(200_000)}${"]".repeat(200_000)}}`);
  });
});

describe("preferences that are changed", { timeout }, () => {
  test("any members: those without a true flag stay as they were, and no object is touched", () => {
    const names = [...Object.keys(EMPTY_PREFS), "__proto__", "constructor", "toString", "Unknown", ""];
    const member = fc.constantFrom(...names.flatMap((name) => [name, `${name}Set`]));
    const value = fc.oneof(fc.boolean(), fc.constantFrom(...NASTY.slice(0, -1)));
    const property = fc.property(fc.array(fc.tuple(member, value), { maxLength: 8 }), (entries) => {
      const change = Object.fromEntries(entries);
      const next = applyMaskedPrefs(EMPTY_PREFS, change);
      for (const name of Object.keys(EMPTY_PREFS)) {
        if (change[`${name}Set`] !== true && name !== "AutoUpdate") expect(next[name]).toBe(EMPTY_PREFS[name]);
      }
      expect(Object.getPrototypeOf(next)).toBe(Object.prototype);
      expectUnpolluted();
    });
    holds(property, 500);
  });

  test("a flag with the name of what every object has changes nothing: it once gave preferences another prototype", () => {
    const change = JSON.parse('{"__proto__Set": true, "__proto__": {"Evil": 1}, "toStringSet": true}');
    const next = applyMaskedPrefs(EMPTY_PREFS, change);
    expect([next["Evil"], Object.hasOwn(next, "toString")]).toEqual([undefined, false]);
  });
});

describe("files that people write", { timeout }, () => {
  const services = `{ // gate
    "version": "0.0.1", "node": { "endpoints": {
      "tcp:443": { "target": "http://127.0.0.1:3000", "acceptAppCaps": ["a.test/b"], "mounts": { "/x": "text:x" } },
      "tcp:1-3": "tcp://host:1-3", /* c */ "tcp:80": { "target": "http://[::1]:3000", "crossSite": "deny" }, } },
    "services": { "svc:x": { "endpoints": { "*": "TUN" } } } }`;

  test("CF-1 any text is a document or a Fault with a place", () => {
    const property = fc.property(ofText(services, '{"a": [1, "\\ud83d\\ude00", null], "__proto__": {}}'), (source) => {
      for (const read of [
        quiet(() => parseHujson(source).positionOf(["node", "endpoints", "tcp:443", 3])),
        quiet(() => nodeServeConfig(parseServices(source, "services.hujson"), "gate.tail.test")),
      ]) {
        if (!(read instanceof Fault)) continue;
        const lines = source.split("\n").length;
        expect(read.line).toBeGreaterThanOrEqual(1);
        expect(read.line).toBeLessThanOrEqual(lines);
        expect(read.column).toBeGreaterThanOrEqual(1);
      }
      expectUnpolluted();
    });
    holds(property, 1000);
  });

  test("CF-1 whatever stands in the place of any member of the services file", () => {
    const document = parseHujson(services).value;
    const property = fc.property(
      fc.constantFrom(...pathsIn(document)),
      fc.constantFrom(...NASTY.slice(0, -1)),
      (path, value) => {
        const source = JSON.stringify(withValue(document, path, value));
        const read = quiet(() => nodeServeConfig(parseServices(source, "services.hujson"), "gate.tail.test"));
        if (read instanceof Fault) expect(read.line).toBe(1);
      },
    );
    holds(property, 500);
  });

  test.each([
    '{"version": "0.0.1", "node": {"endpoints": {"__proto__": "text:x"}}}',
    '{"version": "0.0.1", "services": {"__proto__": {"endpoints": {"*": "TUN"}}}}',
    '{"version": "0.0.1", "node": {"endpoints": {"tcp:1": {"target": "text:x", "mounts": {"__proto__": "text:x"}}}}}',
  ])("CF-1 an entry called __proto__ is refused at its place: it was once passed over without a word: %s", (source) => {
    expect(() => parseServices(source, "services.hujson")).toThrow(
      expect.objectContaining({
        code: "CONFIG_SERVICES",
        message: expect.stringContaining('unknown member "__proto__"'),
      }),
    );
  });
});
