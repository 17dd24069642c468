import { parsePrefix } from "../../base/address.ts";
import { type AddressRange, joinedRanges, rangeOfPrefix } from "../../wire/address-set.ts";
import { INTERNET, without } from "./ranges.ts";
import type { Place } from "./selector-reader.ts";
import type { Path, PolicySource } from "./source.ts";

const MOST_STEPS = 10_000; // sets that include each other twice over grow without end

/** `ipsets`: each is a list of steps, in order: `add T`, `remove T`, or T alone, which adds. */
export function readIpsets(
  source: PolicySource,
  { value, path }: Place,
  hosts: ReadonlyMap<string, string>,
): ReadonlyMap<string, readonly AddressRange[]> {
  const declared = new Map(source.entries(value, path));
  const sets = new Map<string, readonly AddressRange[]>();
  const open = new Set<string>();
  let steps = 0;

  const fail = (where: Path, problem: string): Error => source.fault("POLICY_RULE", where, problem);

  const targetOf = (text: string, where: Path): readonly AddressRange[] => {
    if (text === "autogroup:internet") return INTERNET;
    if (text.startsWith("ipset:")) {
      if (!declared.has(text)) throw fail(where, `ipset not found: "${text}"`);
      return read(text, where);
    }
    const prefix = parsePrefix(hosts.get(text) ?? text);
    if (prefix === undefined) throw fail(where, `"${text}": invalid address`);
    return [rangeOfPrefix(prefix)];
  };

  const read = (name: string, from: Path): readonly AddressRange[] => {
    const known = sets.get(name);
    if (known !== undefined) return known;
    if (open.has(name)) throw fail(from, `ipsets["${name}"]: an ipset cannot include itself`);
    open.add(name);
    let ranges: readonly AddressRange[] = [];
    for (const [index, text] of source.texts(declared.get(name), [...path, name]).entries()) {
      const where = [...path, name, index];
      const [, verb = "add", target = ""] = /^(?:(add|remove)\s+)?(.*)$/s.exec(text.trim())!;
      const named = targetOf(target, where);
      steps += named.length * (verb === "add" ? 1 : Math.max(1, ranges.length));
      if (steps > MOST_STEPS) throw fail(where, `ipsets["${name}"]: too many parts`);
      ranges = joinedRanges(
        verb === "add"
          ? [...ranges, ...named]
          : named.reduce((rest, hole) => rest.flatMap((part) => without(part, hole)), ranges),
      );
    }
    open.delete(name);
    sets.set(name, ranges);
    return ranges;
  };

  for (const name of declared.keys()) {
    if (!/^ipset:./.test(name)) throw fail([...path, name], `ipsets["${name}"]: ipset names must start with "ipset:"`);
    read(name, [...path, name]);
  }
  return sets;
}
