import { expect, test } from "vitest";
import { pongText } from "./ping.ts";
import { terminalLines, terminalText } from "./terminal-text.ts";
import { whoisText } from "./whois.ts";

const HARMFUL = /(?!\n)[\p{Cc}\p{Cf}]/u;

test("CF-8 every harmful character is shown, not obeyed", () => {
  const codes = [...Array(0x20).keys(), ...Array.from({ length: 33 }, (_, at) => 0x7f + at)];
  codes.push(
    0xad,
    0x61c,
    0x180e,
    ...Array.from({ length: 5 }, (_, at) => 0x200b + at),
    ...Array.from({ length: 7 }, (_, at) => 0x2028 + at),
  );
  codes.push(
    ...Array.from({ length: 16 }, (_, at) => 0x2060 + at),
    0xfeff,
    0xfff9,
    0xe0001,
    0xe0041,
    0xe000,
    0xd800,
    0x3164,
  );
  for (const prefix of ["", "a", "[31m"]) {
    for (const code of codes) {
      const safe = terminalText(`${prefix}${String.fromCodePoint(code)}x`);
      expect(safe).toBe(`${prefix}\\u{${code.toString(16)}}x`);
    }
  }
  expect(codes.length * 3).toBeGreaterThan(200);
});

test("CF-8 readable text of any script stays as it is", () => {
  for (const text of ["gw.tail.test", "Alíce Exämple", "名前", "مرحبا", "é", "👍🏽"])
    expect(terminalText(text)).toBe(text);
  expect(terminalLines("a\n\tb\u001b")).toBe("a\n\tb\\u001b");
});

test("CF-8 names from the network come out escaped", () => {
  const evil = "x\u001b]0;owned\u0007\u202e\u200b";
  const whois = whoisText({
    Node: { ID: 1, StableID: evil, Name: evil, User: 1, Addresses: [evil] },
    UserProfile: { ID: 1, LoginName: evil, DisplayName: evil },
    CapMap: { [evil]: [{ [evil]: evil }] },
  });
  expect(whois).not.toMatch(HARMFUL);
  const result = {
    IP: "1",
    NodeIP: "1",
    NodeName: evil,
    Err: "",
    LatencySeconds: 0.012,
    Endpoint: evil,
    DERPRegionID: 0,
    DERPRegionCode: "",
  };
  expect(pongText(result, "disco")).not.toMatch(HARMFUL);
});
