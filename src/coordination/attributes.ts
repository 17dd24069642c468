import { Fault } from "../base/fault.ts";
import type { Core } from "./core.ts";
import type { AttributeValue, NodeAttributes, NodeRecord } from "./records.ts";

/** What is set of a node's own attributes; `null` takes one away. */
export type AttributeUpdate = Readonly<Record<string, AttributeValue | null>>;

const MOST = 64;
const NAME = /^custom:[A-Za-z0-9_]{1,50}$/;
const TEXT = /^[^\p{Cc}]{1,256}$/u;

const bad = (name: string, found: string, wanted: string): Fault =>
  new Fault("COORDINATION_ATTRIBUTE", `Cannot set attribute "${name.slice(0, 100)}": ${found}, wanted ${wanted}`);

/** @throws {Fault} COORDINATION_ATTRIBUTE */
export function checkedUpdate(value: unknown): AttributeUpdate {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw bad("", "no object is given", "one");
  const entries = Object.entries(value as Readonly<Record<string, unknown>>);
  if (entries.length > MOST) throw bad("", `${entries.length} are given`, `at most ${MOST}`);
  for (const [name, given] of entries) {
    // The other spaces (`node:`, `ip:`) are what somebody measured, never what somebody said.
    if (!NAME.test(name)) throw bad(name, "that is no name for one", "`custom:` and up to 50 letters, digits and _");
    const isValue = typeof given === "boolean" || (typeof given === "number" && Number.isFinite(given));
    const isText = typeof given === "string" && TEXT.test(given);
    if (given !== null && !isValue && !isText)
      throw bad(name, "that is no value for one", "up to 256 characters, a number, true or false");
  }
  return Object.fromEntries(entries) as AttributeUpdate;
}

/** The node with its attributes after `update`; the same one when nothing changes. */
function updated(node: NodeRecord, update: AttributeUpdate): NodeRecord {
  const merged: NodeAttributes = Object.fromEntries(
    Object.entries({ ...node.attributes, ...update })
      .filter((entry): entry is [string, AttributeValue] => entry[1] !== null)
      .toSorted(([a], [b]) => (a < b ? -1 : 1)),
  );
  if (JSON.stringify(merged) === JSON.stringify(node.attributes ?? {})) return node;
  const count = Object.keys(merged).length;
  if (count > MOST) throw bad("", `the node would have ${count}`, `at most ${MOST}`);
  const { attributes: _before, ...kept } = node;
  return count === 0 ? kept : { ...kept, attributes: merged };
}

/** @throws {Fault} COORDINATION_ATTRIBUTE */
export function setAttributes(
  core: Core,
  which: number | string,
  update: AttributeUpdate,
  by: string,
): Promise<NodeRecord> {
  const checked = checkedUpdate(update);
  return core.exclusive(async () => {
    const before = core.node(which);
    const after = updated(before, checked);
    if (after === before) return before;
    const entry = core.entry(by, "node.attributes", `node:${after.id}`, JSON.stringify(checked));
    await core.replace(after, entry, "topology");
    return after;
  });
}

/** What a node says of itself: only what the policy's `attrConfig` leaves to nodes. All of it or nothing. */
export async function setOwnAttributes(
  core: Core,
  node: NodeRecord,
  value: unknown,
): Promise<{ status: number; body?: unknown }> {
  let update: AttributeUpdate;
  try {
    update = checkedUpdate(value);
  } catch (thrown) {
    if (!(thrown instanceof Fault)) throw thrown;
    return { status: 400, body: `${thrown.message}\n` };
  }
  const { policy } = core.views;
  const denied = Object.entries(update).find(([name, given]) => !policy.mayNodeSet(name, given));
  if (denied !== undefined)
    return { status: 403, body: `nodes may not set ${denied[0]} so: see the policy's attrConfig\n` };
  await setAttributes(core, node.id, update, `node:${node.id}`);
  return { status: 200, body: {} };
}
