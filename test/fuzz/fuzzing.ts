import fc from "fast-check";
import { expect } from "vitest";
import { Fault } from "../../src/base/fault.ts";

// SALLYPORT_FUZZ=50 makes every run 50 times longer; SALLYPORT_FUZZ_SEED repeats one. A failure prints seed and path.
const SCALE = Number(process.env["SALLYPORT_FUZZ"] ?? 1);
const SEED = Number(process.env["SALLYPORT_FUZZ_SEED"] ?? Date.now() % 2 ** 31);

/** For tests that run longer than the usual half minute when the scale is large. */
export const FUZZ_TIMEOUT_MS: number = 30_000 * Math.max(1, SCALE);

/** Checks that `property` holds for `runs` inputs, or as many times more as the scale says. */
export function holds<T>(property: fc.IPropertyWithHooks<T> | fc.IAsyncPropertyWithHooks<T>, runs: number): unknown {
  return fc.assert(property as fc.IProperty<T>, { numRuns: Math.ceil(runs * SCALE), seed: SEED });
}

/** What `decode` gives, or the Fault that it throws: anything else fails the test. */
export function quiet<T>(decode: () => T): T | Fault {
  try {
    return decode();
  } catch (thrown) {
    if (thrown instanceof Fault) return thrown;
    throw thrown;
  }
}

const EXTREMES = [0, 1, 0x7f, 0x80, 0xff];

/** Bytes of anybody, and good messages that somebody changed: bytes, length fields, pieces left out, twice or swapped. */
export function hostileBytes(...samples: readonly Uint8Array[]): fc.Arbitrary<Uint8Array> {
  const changed = fc
    .tuple(
      fc.constantFrom(...samples),
      fc.array(fc.tuple(fc.nat(6), fc.nat(), fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 6 }),
    )
    .map(([sample, changes]) =>
      changes.reduce<Uint8Array>((bytes, change) => altered(bytes, ...change), Uint8Array.from(sample)),
    );
  return fc.oneof({ weight: 1, arbitrary: fc.uint8Array({ maxLength: 200 }) }, { weight: 3, arbitrary: changed });
}

function altered(bytes: Uint8Array, kind: number, a: number, b: number, value: number): Uint8Array {
  if (bytes.length === 0) return Uint8Array.of(value);
  const [low, high] = [a % bytes.length, b % bytes.length].toSorted((x, y) => x - y) as [number, number];
  switch (kind) {
    case 0:
      bytes[low] = value;
      return bytes;
    case 1:
      bytes[low]! ^= 1 << (value & 7);
      return bytes;
    case 2: // a length, a count, a type at its limits
      return bytes.fill(EXTREMES[value % EXTREMES.length]!, low, low + 1 + (value & 3));
    case 3:
      return bytes.slice(0, low);
    case 4:
      return Uint8Array.of(...bytes.subarray(0, low), ...bytes.subarray(high));
    case 5:
      return Uint8Array.of(...bytes.subarray(0, high), ...bytes.subarray(low));
    default:
      return Uint8Array.of(...bytes.subarray(0, low), value, ...bytes.subarray(low));
  }
}

/** Cuts `bytes` after pieces of these lengths, again and again. */
export function* pieces(bytes: Uint8Array, lengths: readonly number[]): Generator<Uint8Array> {
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const length = Math.max(1, lengths[i % lengths.length] ?? bytes.length);
    yield bytes.subarray(at, at + length);
    at += length;
  }
}

/** Bytes that buffers take after `act`, beyond those before. */
export function allocatedBy(act: () => unknown): number {
  const before = process.memoryUsage().arrayBuffers;
  act();
  return process.memoryUsage().arrayBuffers - before;
}

type Json = unknown;

/** Values of a wrong type, a wrong size, or with names that objects have already. */
export const NASTY: readonly Json[] = [
  null,
  true,
  0,
  -1,
  1.5,
  2 ** 53,
  -(2 ** 63),
  "",
  "x",
  "\u0000",
  "\r\nX: y",
  "\ud800",
  "__proto__",
  "x".repeat(5000),
  [],
  [null],
  [[]],
  [7],
  ["x"],
  [{}],
  Array.from({ length: 3000 }, () => 0),
  {},
  { a: null },
  { toString: 1, hasOwnProperty: 1, length: -1 },
  JSON.parse('{"__proto__": {"polluted": true}, "constructor": {"prototype": {"polluted": true}}}'),
  nested(30),
  nested(20_000),
];

function nested(depth: number): Json {
  return JSON.parse(`${'{"a":['.repeat(depth)}${"]}".repeat(depth)}`);
}

export type Path = readonly (string | number)[];

/** Where everything in `document` stands, itself left out. */
export function pathsIn(document: Json, path: Path = []): Path[] {
  if (typeof document !== "object" || document === null) return [];
  return Object.entries(document).flatMap(([name, value]) => {
    const at = [...path, Array.isArray(document) ? Number(name) : name];
    return [at, ...pathsIn(value, at)];
  });
}

/** A copy of `document` with `value` at `path`, as a JSON reader would make it: `__proto__` is a member like another. */
export function withValue(document: Json, path: Path, value: Json): Json {
  const [step, ...rest] = path;
  if (step === undefined) return value;
  const before = document as Readonly<Record<string | number, Json>>;
  const inner = Object.hasOwn(before, step) ? before[step] : {};
  const put = withValue(typeof inner === "object" && inner !== null ? inner : {}, rest, value);
  if (Array.isArray(document)) return document.with(Number(step), put);
  return Object.fromEntries([...Object.entries(before), [step, put]]);
}

/** Every object of the language is as it was. */
export function expectUnpolluted(): void {
  expect([({} as Record<string, unknown>)["polluted"], Object.keys(Object.prototype)]).toEqual([undefined, []]);
}
