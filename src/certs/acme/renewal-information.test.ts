import { describe, expect, test } from "vitest";
import { certificateId, readRenewalWindow } from "./renewal-information.ts";
import { parseRetryAfter } from "./retry-after.ts";

/** RFC 9773 appendix A. */
const EXAMPLE = `-----BEGIN CERTIFICATE-----
MIIBQzCB66ADAgECAgUAh2VDITAKBggqhkjOPQQDAjAVMRMwEQYDVQQDEwpFeGFt
cGxlIENBMCIYDzAwMDEwMTAxMDAwMDAwWhgPMDAwMTAxMDEwMDAwMDBaMBYxFDAS
BgNVBAMTC2V4YW1wbGUuY29tMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEeBZu
7cbpAYNXZLbbh8rNIzuOoqOOtmxA1v7cRm//AwyMwWxyHz4zfwmBhcSrf47NUAFf
qzLQ2PPQxdTXREYEnKMjMCEwHwYDVR0jBBgwFoAUaYhba4dGQEHhs3uEe6CuLN4B
yNQwCgYIKoZIzj0EAwIDRwAwRAIge09+S5TZAlw5tgtiVvuERV6cT4mfutXIlwTb
+FYN/8oCIClDsqBklhB9KAelFiYt9+6FDj3z4KGVelYM5MdsO3pK
-----END CERTIFICATE-----
`;

describe("AC-3 renewal information", () => {
  test("the certificate of RFC 9773 has the name that the RFC gives it", async () => {
    expect(await certificateId(EXAMPLE)).toBe("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
  });

  test.each(["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])(
    "%j has no name",
    async (chain) => {
      expect(await certificateId(chain)).toBeUndefined();
    },
  );

  const at = Date.parse("2026-06-01T00:00:00Z");
  const window = { start: "2026-07-01T04:00:00Z", end: "2026-07-02T05:00:00+01:00" };
  const read = { start: Date.parse(window.start), end: Date.parse("2026-07-02T04:00:00Z") };
  test.each([
    ["seconds", "21600", 21_600_000],
    ["a date", "Mon, 01 Jun 2026 02:00:00 GMT", 7_200_000],
    ["too short", "1", 60_000],
    ["too long", "31536000", 86_400_000],
    ["nothing", undefined, 21_600_000],
    ["words", "later", 21_600_000],
  ])("the next question after %s is asked within a minute and a day", (_, header, retryAfter) => {
    expect(readRenewalWindow({ suggestedWindow: window }, header, at)).toEqual({ ...read, retryAfter });
  });

  test.each([
    ["ends before it starts", { start: window.end, end: window.start }],
    ["ends when it starts", { start: window.start, end: window.start }],
    ["has no end", { start: window.start }],
    ["counts from an epoch", { start: 1, end: 2 }],
    ["is only a year", { start: "2026", end: "2027" }],
    ["is text", "soon"],
    ["is null", null],
  ])("a window that %s is none", (_, suggestedWindow) => {
    expect(readRenewalWindow({ suggestedWindow }, undefined, at)).toBeUndefined();
  });

  test.each([null, undefined, "", "<html>", 7, []])("%j is no window", (body) => {
    expect(readRenewalWindow(body, undefined, at)).toBeUndefined();
  });
});

test.each([
  ["0", 0],
  ["30", 30_000],
  [" 30 ", 30_000],
  ["999999999999", 7 * 86_400_000],
  ["-5", undefined],
  ["", undefined],
  [undefined, undefined],
])("Retry-After %j is %s ms", (value, expected) => {
  const ms = parseRetryAfter(value, Date.UTC(2026, 0, 1));
  if (expected === undefined) expect(ms ?? 0).toBe(0);
  else expect(ms).toBe(expected);
});
