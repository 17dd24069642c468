import { expect, test } from "vitest";
import { parseServices } from "./services.ts";

const parse = (limits: string) => parseServices(`{ "version": "0.0.1",\n"limits": ${limits} }`, "s.hujson").limits;

test("H1-13: limits of the file, for everybody and for visitors", () => {
  expect(parseServices('{ "version": "0.0.1" }', "s.hujson").limits).toEqual({});
  const all = { headBytes: 32_768, headFields: 100, targetBytes: 8192, bodyBytes: 1_048_576 };
  expect(parse(JSON.stringify(all))).toEqual(all);
  const handshakes = { handshakes: 5000, handshakesPerCaller: 500, connections: 500, connectionsPerCaller: 50 };
  expect(parse(JSON.stringify(handshakes))).toEqual(handshakes);
  expect(parse(JSON.stringify({ targetBytes: 4096, visitors: all }))).toEqual({ targetBytes: 4096, visitors: all });
});

test.each([
  ['{ "headBytes": 1023 }', "wanted a whole number from 1024 to 1048576"],
  ['{ "headBytes": 1048577 }', "wanted a whole number from 1024 to 1048576"],
  ['{ "headFields": 15 }', "wanted a whole number from 16 to 10000"],
  ['{ "targetBytes": 127 }', "wanted a whole number from 128 to 1048576"],
  ['{ "bodyBytes": -1 }', "wanted a whole number from 0 to 1099511627776"],
  ['{ "bodyBytes": 1.5 }', "wanted a whole number from 0 to 1099511627776"],
  ['{ "headBytes": "32k" }', "wanted a whole number from 1024 to 1048576"],
  ['{ "visitors": { "headFields": 0 } }', "wanted a whole number from 16 to 10000"],
  ['{ "handshakes": 15 }', "wanted a whole number from 16 to 100000"],
  ['{ "handshakesPerCaller": 0 }', "wanted a whole number from 1 to 100000"],
  ['{ "visitors": { "handshakes": 100 } }', 'found unknown member "handshakes"'],
  ['{ "headByte": 2048 }', 'found unknown member "headByte"'],
  ['{ "visitors": { "visitors": {} } }', 'found unknown member "visitors"'],
])("H1-13: %s is no limit", (limits, wanted) => {
  expect(() => parse(limits)).toThrow(wanted);
  expect(() => parse(limits)).toThrow(/line 2, column \d+: limits/);
});
