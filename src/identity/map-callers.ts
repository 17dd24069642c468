import { canonicalAddress, formatAddress, parseAddress, parsePrefix } from "../base/address.ts";
import type { Proof } from "../base/conn.ts";
import { Fault } from "../base/fault.ts";
import { keyExpiryMs } from "../wire/map-apply.ts";
import { isMeshAddress } from "../wire/mesh-address.ts";
import type { NetworkMap } from "../wire/network-map.ts";
import type { CapMap, Node, UserProfile } from "../wire/tailcfg.ts";
import type { Caller, Callers } from "./caller.ts";

/** A node with what is asked of it on every request. */
interface Known {
  readonly node: Node;
  readonly addresses: ReadonlySet<string>;
  /** Unix ms; `Infinity` when it never expires. */
  readonly expiry: number;
}

interface Watch {
  readonly proof: Proof;
  readonly controller: AbortController;
  readonly identity: string;
}

/** Callers by the current network map. Who a proof is, is looked up by node key, never by address alone (ID-11). */
export class MapCallers implements Callers {
  readonly #capabilitiesOf: (source: string, destination: string) => CapMap;
  readonly #wall: () => number;
  #known: Map<string, Known> = new Map();
  #users: ReadonlyMap<number, UserProfile> = new Map();
  #epoch = 0;
  /** By node key, then by who it is there. */
  readonly #watches: Map<string, Map<string, Watch>> = new Map();

  /** `wall` is Unix time in ms, for the expiry of node keys. */
  constructor(capabilitiesOf: (source: string, destination: string) => CapMap, wall: () => number = Date.now) {
    this.#capabilitiesOf = capabilitiesOf;
    this.#wall = wall;
  }

  get epoch(): number {
    return this.#epoch;
  }

  /** Takes the map and cuts whoever is no longer who they were. */
  setMap(map: NetworkMap): void {
    const known = new Map<string, Known>();
    for (const node of [map.self, ...map.peers.values()]) known.set(keyOf(node.Key), digest(node));
    this.#known = known;
    this.#users = map.users;
    this.#epoch++;
    this.#review();
  }

  /** Cuts connections of nodes whose keys have run out since the last map. Cheap; to be called every few seconds. */
  review(): void {
    this.#review();
  }

  #review(): void {
    for (const [nodeKey, watches] of this.#watches) {
      for (const [key, watch] of watches) {
        const caller = this.of(watch.proof, 0);
        if (!(caller instanceof Fault) && identityOf(caller) === watch.identity) continue;
        watches.delete(key);
        watch.controller.abort(
          new Fault("IDENTITY_REVOKED", "Cannot keep the connection: its caller is no longer who it was, reconnect"),
        );
      }
      if (watches.size === 0) this.#watches.delete(nodeKey);
    }
  }

  of(proof: Proof, _now: number): Caller | Fault {
    if (proof.kind === "public") return { kind: "anonymous", address: proof.source.address };
    const known = this.#known.get(keyOf(proof.nodeKey));
    if (known === undefined) {
      return new Fault(
        "IDENTITY_UNKNOWN_PEER",
        `Cannot identify "${proof.nodeKey}": not in the network map, wanted one of its nodes`,
      );
    }
    if (known.node.Expired === true || known.expiry <= this.#wall()) {
      return new Fault(
        "IDENTITY_EXPIRED",
        `Cannot identify "${known.node.Name}": its key has expired, wanted a valid one`,
        { hint: "The node's user must log in again." },
      );
    }
    if (proof.kind === "ingress") return visitorOf(proof.visitor.address);
    return this.#meshCaller(known, proof.nodeKey, canonical(proof.source.address));
  }

  #meshCaller(known: Known, nodeKey: string, address: string): Caller | Fault {
    const { node } = known;
    const nodeName = node.Name.replace(/\.$/, "");
    if (!known.addresses.has(address)) return { kind: "routed", via: nodeKey, address };
    if (node.Tags !== undefined && node.Tags !== null && node.Tags.length > 0) {
      return { kind: "tagged", nodeKey, nodeName, tags: node.Tags, address };
    }
    const user = this.#users.get(node.User);
    // ID-16: coordination servers have a profile for what belongs to nobody.
    if (user === undefined || user.LoginName === "" || user.LoginName === "tagged-devices") {
      return new Fault(
        "IDENTITY_UNKNOWN_USER",
        `Cannot identify the user of "${nodeName}": number ${node.User} has no profile, wanted one`,
      );
    }
    return {
      kind: "user",
      nodeKey,
      nodeName,
      login: user.LoginName,
      displayName: user.DisplayName ?? "",
      profilePicture: user.ProfilePicURL ?? "",
      address,
    };
  }

  capabilities(caller: Caller, destination: string, names: readonly string[]): string | undefined {
    if (names.length === 0) return undefined;
    if (caller.kind !== "user" && caller.kind !== "tagged" && caller.kind !== "routed") return undefined;
    const held = this.#capabilitiesOf(caller.address, destination);
    const all = Object.keys(held);
    if (all.length === 0) return undefined;
    const accepted = all.filter((name) => names.some((wanted) => isAccepted(wanted, name))).sort(byBytes);
    const members = accepted.map((name) => `${JSON.stringify(name)}:${JSON.stringify(held[name] ?? [])}`);
    // Go's encoder escapes these three for the sake of HTML.
    return `{${members.join(",")}}`.replace(/[<>&]/g, (c) => `\\u00${c.charCodeAt(0).toString(16)}`);
  }

  revoked(proof: Proof): AbortSignal {
    const caller = this.of(proof, 0);
    if (caller instanceof Fault) return AbortSignal.abort(caller);
    if (proof.kind === "public") return new AbortController().signal;
    const nodeKey = keyOf(proof.nodeKey);
    let watches = this.#watches.get(nodeKey);
    if (watches === undefined) {
      watches = new Map();
      this.#watches.set(nodeKey, watches);
    }
    // One watch serves all visitors of a relay, for it is the relay that may go, and all connections from one address of a node.
    const identity = identityOf(caller);
    const key = proof.kind === "ingress" ? proof.kind : `${identity}|${caller.address}`;
    let watch = watches.get(key);
    if (watch === undefined) {
      if (watches.size >= MOST_WATCHES_OF_NODE) dropOldest(watches);
      watch = { proof, controller: new AbortController(), identity };
      watches.set(key, watch);
    }
    return watch.controller.signal;
  }
}

/** Addresses behind a subnet router are as many as it likes: they cost nobody else anything. */
const MOST_WATCHES_OF_NODE = 16_384;

/** Who is forgotten cannot be cut later, so they are cut now. */
function dropOldest(watches: Map<string, Watch>): void {
  const [key, watch] = watches.entries().next().value ?? [];
  if (key === undefined || watch === undefined) return;
  watches.delete(key);
  const found = `more than ${MOST_WATCHES_OF_NODE} callers by one node`;
  watch.controller.abort(new Fault("IDENTITY_TOO_MANY", `Cannot watch ${found}, reconnect`));
}

function isAccepted(wanted: string, name: string): boolean {
  return wanted.endsWith("*") ? name.startsWith(wanted.slice(0, -1)) : wanted === name;
}

/** Nobody comes from the public Internet with an address of the mesh (ID-12). */
function visitorOf(text: string): Caller | Fault {
  const address = canonical(text);
  const bytes = parseAddress(address);
  if (bytes === undefined || isMeshAddress(bytes)) {
    return new Fault(
      "IDENTITY_INGRESS_CLAIM",
      `Cannot believe the ingress: visitor "${text}", wanted a public address`,
    );
  }
  return { kind: "anonymous", address };
}

const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

/** What must stay the same for a connection to stay open. The profile's texts may change. */
function identityOf(caller: Caller): string {
  switch (caller.kind) {
    case "user":
      return `user ${caller.nodeKey} ${caller.login}`;
    case "tagged":
      return `tagged ${caller.nodeKey} ${caller.tags.join(" ")}`;
    case "routed":
      return `routed ${caller.via}`;
    default:
      return caller.kind;
  }
}

/** Node keys come as bare hex and with the prefix of their text form. */
function keyOf(text: string): string {
  return text.startsWith("nodekey:") ? text.slice(8) : text;
}

function canonical(text: string): string {
  return canonicalAddress(text) ?? text;
}

function digest(node: Node): Known {
  const addresses = new Set<string>();
  for (const text of node.Addresses ?? []) {
    const prefix = parsePrefix(text);
    if (prefix !== undefined && prefix.bits === 8 * prefix.address.length) addresses.add(formatAddress(prefix.address));
  }
  return { node, addresses, expiry: keyExpiryMs(node) };
}
