import type { PolicyNode } from "../policy-engine.ts";

export type AttributeValue = string | number | boolean;

/** One line of a posture, such as `node:tsVersion >= '1.60'`. */
export interface Assertion {
  readonly attribute: string;
  readonly operator: "==" | "!=" | "<" | "<=" | ">" | ">=" | "IN" | "NOT IN" | "IS SET" | "NOT SET";
  readonly values: readonly AttributeValue[];
}

/** All of its assertions must hold. */
export type Posture = readonly Assertion[];

const ASSERTION =
  /^\s*([a-z]+:[A-Za-z0-9_]+)\s*(==|!=|<=|>=|<|>|\bNOT\s+IN\b|\bIN\b|\bIS\s+SET\b|\bNOT\s+SET\b)\s*(.*?)\s*$/s;
const VALUE = /^(?:'([^']*)'|"([^"]*)"|(true|false)|(-?\d+(?:\.\d+)?))$/;

/** A string result is what is wrong. */
export function parseAssertion(text: string): Assertion | string {
  const [, attribute, word = "", rest = ""] = ASSERTION.exec(text) ?? [];
  if (attribute === undefined) return `"${text}": wanted ATTRIBUTE OPERATOR VALUE`;
  const operator = word.replace(/\s+/g, " ") as Assertion["operator"];
  if (operator.endsWith("SET")) {
    return rest === "" ? { attribute, operator, values: [] } : `"${text}": no value is wanted after ${operator}`;
  }
  const isList = operator.endsWith("IN");
  const inner = isList ? /^\[(.*)\]$/s.exec(rest)?.[1] : rest;
  if (inner === undefined) return `"${text}": a list is wanted after ${operator}`;
  const parts = isList ? (inner.match(/'[^']*'|"[^"]*"|[^,]+/g) ?? []).map((part) => part.trim()) : [inner];
  const values = parts.filter((part) => !isList || part !== "").map(parseValue);
  if (values.some((value) => value === undefined) || values.length === 0) {
    return `"${text}": 'text', a number, true or false is wanted`;
  }
  return { attribute, operator, values: values as readonly AttributeValue[] };
}

function parseValue(text: string): AttributeValue | undefined {
  const match = VALUE.exec(text);
  if (match === null) return undefined;
  const [, single, double, truth, figure] = match;
  if (truth !== undefined) return truth === "true";
  return figure === undefined ? (single ?? double ?? "") : Number(figure);
}

/** What a node does not say is met by no assertion but `NOT SET`: a posture narrows, and doubt keeps out. */
function holds({ attribute, operator, values }: Assertion, attributes: PolicyNode["attributes"]): boolean {
  const own = attributes !== undefined && Object.hasOwn(attributes, attribute) ? attributes[attribute] : undefined;
  if (operator === "NOT SET") return own === undefined;
  if (own === undefined) return false;
  switch (operator) {
    case "IS SET":
      return true;
    case "==":
    case "IN":
      return values.some((value) => order(own, value) === 0);
    case "!=":
    case "NOT IN":
      return values.every((value) => order(own, value) !== 0);
    default: {
      const sign = order(own, values[0]!);
      if (sign === undefined) return false;
      if (sign === 0) return operator.endsWith("=");
      return operator.startsWith("<") ? sign < 0 : sign > 0;
    }
  }
}

/** Negative, zero, positive; `undefined`: of different kinds. Versions are compared part by part, not as text. */
function order(a: AttributeValue, b: AttributeValue): number | undefined {
  if (typeof a !== typeof b) return undefined;
  if (typeof a !== "string" || typeof b !== "string") return Number(a) - Number(b);
  const [left, right] = [versionOf(a), versionOf(b)];
  if (left === undefined || right === undefined) return a === b ? 0 : a < b ? -1 : 1;
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** `1.60.1-t1234` as 1, 60, 1. */
function versionOf(text: string): readonly number[] | undefined {
  const match = /^v?(\d{1,9}(?:\.\d{1,9})*)(?:-.*)?$/.exec(text);
  return match === null ? undefined : match[1]!.split(".").map(Number);
}

/** No postures: everybody meets them. Otherwise one of them must hold whole. */
export function meets(postures: readonly Posture[], { attributes }: PolicyNode): boolean {
  return postures.length === 0 || postures.some((posture) => posture.every((line) => holds(line, attributes)));
}
