import { expect, test } from "vitest";
import {
  answeredSerial,
  claimAnswers,
  claimSerial,
  claimServices,
  claimsOf,
  claimsText,
  formatPortRanges,
  grantedDomains,
  grantedPorts,
  leasablePorts,
  leasableServices,
  leasedPorts,
  parsePortRanges,
} from "./claims.ts";

test.each([
  ["2222", [[2222, 2222]]],
  [
    "2222,7000-7010",
    [
      [2222, 2222],
      [7000, 7010],
    ],
  ],
  ["1-65535", [[1, 65_535]]],
])("port ranges %j are read, and written so that they are read the same", (text, pairs) => {
  const ranges = pairs.map(([first, last]) => ({ first, last }));
  expect(parsePortRanges(text)).toEqual(ranges);
  expect(parsePortRanges(formatPortRanges(ranges as { first: number; last: number }[]))).toEqual(ranges);
});

test.each(["", ",", "0", "65536", "7010-7000", "22-", "-22", "ssh", "22;23", "1".repeat(9), "22,".repeat(300)])(
  "%j names no ports",
  (text) => expect(parsePortRanges(text)).toBeUndefined(),
);

test("what a node claims, there and back", () => {
  const Services = claimServices(["2222", "shop.example.org", "*.shop.example.org"], "a1");
  expect(claimsOf({ Services })).toEqual(["2222", "shop.example.org", "*.shop.example.org"]);
  expect(claimSerial({ Services })).toBe("a1");
  expect(claimServices([], "a1")).toEqual([]);
  const others = [{ Proto: "peerapi4", Port: 5 }, ...leasableServices([{ first: 7000, last: 7010 }])];
  expect(claimsOf({ Services: others })).toEqual([]);
  expect(leasablePorts({ Services: others })).toEqual([{ first: 7000, last: 7010 }]);
  expect(claimsText({ Services: [...others, { Proto: "peerapi6", Port: 9 }] })).toBe(claimsText({ Services: others }));
  expect(claimsText({ Services })).not.toBe(claimsText({ Services: claimServices(["2222"], "a1") }));
});

test("of hostile claims none is taken, of too many 256, of equal ones one", () => {
  const told = ["", "-", "10.0.0.1", "a b", "x".repeat(300)].map((Description) => ({ Description }));
  const Services = told.map((one) => ({ Proto: "sallyport-claim", Port: 0, ...one }));
  expect(claimsOf({ Services: [...Services, { Proto: "sallyport-claim", Port: 0 }] })).toEqual([]);
  const many = Array.from({ length: 2000 }, (_, i) => ({ Proto: "sallyport-claim", Port: i + 1 }));
  expect(claimsOf({ Services: many }).length).toBe(256);
  expect(claimsOf({ Services: [...many.slice(0, 1), ...many.slice(0, 1)] })).toEqual(["1"]);
  expect(leasablePorts({ Services: [{ Proto: "sallyport-leasable", Port: 0, Description: "all" }] })).toEqual([]);
});

test.each<readonly [unknown, readonly unknown[]]>([
  [
    [{ ports: ["2222", "7000-7010"] }, { ports: [8000] }],
    ["2222", "7000-7010", "8000"],
  ],
  [null, []],
  [[null, 5, "2222", { ports: "2222" }, { ports: [{}, "x", null, "9000-8000"] }], []],
])("granted ports %j", (values, wanted) => {
  const granted = grantedPorts({ "sallyport.dev/ports": values as unknown[] });
  expect(granted.map((range) => formatPortRanges([range]))).toEqual(wanted);
});

test("granted domains are names", () => {
  const values = [{ names: ["Shop.Example.ORG", "*.shop.example.org", "10.0.0.1", 5, "*.*.org"] }, { names: 5 }, 7];
  expect(grantedDomains({ "sallyport.dev/domains": values })).toEqual(["shop.example.org", "*.shop.example.org"]);
  expect(grantedDomains({})).toEqual([]);
});

test("answers, as far as they are some", () => {
  const values = [{ claim: "2222", state: "held" }, { claim: 5, state: "held" }, { claim: "x", state: "odd" }, null];
  const capMap = { "sallyport.dev/claims": [...values, { serial: "a1" }], "sallyport.dev/leases": [{ port: 2222 }] };
  expect(claimAnswers(capMap)).toEqual([{ claim: "2222", state: "held" }]);
  expect(answeredSerial(capMap)).toBe("a1");
  expect([claimAnswers({}), claimAnswers(undefined), answeredSerial({})]).toEqual([undefined, undefined, undefined]);
  expect(leasedPorts(capMap)).toEqual([2222]);
  expect(leasedPorts({ "sallyport.dev/leases": [{ port: 0 }, { port: 65_536 }, { port: "22" }, {}, null] })).toEqual(
    [],
  );
});
