import { parseAddress } from "../../base/address.ts";
import { readSourcePostures } from "./declarations.ts";
import type { Posture } from "./posture.ts";
import { type Names, parseSelector, type Selector } from "./selector.ts";
import type { Path, PolicySource } from "./source.ts";

export interface SshRule {
  readonly action: "accept" | "check";
  readonly sources: readonly Selector[];
  readonly destinations: readonly Selector[];
  readonly users: readonly string[];
  readonly acceptEnv: readonly string[];
  readonly postures: readonly Posture[];
}

export interface SshTest {
  readonly path: Path;
  readonly src: string;
  readonly dst: readonly string[];
  readonly accept: readonly string[];
  readonly deny: readonly string[];
  readonly check: readonly string[];
}

interface Place {
  readonly value: unknown;
  readonly path: Path;
}

const MEMBERS = [
  "action",
  "src",
  "dst",
  "users",
  "checkPeriod",
  "acceptEnv",
  "recorder",
  "enforceRecorder",
  "srcPosture",
];
/** Stands for the part of a login before its domain. */
export const LOCALPART = "localpart:*@";
const NANOSECONDS: Readonly<Record<string, number>> = { h: 3.6e12, m: 6e10, s: 1e9, ms: 1e6, us: 1e3, µs: 1e3, ns: 1 };
const LONGEST_CHECK = 168 * 3.6e12;

export function readSsh(
  source: PolicySource,
  { value, path }: Place,
  names: Names,
  domains: ReadonlySet<string> | undefined,
  defaultPostures: readonly Posture[],
): readonly SshRule[] {
  return source.list(value, path).map((item, index): SshRule => {
    const where = [...path, index];
    const members = source.members(item, where, MEMBERS);
    const at = (name: string): Place => members.get(name) ?? { value: undefined, path: where };
    const fail = (problem: string, spot: Path): Error => source.fault("POLICY_RULE", spot, problem);
    const action = source.text(at("action").value ?? "", at("action").path).trim();
    if (action === "") throw fail("action must be specified", where);
    if (action !== "accept" && action !== "check")
      throw fail(`${JSON.stringify(action)} is not a valid action`, at("action").path);
    const users = source.texts(at("users").value, at("users").path);
    if (users.length === 0) throw fail("users must be specified", at("users").path);
    for (const [i, user] of users.entries()) {
      if (user === "" || user === "*") throw fail(`user "${user}" is not valid`, [...at("users").path, i]);
      const domain = user.startsWith(LOCALPART) ? user.slice(LOCALPART.length) : "";
      if (domain !== "" && domains !== undefined && !domains.has(domain))
        throw fail(foreign(domain), [...at("users").path, i]);
    }
    checkPeriod(source, at("checkPeriod"));
    const env = source.texts(at("acceptEnv").value, at("acceptEnv").path);
    if (env.includes("")) throw fail("acceptEnv values cannot be empty", at("acceptEnv").path);
    const sources = read(source, at("src"), names);
    for (const [i, selector] of sources.entries()) {
      if (selector.kind === "domain" && domains !== undefined && !domains.has(selector.domain)) {
        throw fail(`[ssh] ${foreign(selector.domain)}`, [...at("src").path, i]);
      }
    }
    const destinations = read(source, at("dst"), names);
    for (const [i, selector] of destinations.entries()) {
      if (
        selector.kind === "range" ||
        selector.kind === "domain" ||
        selector.kind === "any" ||
        selector.kind === "ipset" ||
        selector.kind === "service" ||
        selector.kind === "group"
      ) {
        throw fail(`invalid dst "${String(source.list(at("dst").value, at("dst").path)[i])}"`, [...at("dst").path, i]);
      }
    }
    const postures = readSourcePostures(source, names, members.get("srcPosture"), defaultPostures);
    return { action, sources, destinations, users, acceptEnv: env, postures };
  });
}

function foreign(domain: string): string {
  return `${domain} is not associated with this Tailnet and cannot be used in user:*@<domain> expressions`;
}

function read(source: PolicySource, { value, path }: Place, names: Names): readonly Selector[] {
  return source.texts(value, path).map((text, index) => {
    const selector = parseSelector(text, names);
    if (typeof selector === "string") throw source.fault("POLICY_RULE", [...path, index], selector);
    return selector;
  });
}

/** A Go duration, or `always`. */
function checkPeriod(source: PolicySource, { value, path }: Place): void {
  if (value === undefined || value === null || value === "" || value === "always") return;
  const length = goDurationOf(source.text(value, path));
  if (typeof length === "string") throw source.fault("POLICY_RULE", path, `time: ${length}`);
  if (length < 0) {
    throw source.fault("POLICY_RULE", path, `checkPeriod ${goDuration(length)} must be a positive duration`);
  }
  if (length > LONGEST_CHECK) {
    throw source.fault("POLICY_RULE", path, `checkPeriod ${goDuration(length)} is above the max (168h)`);
  }
}

/** Nanoseconds; a string is what is wrong, in the words of Go's `time.ParseDuration`. */
function goDurationOf(text: string): number | string {
  const quoted = JSON.stringify(text);
  const sign = text.startsWith("-") ? -1 : 1;
  let rest = text.replace(/^[+-]/, "");
  if (rest === "0") return 0;
  if (rest === "") return `invalid duration ${quoted}`;
  let length = 0;
  while (rest !== "") {
    const [all = "", figure = "", unit = ""] = /^(\d+\.?\d*|\.\d+)([^\d.]*)/.exec(rest) ?? [];
    if (figure === "") return `invalid duration ${quoted}`;
    if (unit === "") return `missing unit in duration ${quoted}`;
    if (!Object.hasOwn(NANOSECONDS, unit)) return `unknown unit ${JSON.stringify(unit)} in duration ${quoted}`;
    length += Number(figure) * NANOSECONDS[unit]!;
    if (length >= 2 ** 63) return `invalid duration ${quoted}`;
    rest = rest.slice(all.length);
  }
  return sign * length;
}

/** As Go prints durations of whole seconds. */
function goDuration(nanoseconds: number): string {
  const seconds = Math.abs(nanoseconds) / 1e9;
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60), seconds % 60];
  const text = h > 0 ? `${h}h${m}m${s}s` : m > 0 ? `${m}m${s}s` : `${s}s`;
  return nanoseconds < 0 ? `-${text}` : text;
}

export function readSshTests(source: PolicySource, { value, path }: Place, names: Names): readonly SshTest[] {
  return source.list(value, path).map((item, index): SshTest => {
    const where = [...path, index];
    const members = source.members(item, where, ["src", "dst", "accept", "deny", "check", "srcPostureAttrs"]);
    const texts = (name: string): readonly string[] =>
      source.texts(members.get(name)?.value, members.get(name)?.path ?? where);
    const dst = texts("dst");
    for (const [i, text] of dst.entries()) {
      const spot = [...(members.get("dst")?.path ?? where), i];
      if (text.includes("/") || text === "*" || text === "autogroup:internet") {
        throw source.fault("POLICY_RULE", spot, `SSH tests dst contains disallowed element "${text}"`);
      }
      if (text.startsWith("tag:") && !names.tags.has(text)) {
        throw source.fault("POLICY_RULE", spot, `SSH tests dst contains unknown tag "${text}"`);
      }
    }
    return {
      path: where,
      src: source.text(members.get("src")?.value ?? "", where),
      dst,
      accept: texts("accept"),
      deny: texts("deny"),
      check: texts("check"),
    };
  });
}

/** True when a rule with these `users` lets `source`'s owner log in as `login`. */
export function admitsLogin(users: readonly string[], login: string, owner: string | undefined): boolean {
  return users.some((user) => {
    if (user === "autogroup:nonroot") return login !== "root";
    if (user.startsWith(LOCALPART)) {
      const domain = user.slice(LOCALPART.length);
      return owner !== undefined && domain !== "" && owner === `${login}@${domain}`;
    }
    return user === login;
  });
}

/** A destination that is one address of one node; SSH knows no others. */
export function isNodeAddress(text: string): boolean {
  return parseAddress(text)?.length === 4;
}
