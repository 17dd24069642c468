import { describe, expect, test } from "vitest";
import { formatHash, hashSecret, parseHash, SecretChecks } from "./secret-hash.ts";

const CHEAP = { log2: 4, blocks: 8, lanes: 1 };

test("scrypt as RFC 7914 section 12 has it", async () => {
  const { log2, blocks, lanes } = { log2: 14, blocks: 8, lanes: 1 };
  const salt = Buffer.from("SodiumChloride");
  const key = Buffer.from("7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2", "hex");
  const checks = new SecretChecks();
  expect(await checks.matches({ log2, blocks, lanes, salt, key }, "pleaseletmein")).toBe(true);
  expect(await checks.matches({ log2, blocks, lanes, salt, key }, "pleaseletmeIn")).toBe(false);
});

test("what is written of a secret reads back, says nothing of it, and differs each time", async () => {
  const [one, two] = [await hashSecret("correct horse"), await hashSecret("correct horse")];
  const text = formatHash(one);
  expect(text).toMatch(/^scrypt:15:8:3:[\w-]{22}:[\w-]{43}$/);
  expect(text).not.toBe(formatHash(two));
  expect(await new SecretChecks().matches(parseHash(text)!, "correct horse")).toBe(true);
});

test("one text typed on two keyboards is one secret", async () => {
  const hash = await hashSecret("Caf\u00e9", CHEAP);
  expect(await new SecretChecks().matches(hash, "Cafe\u0301")).toBe(true);
});

describe("what costs too little or too much is no hash", () => {
  const [salt, key] = ["c".repeat(22), "k".repeat(43)];
  test.each([
    ["correct horse", false],
    [`scrypt:15:8:3:${salt}:${key}`, true],
    [`scrypt:04:8:1:${salt}:${key}`, false],
    [`scrypt:30:8:1:${salt}:${key}`, false],
    [`scrypt:15:99:1:${salt}:${key}`, false],
    [`scrypt:15:8:99:${salt}:${key}`, false],
    [`scrypt:15:8:3::${key}`, false],
    [`scrypt:15:8:3:${salt}:short`, false],
  ])("%s: %s", (text, is) => {
    expect(parseHash(text) !== undefined).toBe(is);
  });
});

test("few are checked at a time, few wait, and the rest is told so", async () => {
  const checks = new SecretChecks(1, 2);
  const hash = await hashSecret("a", CHEAP);
  const all = await Promise.allSettled(Array.from({ length: 5 }, () => checks.matches(hash, "a")));
  expect(all.map((one) => (one.status === "fulfilled" ? one.value : one.reason.code))).toEqual([
    true,
    true,
    true,
    "DOOR_BUSY",
    "DOOR_BUSY",
  ]);
  expect(await checks.matches(hash, "a"), "and later there is room again").toBe(true);
});
