import { describe, expect, test } from "vitest";
import { seededRandom, systemRandom } from "../base/random.ts";
import { firstRenewal, renewalAfter, usualMoment } from "./renewal-time.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const NOW = Date.UTC(2026, 0, 1);
const least = (length: number): Uint8Array => new Uint8Array(length);
const most = (length: number): Uint8Array => new Uint8Array(length).fill(255);
const life = (days: number) => ({ notBefore: NOW, notAfter: NOW + days * DAY_MS });

describe("AC-4 without a suggestion: a third of the life is left, half of a short one, jitter to the second", () => {
  test.each([
    [90, 60, 61], // the jitter ends after a day
    [398, 398 * (2 / 3), 398 * (2 / 3) + 1],
    [47, 47 * (2 / 3), 47 * (2 / 3) + 0.94],
    [10, 10 * (2 / 3), 10 * (2 / 3) + 0.2],
    [9.99, 4.995, 4.995 + 0.1998],
    [6, 3, 3.12],
    [1 / 24, 0.5 / 24, 0.52 / 24],
  ])("of %d days: from day %d to day %d", (days, from, to) => {
    const [first, last] = [usualMoment(life(days), least), usualMoment(life(days), most)];
    expect(first).toBeCloseTo(NOW + from * DAY_MS, -1);
    expect(last).toBeLessThanOrEqual(NOW + to * DAY_MS);
    expect(last).toBeGreaterThan(NOW + to * DAY_MS - 2_000);
    for (let i = 0; i < 100; i++) {
      const at = usualMoment(life(days), systemRandom);
      expect(at).toBeGreaterThanOrEqual(first);
      expect((at - first) % 1000).toBeCloseTo(0, 5);
    }
  });

  test("1,000 certificates of one second are renewed in hundreds of different ones", () => {
    const moments = Array.from({ length: 1000 }, () => usualMoment(life(90), systemRandom));
    expect(new Set(moments).size).toBeGreaterThan(900);
  });
});

describe("AC-3 what follows from the CA's answer", () => {
  const current = firstRenewal(life(90), NOW, seededRandom(1));
  const window = { start: NOW + 50 * DAY_MS, end: NOW + 52 * DAY_MS, retryAfter: 6 * HOUR_MS };
  const renewed = (answer: Parameters<typeof renewalAfter>[2], from = current, now = NOW) =>
    renewalAfter(from, life(90), answer, now, systemRandom);

  test("a moment of the window, any of them", () => {
    const moments = Array.from({ length: 500 }, () => renewed(window).at);
    for (const at of moments) {
      expect(at).toBeGreaterThanOrEqual(window.start);
      expect(at).toBeLessThanOrEqual(window.end);
    }
    expect(Math.min(...moments)).toBeLessThan(window.start + 2 * HOUR_MS);
    expect(Math.max(...moments)).toBeGreaterThan(window.end - 2 * HOUR_MS);
  });

  test("that stays while it lies in what is suggested, and is drawn anew when it does not", () => {
    const first = renewed(window);
    expect(renewed({ ...window, end: window.end + DAY_MS }, first).at).toBe(first.at);
    const moved = renewed({ ...window, start: NOW - 2 * DAY_MS, end: NOW - DAY_MS }, first);
    expect(moved.at).toBeLessThan(NOW);
    expect(moved.window).toEqual({ start: NOW - 2 * DAY_MS, end: NOW - DAY_MS });
  });

  test.each([
    ["none", undefined],
    ["an end before its start", { ...window, end: window.start - 1 }],
    ["no length", { ...window, end: window.start }],
    ["no number", { ...window, start: NaN }],
    ["an end after the certificate's", { ...window, end: NOW + 91 * DAY_MS }],
  ])("%s: the usual rule", (_name, answer) => {
    expect(renewed(answer)).toMatchObject({ at: current.at });
    const back = renewed(answer, renewed(window));
    expect(back.window).toBeUndefined();
    expect(back.at).toBeGreaterThanOrEqual(NOW + 60 * DAY_MS);
  });

  test.each([
    ["what it says", 6 * HOUR_MS, 6 * HOUR_MS],
    ["a minute at least", 0, 60_000],
    ["a day at most", 365 * DAY_MS, DAY_MS],
  ])("is asked again after %s, never earlier and little later", (_name, retryAfter, expected) => {
    for (let i = 0; i < 50; i++) {
      const { askAt } = renewed({ ...window, retryAfter });
      expect(askAt - NOW).toBeGreaterThanOrEqual(expected);
      expect(askAt - NOW).toBeLessThanOrEqual(expected * 1.05);
    }
  });

  test("one that does not answer is asked twice a day at least", () => {
    expect(renewed(undefined).askAt - NOW).toBeLessThan(12 * HOUR_MS);
  });
});
