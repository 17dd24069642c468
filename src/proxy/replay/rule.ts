import type { Message } from "./messages.ts";
import type { Sent } from "./request.ts";
import type { Route } from "./route.ts";

/** What ours must do. */
export interface Expected {
  backend: readonly Message[];
  client: readonly Message[];
  end: "open" | "closed";
  /** The request is refused as it is read: the backend may have the head and a part of the body, never all of it. */
  isCutShort?: boolean;
  /** The status that the one answer may have instead. */
  orElse?: number | undefined;
}

/**
 * A deliberate difference between upstream and ours: when it holds, by the request and its route alone, and what is
 * expected then. Every one has its reason in docs/identity.md, under the same name.
 */
export interface Rule {
  readonly name: string;
  applies(sent: Sent, route: Route): boolean;
  /** The bytes of a request that must have the same outcome, but for the fields that `change` adapts. */
  plain?(sent: Sent): string;
  change?(expected: Expected, sent: Sent, route: Route): void;
}

export function message(status: number): Message {
  return { line: `HTTP/1.1 ${status}`, fields: [], body: "", isCut: false };
}
