import { expect, test } from "vitest";
import { foldName } from "../wire/host-name.ts";
import { Gauges, Rate, visitorKey } from "./gauges.ts";
import { Pace } from "./pace.ts";

test.each([
  ["203.0.113.9", "203.0.113.9"],
  ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"],
  ["2001:db8:1:2:ffff::1", "2001:db8:1:2::"],
  ["2001:db8:1:3::1", "2001:db8:1:3::"],
])("FN-15 %s counts as %s", (address, key) => {
  expect(visitorKey(address)).toBe(key);
});

test("a rate allows twice its second at once, and then its rate", () => {
  const rate = new Rate();
  const taken = (now: number): number => {
    let count = 0;
    while (rate.take(10, now)) count++;
    return count;
  };
  expect(taken(0)).toBe(20);
  expect(taken(500)).toBe(5);
  expect(taken(100_000)).toBe(20);
});

test("gauges at rest are forgotten, those in use never are", () => {
  const gauges = new Gauges(10);
  const busy = gauges.of("busy");
  busy.open = 1;
  for (let i = 0; i < 1000; i++) gauges.of(`visitor ${i}`);
  expect(gauges.size).toBeLessThanOrEqual(10);
  expect(gauges.of("busy")).toBe(busy);
});

test("a pace lets a second's worth through and makes the rest wait", () => {
  const pace = new Pace(1000);
  expect(pace.spend(1000, 0)).toBe(0);
  expect(pace.spend(500, 0)).toBe(500);
  expect(pace.spend(1, 100_000)).toBe(0);
  expect(new Pace(Number.POSITIVE_INFINITY).spend(1e12, 0)).toBe(0);
});

test.each([
  ["Box.Tail.Test.", "box.tail.test"],
  ["xn--bcher-kva.example", "xn--bcher-kva.example"],
  ["a_b.example", "a_b.example"],
  ["10.1.2.3", undefined],
  ["::1", undefined],
  ["", undefined],
  ["a..b", undefined],
  ["-a.b", undefined],
  ["bücher.example", undefined],
  ["\u212a.example", undefined], // KELVIN SIGN: lower case of other scripts is not for us
  [`${"a".repeat(64)}.test`, undefined],
  [`${"a.".repeat(127)}test`, undefined],
])("%j as a name: %j", (text, name) => {
  expect(foldName(text)).toBe(name);
});
