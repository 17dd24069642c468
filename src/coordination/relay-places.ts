import { parseAddressPort } from "../base/address.ts";
import type { Core } from "./core.ts";
import type { NodeRecord } from "./records.ts";

/** Addresses of Funnel's relays that are here and take visitors, as far as they know them themselves. */
export function relayAddresses(core: Core): readonly string[] {
  const known = new Set(core.options.relayAddresses);
  const places = relaysHere(core).flatMap(({ visitedAt, endpoints }) => {
    // Of a machine with several addresses each may be another relay's. Behind a translator it says one that nobody knows.
    const said = visitedAt?.filter((address) => known.has(address)) ?? [];
    return said.length > 0 ? said : endpoints.map((endpoint) => parseAddressPort(endpoint)?.address);
  });
  return [...new Set(places.filter((address) => address !== undefined))];
}

function relaysHere(core: Core): readonly NodeRecord[] {
  const { ledger, returning, streams, views } = core;
  const ids = [...views.ingresses().relays.keys()];
  const relays = ids.map((id) => ledger.nodes.get(id)).filter((node) => node !== undefined);
  const taking = relays.filter(({ isDraining }) => isDraining !== true);
  const streaming = taking.filter(({ id }) => streams.has(id));
  const awaited = taking.filter(({ id, isLost }) => isLost !== true && returning.has(id));
  if (returning.isAny) {
    // The one in our own process began anew with us: it brings nobody to a node that is not back yet, of whom the others know.
    const others = streaming.filter(({ nodeKey }) => nodeKey !== views.appointedRelay);
    return [...(others.length > 0 ? others : streaming), ...awaited];
  }
  if (streaming.length > 0 || taking.length === relays.length) return streaming;
  // A stream that begins anew is away for a moment: who drains must not be named for that.
  return taking.filter(({ id }) => core.isOnline(id));
}
