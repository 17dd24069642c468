import { type AddressBytes, parsePrefix } from "../../base/address.ts";
import { type AddressRange, formatRange } from "../../wire/address-set.ts";
import type { PolicyNode } from "../policy-engine.ts";
import { rangesOf, routeRanges, virtualRanges } from "./resolve.ts";

/** Where a node is reached. */
export interface Own {
  readonly addresses: readonly AddressBytes[];
  readonly ranges: readonly AddressRange[];
  readonly routes: readonly AddressRange[];
  /** Addresses of the services that it hosts. */
  readonly virtual: readonly AddressRange[];
  readonly texts: readonly string[];
}

/** A node that did not change is the same object in the next compilation. */
const owns: WeakMap<PolicyNode, Own> = new WeakMap();

export function ownOf(node: PolicyNode): Own {
  let own = owns.get(node);
  if (own === undefined) {
    const addresses = node.addresses.map((text) => parsePrefix(text)?.address).filter((bytes) => bytes !== undefined);
    const ranges = rangesOf(node);
    own = {
      addresses,
      ranges,
      routes: routeRanges(node),
      virtual: virtualRanges(node),
      texts: ranges.map(formatRange),
    };
    owns.set(node, own);
  }
  return own;
}
