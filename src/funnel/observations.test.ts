import { expect, test } from "vitest";
import { Observations } from "./observations.ts";

const good = { hop: "dns", isGood: true, found: "203.0.113.5" };
const TARGET = "web.tail.test:443";

test.each<readonly [string, unknown]>([
  ["nothing", undefined],
  ["no findings", { target: TARGET, findings: [] }],
  ["more findings than there are hops", { target: TARGET, findings: Array.from({ length: 7 }, () => good) }],
  ["a hop that is none", { target: TARGET, findings: [{ ...good, hop: "moon" }] }],
  ["a finding without words", { target: TARGET, findings: [{ hop: "dns", isGood: true }] }],
  ["a name that is not public", { target: "other.tail.test:443", findings: [good] }],
])("%s is not kept", (_, given) => {
  const observations = new Observations(
    (target) => (target === TARGET ? "3000" : undefined),
    () => 0,
  );
  expect(observations.record(given)).toBe(false);
  expect(observations.list()).toEqual([]);
});

test("the last look counts, with its time and at most 500 characters, until the name is public no more", () => {
  let served: string | undefined = "3000";
  let now = 0;
  const observations = new Observations(
    () => served,
    () => now,
  );
  observations.record({ target: TARGET, findings: [{ ...good, isGood: false }] });
  now = 1000;
  expect(observations.record({ target: TARGET, findings: [{ ...good, found: "x".repeat(900), more: 1 }] })).toBe(true);
  expect(observations.list()).toEqual([
    { target: TARGET, at: "1970-01-01T00:00:01.000Z", findings: [{ ...good, found: "x".repeat(500) }] },
  ]);
  served = undefined;
  expect(observations.list()).toEqual([]);
});

test("`funnel off`, then another target: what was seen of the first was said of the second", () => {
  let served = "3000";
  const observations = new Observations(
    () => served,
    () => 0,
  );
  observations.record({ target: TARGET, findings: [good] });
  served = "4000";
  expect(observations.list()).toEqual([]);
});

test("of many names the newest 256 are kept", () => {
  const observations = new Observations(
    () => "served",
    () => 0,
  );
  for (let i = 0; i < 300; i += 1) observations.record({ target: `n${i}:443`, findings: [good] });
  expect(observations.list()).toHaveLength(256);
  expect(observations.list().at(-1)?.target).toBe("n299:443");
});
