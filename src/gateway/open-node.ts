import { asDuplex } from "../base/duplex.ts";
import { MeshNode } from "../mesh/node.ts";
import { DnsForwarder } from "./dns/dns-forwarder.ts";
import type { GatewayOptions } from "./gateway-options.ts";

/** The node that a gateway serves on: one that knows doors, and asks elsewhere what its WireGuard-only members ask. */
export async function openNode(options: GatewayOptions): Promise<MeshNode> {
  // Nobody asks before the node is there.
  const forwarder = new DnsForwarder(undefined, async (target) => asDuplex(await node.dial(target)));
  const node: MeshNode = await MeshNode.open({
    forwardDns: (...asked) => forwarder.forward(...asked),
    hasDoors: true,
    ...options,
  });
  return node;
}
