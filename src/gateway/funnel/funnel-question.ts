import { type AskingNode, featureRequest } from "../../mesh/control/node-requests.ts";
import { FUNNEL_ATTRIBUTE } from "../../wire/funnel.ts";
import type { QueryFeatureResponse } from "../../wire/ipn.ts";

const PATIENCE_MS = 10_000;

export interface MappedNode extends AskingNode {
  readonly map: { readonly self: { readonly CapMap?: object | null } } | undefined;
}

/**
 * May this node be public? The policy says so, and the server what is missing; one that knows no such question (Headscale), or
 * is away, forbids nothing.
 */
export async function mayFunnel({ map, post }: MappedNode): Promise<QueryFeatureResponse> {
  if (Object.hasOwn(map?.self.CapMap ?? {}, FUNNEL_ATTRIBUTE)) return { Complete: true };
  try {
    const answer: unknown = JSON.parse(await post(featureRequest("funnel"), AbortSignal.timeout(PATIENCE_MS)));
    const { Complete, Text } = Object(answer) as { readonly Complete?: unknown; readonly Text?: unknown };
    if (Complete === false) return { Complete, ShouldWait: false, ...(typeof Text === "string" ? { Text } : {}) };
  } catch {} // who cannot answer, or not in JSON, forbids nothing
  return { Complete: true };
}
