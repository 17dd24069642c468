import { expect, test } from "vitest";
import type { Attempt } from "./attempts.ts";
import { budgetOf, fullLine, letsEncryptLimits, registeredDomain } from "./budget.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const NOW = Date.UTC(2026, 0, 10);

const issued = (at: number, more: Partial<Attempt> = {}): Attempt => ({
  at,
  authority: "le",
  outcome: "issued",
  ...more,
});
const of = (histories: Parameters<typeof budgetOf>[2]) => budgetOf("le", letsEncryptLimits, histories, NOW);

test.each([
  ["example.com", "example.com"],
  ["a.b.example.com", "example.com"],
  ["*.example.com", "example.com"],
  ["a.example.co.uk", "example.co.uk"],
  ["gate.tail1.ts.net", "tail1.ts.net"],
  ["*.gate.tail1.ts.net", "tail1.ts.net"],
])("%s is counted as %s", (name, domain) => expect(registeredDomain(name)).toBe(domain));

test("what counts for how long, by limit", () => {
  const names = ["a.example.com", "example.com"];
  const lines = of([
    {
      names,
      attempts: [
        issued(NOW - 7 * DAY_MS), // a week ago: no more
        issued(NOW - 6 * DAY_MS),
        issued(NOW - 2 * HOUR_MS, { replaces: true }), // told what it replaces
        issued(NOW - HOUR_MS, { authority: "other" }),
        issued(NOW + 30 * DAY_MS), // written by a clock that was wrong
        issued(NOW - 50 * 60_000, { outcome: "CERT_ORDER_INVALID" }),
        issued(NOW - 40 * 60_000, { outcome: "CERT_ORDER_UNREACHABLE" }),
        issued(NOW - 1, { outcome: "begun" }),
      ],
    },
    { names: ["b.example.com"], attempts: [issued(NOW - 3 * DAY_MS)] },
  ]);
  const used = Object.fromEntries(lines.map(({ limit, subject, used }) => [`${limit} ${subject ?? ""}`.trim(), used]));
  expect(used).toEqual({
    "certificatesPerDomainWeek example.com": 3,
    "identicalWeek a.example.com,example.com": 2,
    "identicalWeek b.example.com": 1,
    "failuresPerNameHour a.example.com": 1,
    "failuresPerNameHour example.com": 1,
    ordersPerThreeHours: 3,
  });
  expect(lines.every(({ freeAt }) => freeAt === undefined)).toBe(true);
});

test("what is full, and until when: for these names and no others", () => {
  const names = ["a.example.com"];
  const lines = of([{ names, attempts: [6, 5, 4, 3, 2].map((days) => issued(NOW - days * DAY_MS)) }]);
  expect(lines[0]).toEqual({
    authority: "le",
    limit: "identicalWeek",
    subject: "a.example.com",
    used: 5,
    allowed: 5,
    freeAt: NOW + DAY_MS,
  });
  expect(fullLine(lines, names)).toBe(lines[0]);
  expect(fullLine(lines, ["a.example.com", "b.example.com"])).toBeUndefined();
  expect(fullLine(lines, ["b.example.com"])).toBeUndefined();
});

test("the account's orders: full for everybody", () => {
  const histories = Array.from({ length: 300 }, (_, i) => ({
    names: [`n${i}.n${i}.com`],
    attempts: [issued(NOW - HOUR_MS - i)],
  }));
  expect(fullLine(of(histories), ["new.example"])).toMatchObject({
    limit: "ordersPerThreeHours",
    freeAt: NOW + 2 * HOUR_MS - 299,
  });
});
