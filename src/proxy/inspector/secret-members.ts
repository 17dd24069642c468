import { redactLabelled } from "./labelled-values.ts";
import { isSecretName, nameIn } from "./secret-names.ts";
import { REDACTED } from "./secret-shapes.ts";

/** Every string of a JSON text, and what it names. Of an object or a list only the bracket: what is in it is looked at by itself, or goes as a whole. */
const STRING = /"((?:[^"\\]|\\.)*)"(?:(\s*:\s*)("(?:[^"\\]|\\.)*"|[[{]|[^\s,}\][{"]+))?/g;
/** The same in what is cut, or no JSON as a whole: a quotation mark may stand for itself, so each may begin a name. */
const MEMBER = /"((?:[^"\\]|\\.){1,100})"(\s*:\s*)("(?:[^"\\]|\\.)*"?|[[{]|[^\s,}\][{"]+)/g;
/** What brackets can be counted by. */
const TREE_PART = /"(?:[^"\\]|\\.)*"?|[[\]{}]/g;
/** Of documents in strings of documents. */
const DEEPEST = 3;

/** JSON, or JSON somewhere in a text, without the values of members whose name speaks of a secret. */
export function redactMembers(given: string, depth: number = 0): string {
  const text = redactLabelled(given);
  const member = new RegExp(isJson(text) ? STRING : MEMBER);
  let shown = "";
  let at = 0;
  for (let found = member.exec(text); found !== null; found = member.exec(text)) {
    const [, name = "", colon, value = ""] = found;
    if (colon === undefined) continue;
    let instead: string | undefined;
    if (isSecretName(nameIn(name))) {
      if (/^[[{]/.test(value)) member.lastIndex = endOfTree(text, member.lastIndex); // secret to its last leaf
      instead = `"${REDACTED}"`;
    } else if (depth < DEEPEST && /\\["']/.test(value)) instead = redactInner(value, depth);
    if (instead === undefined) continue;
    shown += `${text.slice(at, found.index)}"${name}"${colon}${instead}`;
    at = member.lastIndex;
  }
  return shown + text.slice(at);
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** `password="…"` and its like, as languages, GraphQL and markup write it. */
const ASSIGNED =
  /(?<![\w$-])([A-Za-z_$][\w$-]{0,63})(["']?\s{0,8}[:=]\s{0,8})(?:"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|`(?:[^`\\]|\\.)*`?)/g;

export function redactAssigned(text: string): string {
  return text.replace(ASSIGNED, (whole, name: string, sign: string) =>
    isSecretName(name) ? `${name}${sign}"${REDACTED}"` : whole,
  );
}

/** A string that holds a document of its own, perhaps without its end; `undefined` where nothing in it is secret. */
function redactInner(value: string, depth: number): string | undefined {
  const isCut = !/[^\\](?:\\\\)*"$/.test(value);
  let inner: unknown;
  try {
    inner = JSON.parse(isCut ? `${value.replace(/\\(?:u[\da-f]{0,3})?$/i, "")}"` : value);
  } catch {
    return `"${REDACTED}"`; // nobody can say what it holds
  }
  if (typeof inner !== "string") return undefined;
  const shown = redactAssigned(redactMembers(inner, depth + 1));
  return shown === inner ? undefined : JSON.stringify(shown);
}

function endOfTree(text: string, from: number): number {
  const part = new RegExp(TREE_PART);
  part.lastIndex = from;
  let open = 1;
  for (let found = part.exec(text); found !== null; found = part.exec(text)) {
    if (/^[[{]/.test(found[0])) open++;
    else if (/^[\]}]/.test(found[0])) open--;
    if (open === 0) return part.lastIndex;
  }
  return text.length;
}
