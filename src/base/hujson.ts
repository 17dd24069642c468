import { type Node, type ParseError, parseTree, printParseErrorCode } from "jsonc-parser";
import { Fault } from "./fault.ts";

export interface Position {
  readonly line: number;
  readonly column: number;
}

/** A parsed document that still knows where each value stood. */
export interface Hujson {
  readonly value: unknown;
  /** Of the value at `path`, or of the nearest one around it. Both numbers from 1. */
  positionOf(path: readonly (string | number)[]): Position;
}

/** A document nested deeper is an attack on the stack, a longer one on the clock (CF-1). */
const DEEPEST = 64;
const LONGEST: number = 2 * 1024 * 1024;

/** Reads HuJSON: JSON with comments and trailing commas. A member named twice is an error. */
export function parseHujson(text: string, file = "input"): Hujson {
  const positionAt = positionsOf(text);
  const fail = (found: string, offset: number): never => {
    const position = positionAt(offset);
    const { line, column } = position;
    throw new Fault("HUJSON_SYNTAX", `Cannot read "${file}": line ${line}, column ${column}: ${found}`, position);
  };
  if (text.length > LONGEST) fail(`${text.length} characters, at most ${LONGEST} wanted`, LONGEST);
  if (text.startsWith("\ufeff")) fail("a byte order mark, plain UTF-8 wanted", 0);
  const tooDeep = depthFault(text);
  if (tooDeep >= 0) fail(`nested more than ${DEEPEST} deep`, tooDeep);
  const errors: ParseError[] = [];
  const root = parseTree(text, errors, { allowTrailingComma: true, disallowComments: false, allowEmptyContent: false });
  const first = errors[0];
  if (first !== undefined) fail(spoken(printParseErrorCode(first.error)), first.offset);
  if (root === undefined) return fail("no value, one JSON value wanted", 0);
  return {
    value: plainValue(root, fail),
    positionOf(path) {
      let node = root;
      for (const step of path) {
        const next = childOf(node, step);
        if (next === undefined) break;
        node = next;
      }
      return positionAt(node.offset);
    },
  };
}

function childOf(node: Node, step: string | number): Node | undefined {
  if (typeof step === "number") return node.type === "array" ? node.children?.[step] : undefined;
  return node.type === "object"
    ? node.children?.find((member) => member.children?.[0]?.value === step)?.children?.[1]
    : undefined;
}

function plainValue(node: Node, fail: (found: string, offset: number) => never): unknown {
  if (node.type === "array") return (node.children ?? []).map((child) => plainValue(child, fail));
  if (node.type === "string") return wellFormed(node, fail);
  if (node.type !== "object") return node.value;
  const entries = new Map<string, unknown>();
  for (const member of node.children ?? []) {
    const [key, value] = member.children ?? [];
    if (key === undefined || value === undefined) return fail("a member without a value", member.offset);
    const name = wellFormed(key, fail);
    if (entries.has(name)) fail(`member ${JSON.stringify(name)} named twice`, key.offset);
    entries.set(name, plainValue(value, fail));
  }
  return Object.fromEntries(entries); // defines `__proto__` as a plain member
}

/** Half a surrogate pair has no UTF-8 form: it would be another text wherever it is written. */
function wellFormed(node: Node, fail: (found: string, offset: number) => never): string {
  const text = String(node.value);
  return text.isWellFormed() ? text : fail("half of a surrogate pair", node.offset);
}

/** Offset of the bracket that nests too deep, -1 when none does. jsonc-parser recurses without a bound. */
function depthFault(text: string): number {
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const character = text[at]!;
    if (character === '"') at = stringEnd(text, at);
    else if (character === "/") at = commentEnd(text, at);
    else if (character === "]" || character === "}") depth--;
    else if ((character === "[" || character === "{") && ++depth > DEEPEST) return at;
  }
  return -1;
}

/** Of its closing quote, or of the line's end, where jsonc-parser gives up. */
function stringEnd(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at++) {
    if (text[at] === "\\") at++;
    else if (text[at] === '"' || text[at] === "\n") return at;
  }
  return text.length;
}

function commentEnd(text: string, start: number): number {
  const mark = text[start + 1];
  if (mark !== "/" && mark !== "*") return start;
  const end = text.indexOf(mark === "/" ? "\n" : "*/", start + 2);
  return end < 0 ? text.length : mark === "/" ? end : end + 1;
}

/** `PropertyNameExpected` as "property name expected". */
function spoken(code: string): string {
  return code.replace(/(?!^)[A-Z]/g, (letter) => ` ${letter}`).toLowerCase();
}

/** Lines are counted at the first question: most documents are never asked about. */
function positionsOf(text: string): (offset: number) => Position {
  let starts: number[] | undefined;
  return (offset) => {
    if (starts === undefined) {
      starts = [0];
      for (let end = text.indexOf("\n"); end >= 0 && end < LONGEST; end = text.indexOf("\n", end + 1)) {
        starts.push(end + 1);
      }
    }
    const above = starts.findLastIndex((start) => start <= offset);
    return { line: above + 1, column: offset - starts[above]! + 1 };
  };
}
