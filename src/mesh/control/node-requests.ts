import { formatKey, publicKeyOf } from "../../crypto/keys.ts";
import { CAPABILITY_VERSION } from "../../wire/tailcfg.ts";
import type { ControlChannel } from "./control-channel.ts";
import type { ControlClientOptions } from "./control-state.ts";
import { StatusError, statusFault } from "./requests.ts";

/** What a node asks of its server besides registration and map. */
export interface NodeRequest {
  readonly path: string;
  readonly members: Readonly<Record<string, string>>;
}

export interface AskingNode {
  /** The body of the server's answer. */
  post(request: NodeRequest, signal: AbortSignal): Promise<string>;
}

/** A TXT record of our own name in public DNS; the answer comes when it is served. */
export function setDnsRequest(name: string, value: string): NodeRequest {
  return { path: "/machine/set-dns", members: { Name: name, Type: "TXT", Value: value } };
}

/** Publishes TXT records as `node`. */
export function txtPublisher(node: AskingNode): (name: string, value: string, signal: AbortSignal) => Promise<void> {
  return async (name, value, signal) => void (await node.post(setDnsRequest(name, value), signal));
}

/** May this node use a feature, and if not, what is to be done? */
export function featureRequest(feature: string): NodeRequest {
  return { path: "/machine/feature/query", members: { Feature: feature } };
}

/** The body of the answer. Throws a `StatusError` for a refusal. */
export async function postAsNode(
  channel: ControlChannel,
  options: ControlClientOptions,
  { path, members }: NodeRequest,
  signal: AbortSignal,
): Promise<string> {
  const NodeKey = formatKey("nodekey", publicKeyOf(options.nodeKey().private));
  const body = JSON.stringify({ Version: CAPABILITY_VERSION, NodeKey, ...members });
  const headers = { "content-type": "application/json", "ts-lb": [NodeKey] };
  const answer = await channel.ask({ method: "POST", path, headers, body, signal });
  if (answer.status !== 200) throw new StatusError(statusFault(path, answer.status, answer.body), answer);
  return answer.body;
}
