import { expect, test } from "vitest";
import { parseAddress } from "../base/address.ts";
import { isMeshAddress, SERVICE_ADDRESS } from "./mesh-address.ts";

test.each([
  ["100.63.255.255", false],
  ["100.64.0.0", true],
  [SERVICE_ADDRESS, true],
  ["100.127.255.255", true],
  ["100.128.0.0", false],
  ["fd7a:115c:a1df:ffff::", false],
  ["fd7a:115c:a1e0::1", true],
  ["fd7a:115c:a1e0:ffff:ffff:ffff:ffff:ffff", true],
  ["fd7a:115c:a1e1::", false],
  ["203.0.113.7", false],
  ["::1", false],
])("%s is of the mesh: %j", (address, isOf) => {
  expect(isMeshAddress(parseAddress(address)!)).toBe(isOf);
});
