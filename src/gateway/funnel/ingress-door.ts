import { type AddressPort, parseAddressPort } from "../../base/address.ts";
import type { Clock } from "../../base/clock.ts";
import type { Conn } from "../../base/conn.ts";
import { Fault } from "../../base/fault.ts";
import { LinkedList } from "../../base/linked-list.ts";
import type { Log } from "../../base/log.ts";
import type { PeekedConn } from "../../base/peeked-conn.ts";
import { WaitingLine } from "../../base/waiting-line.ts";
import { PacedConn } from "../../funnel/paced-conn.ts";
import { RuleGauges } from "../../funnel/rule-gauges.ts";
import { capabilitiesOf } from "../../wire/capabilities.ts";
import { INGRESS_CAPABILITY } from "../../wire/funnel.ts";
import { acceptanceOf, type PeerApiHead, SOURCE_FIELD, TARGET_FIELD } from "../../wire/ingress.ts";
import type { ServeConfig } from "../../wire/serve-config.ts";
import type { FilterRule } from "../../wire/tailcfg.ts";
import { isWelcome, type VisitorRules } from "../../wire/visitor-rules.ts";
import { PublicTargets, type Target } from "./public-targets.ts";
import { RelayPresence, type RelayPresenceOptions } from "./relay-presence.ts";
import type { VisitorRulesOf } from "./told-rules.ts";
import { type MeshProof, type RelayLoad, Visit, type VisitKeeper } from "./visit.ts";
import { isBelievableVisitor } from "./visitor-address.ts";

export interface IngressDoorOptions extends RelayPresenceOptions {
  readonly config: () => ServeConfig;
  /** What we ask for visitors, which relays may know or not. */
  readonly rulesOf?: VisitorRulesOf;
  /** This node's full name, under which raw ports are delivered. */
  readonly ownName: () => string;
  readonly packetFilter: () => readonly FilterRule[];
  /** Tags and node keys (`nodekey:…`) of relays that count as ingresses where the server cannot say so (Headscale). */
  readonly trusted?: readonly string[];
  /** A visitor on this machine itself; for demos and tests. @default false */
  readonly allowsLoopback?: boolean;
  readonly accept: (conn: Conn, port: number) => void;
  readonly log: Log;
  readonly limits?: Partial<IngressDoorLimits>;
}

export interface IngressDoorLimits {
  /** For a visitor's hello, once the relay was told to go on. */
  readonly helloMs: number;
  /** Of one relay, as all visitors' connections are. */
  readonly relayOpen: number;
  readonly relayPending: number;
}

const LIMITS: IngressDoorLimits = { helloMs: 10_000, relayOpen: 16_384, relayPending: 1024 };

/** What a relay is told instead of a 101 (serve-and-funnel sheet 5.4). */
export interface Refusal {
  readonly status: number;
  readonly reason: string;
}

const MOST_GRANTED = 4096;
/** So long the relay's answer waits for the backend's first words, to be one packet with them. */
const ANSWER_MS = 200;
const MOST_UNANSWERED = 4096;

const denied: Refusal = { status: 403, reason: "denied" };
const bad = (reason: string): Refusal => ({ status: 400, reason });

/**
 * Where strangers come in. A relay is believed one thing only, the visitor's address, and only as information: whether
 * it may deliver comes from the server or our own configuration, what is public from our own configuration alone, and
 * the visitor's TLS hello must ask for the very name that the relay was let in for (FN-4…8).
 */
export class IngressDoor implements VisitKeeper {
  readonly clock: Clock;
  readonly helloMs: number;
  readonly #options: IngressDoorOptions;
  readonly #limits: IngressDoorLimits;
  readonly #visits: LinkedList<Visit> = new LinkedList();
  readonly #relays: Map<string, RelayLoad> = new Map();
  readonly #presence: RelayPresence;
  /** Over all relays: each of them counts its own. */
  readonly #ruled: RuleGauges = new RuleGauges();
  /** What the rules say of a source, and of the address of ours that it asked last. */
  readonly #granted: Map<string, Grant> = new Map();
  #rules: readonly FilterRule[] | undefined;
  readonly #targets: PublicTargets;
  /** Whose relays were not answered yet. */
  readonly #unanswered: WaitingLine;

  constructor(options: IngressDoorOptions) {
    this.#options = options;
    this.#limits = { ...LIMITS, ...options.limits };
    this.clock = options.clock;
    this.helloMs = this.#limits.helloMs;
    this.#targets = new PublicTargets(options.config, options.ownName);
    this.#presence = new RelayPresence(options);
    const bounds = { inAll: MOST_UNANSWERED, ofOwner: MOST_UNANSWERED };
    this.#unanswered = new WaitingLine(bounds, { patience: { clock: options.clock, limitMs: ANSWER_MS } });
  }

  /** Visitors who are here. */
  get open(): number {
    return this.#visits.size;
  }

  /** May this peer deliver? `proof` says that it is one, at an address of its own. */
  isRelay({ nodeKey, source, destination }: MeshProof): boolean {
    const peer = this.#options.peerByAddress(source.address);
    if (peer === undefined || peer.Key !== `nodekey:${nodeKey}` || peer.Expired === true) return false;
    const { trusted = [], packetFilter } = this.#options;
    if (trusted.some((who) => who === peer.Key || (who.startsWith("tag:") && peer.Tags?.includes(who)))) return true;
    return this.#isGranted(packetFilter(), source.address, destination.address);
  }

  /** Looked up once for each relay while the rules are the same. */
  #isGranted(rules: readonly FilterRule[], source: string, destination: string): boolean {
    if (rules !== this.#rules) {
      this.#rules = rules;
      this.#granted.clear();
    }
    const known = this.#granted.get(source);
    if (known?.destination === destination) return known.isGranted;
    const isGranted = INGRESS_CAPABILITY in capabilitiesOf(rules, source, destination);
    if (this.#granted.size >= MOST_GRANTED) this.#granted.clear();
    this.#granted.set(source, { destination, isGranted });
    return isGranted;
  }

  /**
   * A request for the ingress path whose head was read and forgotten. `isAlone`: nothing came behind it; else that is
   * what the visitor said, where the relay told so. With a refusal the connection is the caller's to answer on.
   */
  enter(conn: PeekedConn, proof: MeshProof, head: PeerApiHead, isAlone: boolean): Refusal | undefined {
    const request = this.#checked(proof, head);
    if ("status" in request) return request;
    if (!isAlone && head.early !== "?1") return bad("bytes before the answer");
    const { target, visitor, rules } = request;
    const relay = this.#relays.get(proof.nodeKey) ?? { open: 0, pending: 0 };
    if (relay.open >= this.#limits.relayOpen || relay.pending >= this.#limits.relayPending) {
      return { status: 503, reason: "too many visitors" };
    }
    const gauges = this.#ruled.roomFor({ site: target.site, rules, address: visitor.address }, this.clock.now());
    if (gauges === undefined) return { status: 503, reason: "too many visitors" };
    this.#relays.set(proof.nodeKey, relay);
    relay.open++;
    for (const gauge of gauges) gauge.open++;
    const { bytesPerSecond } = rules;
    const visit = new Visit(this, { conn, proof, target, visitor, relay, gauges, bytesPerSecond });
    visit.place = this.#visits.add(visit);
    conn.watcher = visit;
    conn.lead = acceptanceOf(head.early);
    if (isAlone || target.right === "lease") conn.sendLead();
    else visit.unanswered = this.#unanswered.enter(proof.nodeKey, visit);
    if (target.right === "name") visit.awaitHello();
    else this.admit(visit); // it may be the backend who speaks first
    return undefined;
  }

  admit({ conn, proof, target: { port }, visitor, bytesPerSecond }: Visit): void {
    const destination = { ...proof.destination, port };
    conn.proof = { kind: "ingress", nodeKey: proof.nodeKey, visitor, destination };
    this.#options.accept(bytesPerSecond === undefined ? conn : new PacedConn(conn, this.clock, bytesPerSecond), port);
  }

  over({ place, gauges, relay, proof }: Visit): void {
    if (place !== undefined) this.#visits.remove(place);
    for (const gauge of gauges) gauge.open--;
    relay.open--;
    if (relay.open === 0) this.#relays.delete(proof.nodeKey);
  }

  #checked(proof: MeshProof, head: PeerApiHead): Refusal | Admitted {
    if (!this.isRelay(proof)) return { status: 403, reason: "denied; no ingress cap" };
    if (head.method !== "POST") return { status: 405, reason: "only POST allowed" };
    const { sources, targets } = head;
    const [source = ""] = sources;
    if (source === "") return bad(`${SOURCE_FIELD} header not set`);
    const visitor = parseAddressPort(source);
    if (visitor === undefined || sources.length > 1) return bad(`${SOURCE_FIELD} header invalid; want ip:port`);
    const [text = ""] = targets;
    if (text === "") return bad(`${TARGET_FIELD} header not set`);
    const colon = text.indexOf(":");
    if (colon < 0 || text.includes(":", colon + 1) || targets.length > 1) {
      return bad(`${TARGET_FIELD} header invalid; want host:port`);
    }
    if (head.hasBody) return bad("no body allowed");
    const target = this.#targets.find(text, colon);
    if (target === undefined || !isBelievableVisitor(visitor.address, this.#options.allowsLoopback === true))
      return denied;
    const rules = this.#rulesAt(target) ?? NO_RULES;
    return isWelcome(rules, visitor.address) ? { target, visitor, rules } : denied;
  }

  #rulesAt(site: Target): VisitorRules | undefined {
    return this.#options.rulesOf?.(site);
  }

  /**
   * Cuts whoever is here by a right that is no longer given (FN-8), or through a relay that is gone (FN-13). To be called
   * when configuration or map change, and now and then.
   */
  review(): void {
    this.#targets.forget();
    this.#presence.keepOnly((nodeKey) => this.#relays.has(nodeKey));
    for (const visit of this.#visits.toArray()) {
      const { target, visitor, proof, conn } = visit;
      const isPublic = this.#targets.isStillPublic(target) && isWelcome(this.#rulesAt(target), visitor.address);
      if (isPublic && this.isRelay(proof) && !this.#presence.isLost(proof)) continue;
      conn.cut(new Fault("FUNNEL_OFF", `Cannot keep a visitor of "${target.text}": it is not public any more`));
    }
  }

  /** Every visitor is told that it is over, while we can still tell him anything: we leave the mesh. */
  dismiss(): void {
    const left = new Fault("FUNNEL_OFF", "Cannot keep a visitor: this node leaves the mesh");
    for (const { conn } of this.#visits.toArray()) conn.cut(left);
  }
}

const NO_RULES: VisitorRules = {};

interface Grant {
  readonly destination: string;
  readonly isGranted: boolean;
}

interface Admitted {
  readonly target: Target;
  readonly visitor: AddressPort;
  readonly rules: VisitorRules;
}
