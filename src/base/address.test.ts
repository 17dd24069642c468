import { expect, test } from "vitest";
import {
  formatAddress,
  formatPrefix,
  maskedPrefix,
  parseAddress,
  parseAddressPort,
  parsePrefix,
  prefixContains,
} from "./address.ts";

test.each([
  ["100.64.0.1", "100.64.0.1"],
  ["fd7a:115c:a1e0::1", "fd7a:115c:a1e0::1"],
  ["::", "::"],
  ["::1", "::1"],
  ["1::", "1::"],
  ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
  ["2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
  ["::ffff:1.2.3.4", "1.2.3.4"],
  ["64:ff9b::1.2.3.4", "64:ff9b::102:304"],
])("address %s is written %s (RFC 5952)", (text, canonical) => {
  expect(formatAddress(parseAddress(text)!)).toBe(canonical);
});

test.each(["", "1.2.3", "1.2.3.256", "fe80::1%eth0", "g::1", "1.2.3.4/24"])("not an address: %j", (text) => {
  expect(parseAddress(text)).toBeUndefined();
});

test.each([
  ["10.0.0.0/8", "10.255.0.1", true],
  ["10.0.0.0/8", "11.0.0.1", false],
  ["100.64.0.0/10", "100.127.255.255", true],
  ["100.64.0.0/10", "100.128.0.0", false],
  ["0.0.0.0/0", "1.2.3.4", true],
  ["0.0.0.0/0", "::1", false],
  ["fd7a:115c:a1e0::/48", "fd7a:115c:a1e0:1::5", true],
  ["100.64.0.7", "100.64.0.7", true],
])("%s contains %s: %s", (prefix, address, contained) => {
  expect(prefixContains(parsePrefix(prefix)!, parseAddress(address)!)).toBe(contained);
});

test.each(["10.0.0.0/33", "10.0.0.0/08", "10.0.0.0/", "10.0.0.0/8/8", "::/129"])("not a prefix: %s", (text) => {
  expect(parsePrefix(text)).toBeUndefined();
});

test("masking clears host bits", () => {
  expect(formatPrefix(maskedPrefix(parsePrefix("10.1.2.3/12")!))).toBe("10.0.0.0/12");
  expect(formatPrefix(maskedPrefix(parsePrefix("fd7a::ffff/17")!))).toBe("fd7a::/17");
});

test.each([
  ["1.2.3.4:80", { address: "1.2.3.4", port: 80 }],
  ["[::1]:443", { address: "::1", port: 443 }],
  ["1.2.3.4", undefined],
  ["::1:80", undefined],
  ["1.2.3.4:70000", undefined],
])("address and port %s", (text, value) => {
  expect(parseAddressPort(text)).toEqual(value);
});
