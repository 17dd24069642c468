import { expect, test } from "vitest";
import { parseAddress } from "../base/address.ts";
import { peerApiPort } from "./peerapi.ts";

// data-plane.md A.4
test.each([
  ["100.64.0.1", 58436],
  ["100.101.102.103", 59395],
])("peerapi port of %s", (address, port) => {
  expect(peerApiPort(parseAddress(address)!)).toBe(port);
});
