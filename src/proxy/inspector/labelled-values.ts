import { foldWords, isSecretName, nameIn } from "./secret-names.ts";
import { REDACTED } from "./secret-shapes.ts";

/** Strings, brackets and marks of JSON, and what stands between them. */
const PART = /"(?:[^"\\]|\\.)*"?|[[\]{}:,]|[^\s"[\]{}:,]+/g;
/** Members that say what another one of the same object is, and that other one. */
const LABEL =
  /^(?:.*-)?(?:name|key|id|label|field|header|param|parameter|attribute|property|variable|setting|option)$|^k$/;
const VALUE = /^(?:.*-)?val(?:ue)?s?$|^v$|^content$|^default$/;
const LONGEST_LABEL = 64;

/** From and to: a part of the text. */
type Range = readonly [from: number, to: number];

/** An object or list that is open where we read. */
interface Open {
  readonly from: number;
  readonly isList: boolean;
  /** Of the member whose value comes. */
  name: string | undefined;
  isSecret: boolean;
  /** What goes if it is. */
  readonly values: Range[];
  items: number;
}

/**
 * JSON, or JSON somewhere in a text, without values whose name is itself a value beside them: `{"name":"password","value":…}`, as forms, settings
 * and environments are sent, in whatever order; and without the second half of `["password",…]`, as lists of header fields have it.
 */
export function redactLabelled(text: string): string {
  if (!/[[{]/.test(text)) return text;
  const open: Open[] = [];
  const secret: Range[] = [];
  let last: Range = [0, 0];
  const close = (to: number): void => {
    const { from, isList, isSecret, values, items } = open.pop()!;
    if (isSecret && (!isList || items === 2)) secret.push(...values);
    take(open.at(-1), text, [from, to], false);
  };
  for (const { 0: part, index } of text.matchAll(PART)) {
    const within = open.at(-1);
    const to = index + part.length;
    if (part === "{" || part === "[") {
      open.push({ from: index, isList: part === "[", name: undefined, isSecret: false, values: [], items: 0 });
    } else if (part === "}" || part === "]") {
      if (within !== undefined) close(to);
    } else if (part === ":") {
      if (within?.isList === false && within.name === undefined) within.name = text.slice(...last);
    } else if (part === ",") {
      if (within !== undefined) within.name = undefined;
    } else {
      take(within, text, [index, to], true);
      last = [index, to];
    }
  }
  while (open.length > 0) close(text.length); // what was cut
  return without(text, secret);
}

function take(within: Open | undefined, text: string, range: Range, isWord: boolean): void {
  if (within === undefined) return;
  if (within.isList) {
    within.items++;
    if (within.items === 1) within.isSecret = isWord && isSecretLabel(text, range);
    else if (within.items === 2 && isWord) within.values.push(range);
  } else if (within.name !== undefined) {
    const name = folded(within.name);
    if (isWord && LABEL.test(name)) within.isSecret ||= isSecretLabel(text, range);
    else if (isWord && name === "type") within.isSecret ||= folded(text.slice(...range)) === "password";
    else if (VALUE.test(name)) within.values.push(range);
  }
}

/** A name has some words; what is longer speaks of a password and is none. */
function isSecretLabel(text: string, [from, to]: Range): boolean {
  if (to - from > LONGEST_LABEL + 2) return false;
  const label = nameIn(text.slice(from, to));
  return label.trim().split(/\s+/).length <= 3 && isSecretName(label);
}

function folded(name: string): string {
  if (name.length > LONGEST_LABEL + 2) return "";
  return foldWords(nameIn(name));
}

function without(text: string, secret: readonly Range[]): string {
  let shown = "";
  let at = 0;
  for (const [from, to] of secret.toSorted(([a], [b]) => a - b)) {
    if (from < at) continue; // in a list or object that went
    shown += `${text.slice(at, from)}"${REDACTED}"`;
    at = to;
  }
  return shown + text.slice(at);
}
