/** A flag: `parse` reads its value or throws an Error with what is wrong. */
export interface Flag<T> {
  readonly isBoolean: boolean;
  readonly initial: T;
  readonly parse: (text: string) => T;
}

export function booleanFlag(initial: boolean): Flag<boolean> {
  return { isBoolean: true, initial, parse: parseBoolean };
}

export function textFlag(initial: string = ""): Flag<string> {
  return { isBoolean: false, initial, parse: (text) => text };
}

export function unsignedFlag(initial: number = 0): Flag<number> {
  return { isBoolean: false, initial, parse: parseUnsigned };
}

/** A Go duration, in milliseconds. */
export function durationFlag(initial: number): Flag<number> {
  return { isBoolean: false, initial, parse: parseDuration };
}

function parseBoolean(text: string): boolean {
  if (["1", "t", "T", "true", "TRUE", "True"].includes(text)) return true;
  if (["0", "f", "F", "false", "FALSE", "False"].includes(text)) return false;
  throw new Error(`strconv.ParseBool: parsing ${JSON.stringify(text)}: invalid syntax`);
}

/** Go's integer syntax: `443`, `0x1bb`, `0o673`, `0b1`, `1_000`. */
export function parseUnsigned(text: string): number {
  const plain = text.replace(/(?<=[0-9a-fx])_(?=[0-9a-f])/gi, "").replace(/^0(?=[0-7]+$)/, "0o");
  if (!/^(?:\d+|0x[0-9a-f]+|0o[0-7]+|0b[01]+)$/i.test(plain)) throw new Error("parse error");
  const value = Number(plain);
  if (!Number.isSafeInteger(value)) throw new Error("value out of range");
  return value;
}

const UNITS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

function parseDuration(text: string): number {
  if (text === "0") return 0;
  if (!/^(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|ms|s|m|h))+$/.test(text)) throw new Error("parse error");
  let total = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)/g)) {
    total += Number(amount) * (UNITS[unit ?? ""] ?? 0);
  }
  return total;
}

export type Flags = Readonly<Record<string, Flag<unknown>>>;
type Values<F extends Flags> = { readonly [K in keyof F]: F[K] extends Flag<infer T> ? T : never };

export type Parsed<F extends Flags> =
  | {
      readonly kind: "values";
      readonly values: Values<F>;
      readonly given: ReadonlySet<string>;
      readonly rest: readonly string[];
    }
  | { readonly kind: "help" }
  | { readonly kind: "error"; readonly text: string };

/** Go's flag package: `-name` or `--name`, value after `=` or in the next word, ends at the first other word; each flag once. */
export function parseFlags<F extends Flags>(flags: F, args: readonly string[]): Parsed<F> {
  const values: Record<string, unknown> = {};
  for (const [name, flag] of Object.entries(flags)) values[name] = flag.initial;
  const given = new Set<string>();
  let at = 0;
  for (; at < args.length; at += 1) {
    const word = args[at] ?? "";
    if (word.length < 2 || !word.startsWith("-")) break;
    if (word === "--") {
      at += 1;
      break;
    }
    const bare = word.slice(word.startsWith("--") ? 2 : 1);
    if (bare === "" || bare.startsWith("-") || bare.startsWith("="))
      return { kind: "error", text: `bad flag syntax: ${word}` };
    const equals = bare.indexOf("=");
    const name = equals < 0 ? bare : bare.slice(0, equals);
    const flag = Object.hasOwn(flags, name) ? flags[name] : undefined;
    if (flag === undefined) {
      if (name === "h" || name === "help") return { kind: "help" };
      return { kind: "error", text: `flag provided but not defined: -${name}` };
    }
    let text: string;
    if (equals >= 0) text = bare.slice(equals + 1);
    else if (flag.isBoolean) text = "true";
    else {
      at += 1;
      const next = args[at];
      if (next === undefined) return { kind: "error", text: `flag needs an argument: -${name}` };
      text = next;
    }
    const kind = flag.isBoolean ? "invalid boolean value" : "invalid value";
    const shown = secretless(text);
    const joint = flag.isBoolean ? `-${name}` : `flag -${name}`;
    if (given.has(name)) {
      const isBare = flag.isBoolean && equals < 0;
      const what = isBare ? `invalid boolean flag ${name}` : `${kind} "${shown}" for ${joint}`;
      return { kind: "error", text: `${what}: flag provided multiple times` };
    }
    try {
      values[name] = flag.parse(text);
    } catch (thrown) {
      const why = thrown instanceof Error ? thrown.message : "parse error";
      return { kind: "error", text: `${kind} "${shown}" for ${joint}: ${secretless(why)}` };
    }
    given.add(name);
  }
  return { kind: "values", values: values as Values<F>, given, rest: args.slice(at) };
}

/** An auth key never comes back on a screen (upstream `cli.go:sanitizeOutput`). */
function secretless(text: string): string {
  return text.replace(/tskey-[A-Za-z0-9-]+/g, (key) => "X".repeat(key.length));
}
