import type { Core } from "./core.ts";
import type { Ledger } from "./ledger.ts";
import type { NodeRecord } from "./records.ts";

const SETTING = "deviceApproval";

/** Do new devices wait for an approval? */
export function needsApproval(ledger: Ledger): boolean {
  return ledger.settings.get(SETTING) === "on";
}

/** Devices that are in already stay in. */
export function setDeviceApproval(core: Core, isOn: boolean, by: string): Promise<void> {
  return core.exclusive(async () => {
    if (needsApproval(core.ledger) === isOn) return;
    const value = isOn ? "on" : "off";
    await core.ledger.commit([
      { put: "setting", name: SETTING, value },
      core.entry(by, "approval.set", "nodes", value),
    ]);
  });
}

export function approveNode(core: Core, which: number | string, by: string): Promise<NodeRecord> {
  return core.exclusive(async () => {
    const before = core.node(which);
    const { isUnapproved, ...node } = before;
    if (isUnapproved !== true) return before;
    await core.replace(node, core.entry(by, "node.approve", `node:${node.id}`, node.name), "topology");
    return node;
  });
}
