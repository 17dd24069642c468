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

const DEEPEST = 100; // a document nested deeper is an attack on the stack

/** Reads HuJSON: JSON with comments and trailing commas. A member named twice is an error. */
export function parseHujson(text: string, file = "input"): Hujson {
  const starts = lineStarts(text);
  const fail = (found: string, offset: number): never => {
    const position = positionAt(starts, offset);
    const { line, column } = position;
    throw new Fault("HUJSON_SYNTAX", `Cannot read "${file}": line ${line}, column ${column}: ${found}`, position);
  };
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
      return positionAt(starts, node.offset);
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
  if (node.type !== "object") return node.value;
  const entries = new Map<string, unknown>();
  for (const member of node.children ?? []) {
    const [key, value] = member.children ?? [];
    if (key === undefined || value === undefined) return fail("a member without a value", member.offset);
    if (entries.has(key.value)) fail(`member ${JSON.stringify(key.value)} named twice`, key.offset);
    entries.set(key.value, plainValue(value, fail));
  }
  return Object.fromEntries(entries); // defines `__proto__` as a plain member
}

/** Offset of the bracket that nests too deep, -1 when none does. jsonc-parser recurses without a bound. */
function depthFault(text: string): number {
  const token = /"(?:[^"\\\n]|\\.)*"?|\/\/[^\n]*|\/\*[\s\S]*?(?:\*\/|$)|[[\]{}]/g;
  let depth = 0;
  for (const match of text.matchAll(token)) {
    if (match[0] === "[" || match[0] === "{") {
      if (++depth > DEEPEST) return match.index;
    } else if (match[0] === "]" || match[0] === "}") depth--;
  }
  return -1;
}

/** `PropertyNameExpected` as "property name expected". */
function spoken(code: string): string {
  return code.replace(/(?!^)[A-Z]/g, (letter) => ` ${letter}`).toLowerCase();
}

function lineStarts(text: string): readonly number[] {
  return [0, ...text.matchAll(/\n/g).map((match) => match.index + 1)];
}

function positionAt(starts: readonly number[], offset: number): Position {
  const above = starts.findLastIndex((start) => start <= offset);
  return { line: above + 1, column: offset - starts[above]! + 1 };
}
