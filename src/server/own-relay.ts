import type { Socket } from "node:net";
import { formatAddressPort } from "../base/address.ts";
import { toHex } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { messageOf } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import { type Random, systemRandom } from "../base/random.ts";
import type { Store } from "../base/store.ts";
import { addressRecord, type RecordSource, type ZoneRecord } from "../certs/zone/records.ts";
import type { Coordinator } from "../coordination/coordinator.ts";
import { publicKeyOf } from "../crypto/keys.ts";
import { IDENTITY, loadIdentity } from "../mesh/state.ts";
import { RECORD } from "../wire/dns.ts";
import { foldName, plainName } from "../wire/host-name.ts";
import { Relay, type RelayListener, type RelayOptions } from "./relay.ts";

const TAG = "tag:ingress";
const NAME = "ingress";
/** Its keys, among those of the server. */
const PREFIX = "relay.";
const KEY_LIFE_MS = 10 * 60_000;
/** Short: an ingress that is gone must not be asked for long. */
const ADDRESS_TTL_S = 15;

export interface OwnRelayOptions {
  readonly listeners: readonly RelayListener[];
  readonly publicAddresses?: readonly string[];
  readonly leases?: NonNullable<RelayOptions["leases"]>;
  readonly limits?: NonNullable<RelayOptions["limits"]>;
  /** For TLS under the server's own name, PEM. @default that of `https`, else a self-signed one, which only DERP's clients take */
  readonly certificate?: { readonly key: string; readonly cert: string };
}

interface Surroundings {
  readonly coordinator: Coordinator;
  /** What clients are told: visitors who ask for its name are not the relay's. */
  readonly serverUrl: string;
  /** Where the server listens itself. */
  readonly address: string;
  readonly port: number;
  /** Takes connections for the server's own name. */
  readonly accept: (socket: Socket) => void;
  readonly state: Store;
  readonly clock: Clock;
  readonly log: Log;
}

/** The server's own ingress, a node like another, which joins by a key that nobody sees. It shares its ports with the server. */
export async function openOwnRelay(options: OwnRelayOptions, around: Surroundings): Promise<Relay> {
  const { coordinator, serverUrl, address, port, state, clock, log } = around;
  const ownName = plainName(new URL(serverUrl).hostname);
  const inside = { "0.0.0.0": "127.0.0.1", "::": "::1" }[address] ?? address;
  const store = below(state, PREFIX);
  const { nodeKey } = await loadIdentity(store, systemRandom);
  // Whoever deleted it, made its key run out or went back to a backup of before it, meant no more than that: it is ours.
  const isKnown = coordinator.isKnownNodeKey(toHex(publicKeyOf(nodeKey)));
  const wanted = { tags: [TAG], expiryMs: KEY_LIFE_MS, preapproved: true };
  const relay = await Relay.open({
    controlUrl: `http://${formatAddressPort({ address: inside, port })}`,
    hostname: NAME,
    store,
    listeners: options.listeners,
    ...(options.publicAddresses === undefined ? {} : { publicAddresses: options.publicAddresses }),
    ...(options.leases === undefined ? {} : { leases: options.leases }),
    ...(options.limits === undefined ? {} : { limits: options.limits }),
    own: {
      has: (asked) => asked !== undefined && foldName(asked) === ownName,
      accept: around.accept,
    },
    ...(isKnown ? {} : { authKey: (await coordinator.createAuthKey(wanted, "start")).key }),
    clock,
    log,
  });
  relay.node.onMap(({ self }) => coordinator.appointRelay(self.Key)); // again with every new key
  relay.node.onState(({ kind }) => {
    if (kind !== "removed" && kind !== "expired") return;
    coordinator.createAuthKey(wanted, "server").then(
      ({ key }) => relay.node.login({ authKey: key }),
      (thrown: unknown) => log.warn("relay.not_back", { error: messageOf(thrown) }), // the server is ending
    );
  });
  return relay;
}

/** What a backup must have of it, for the same node to come back. */
export const RELAY_FILE: string = `${PREFIX}${IDENTITY}`;

/** Part of a store, under names of its own. */
function below(state: Store, prefix: string): Store {
  return {
    get: (name) => state.get(prefix + name),
    set: (name, value) => state.set(prefix + name, value),
    delete: (name) => state.delete(prefix + name),
  };
}

/**
 * Public names lead to the ingresses that are here; to all of them where the server knows none of their addresses. What is public
 * by a wildcard alone is there only where nothing else is at the name (RFC 4592 section 2.2.1).
 */
export function funnelRecords(
  coordinator: () => Pick<Coordinator, "publicPlace" | "relayAddresses">,
  addresses: readonly string[],
  random: Random,
): { readonly named: RecordSource; readonly byWildcard: RecordSource } {
  const records = new Map<string, ZoneRecord>();
  for (const address of addresses) {
    const record = addressRecord(address, ADDRESS_TTL_S);
    if (record !== undefined) records.set(address, record);
  }
  const ingresses = (): readonly ZoneRecord[] => {
    const here = coordinator()
      .relayAddresses()
      .filter((address) => records.has(address));
    const named = (here.length > 0 ? here : [...records.keys()]).map((address) => records.get(address)!);
    // Many take the first one of their family: each is that for its share of visitors.
    const first = random(1)[0]!;
    return [RECORD.A, RECORD.AAAA].flatMap((wanted) => {
      const all = named.filter(({ type }) => type === wanted);
      return all.map((_, i) => all[(i + first) % all.length]!);
    });
  };
  return {
    named: (name) => {
      const place = coordinator().publicPlace(name);
      if (place === "above") return [];
      return place === "name" ? ingresses() : undefined;
    },
    byWildcard: (name) => (coordinator().publicPlace(name) === "below" ? ingresses() : undefined),
  };
}
