import type { Socket } from "node:net";
import { canonicalAddress } from "../base/address.ts";
import { LinkedList } from "../base/linked-list.ts";
import { resetSocket } from "../base/reset.ts";
import { WaitingLine } from "../base/waiting-line.ts";
import { ALERT, alertRecord, type ClientHello, type HelloRefusal } from "../wire/client-hello.ts";
import { foldName } from "../wire/host-name.ts";
import { isWelcome, rulesAt } from "../wire/visitor-rules.ts";
import { Delivery, type DeliveryDesk, type Destination, type Traffic } from "./delivery.ts";
import { type Gauge, Gauges, Rate, visitorKey } from "./gauges.ts";
import { type HelloHearer, HelloStage } from "./hello-stage.ts";
import { INGRESS_LIMITS, type IngressEvent, type IngressLimits, type IngressOptions } from "./options.ts";
import type { PublicName } from "./public-names.ts";
import { answerPlainHttp } from "./redirect.ts";
import { type RuledVisit, RuleGauges } from "./rule-gauges.ts";
import { Visitor } from "./visitor.ts";
import { VisitorPorts } from "./visitor-ports.ts";

/** Who was refused may still be sending: so long we read on, for the alert not to be lost to a reset. */
const LINGER_MS = 1000;
const MOST_NAMES = 65_536;
/** So many who are over a limit are told so by an alert; of a flood the others are sent away at the least cost (FN-10). */
const OVER_LIMIT_ALERTS_PER_SECOND = 100;

export interface ListenOptions {
  readonly publicPort?: number;
  /** For HTTP without TLS, which is only ever sent on to HTTPS. */
  readonly isPlain?: boolean;
}

/**
 * The public end of Funnel: reads whom a visitor's TLS hello asks for, and brings him to that node's peerapi. It ends no
 * TLS and holds no key. Whoever asks for what is not public learns nothing, not even by time (FN-3).
 */
export class Ingress {
  readonly #options: IngressOptions;
  readonly #limits: IngressLimits;
  readonly #ports: VisitorPorts;
  readonly #all: LinkedList<Visitor> = new LinkedList();
  /** Visitors who have not been told apart yet, by address. */
  readonly #pending: WaitingLine;
  readonly #visitors: Gauges;
  /** By name, and by name and visitor. */
  readonly #names: Gauges;
  readonly #ruled: RuleGauges = new RuleGauges();
  readonly #desk: DeliveryDesk;
  readonly #hearer: HelloHearer = {
    hello: (visitor, hello, said) => this.#route(visitor, hello, said),
    noHello: (visitor, refusal) => this.#noHello(visitor.socket, refusal),
    crowded: ({ socket }) => this.#tooMany(socket),
  };
  #redirects = new Rate();
  #overLimitAlerts = new Rate();
  /** Nodes, by their stable ids, that take a visitor's first bytes behind the question for him. */
  readonly #early: Set<string> = new Set();
  readonly traffic: Traffic = { received: 0, sent: 0 };
  readonly counts: Record<IngressEvent, number> = {
    delivered: 0,
    unknown_name: 0,
    away: 0,
    no_hello: 0,
    over_limit: 0,
    own_name: 0,
    redirected: 0,
  };

  constructor(options: IngressOptions) {
    this.#options = options;
    this.#ports = new VisitorPorts(options.log);
    this.#limits = { ...INGRESS_LIMITS, ...options.limits };
    const { clock, dial } = options;
    const { pending, visitorPending, helloMs, answerMs, open } = this.#limits;
    this.#pending = new WaitingLine(
      { inAll: pending, ofOwner: visitorPending },
      { patience: { clock, limitMs: helloMs } },
    );
    this.#desk = {
      clock,
      dial,
      unanswered: new WaitingLine({ inAll: open, ofOwner: open }, { patience: { clock, limitMs: answerMs } }),
      traffic: this.traffic,
      heard: ({ owner }, takesEarly) => this.#learn(owner, takesEarly),
      opened: () => void this.counts.delivered++,
      failed: (visitor, destination, status) => this.#notDelivered(visitor, destination, status),
    };
    this.#visitors = new Gauges(2 * this.#limits.open);
    this.#names = new Gauges(MOST_NAMES);
  }

  /** It takes no new visitors. */
  get isDraining(): boolean {
    return this.#ports.isClosed;
  }

  get open(): number {
    return this.#all.size;
  }

  get pending(): number {
    return this.#pending.size;
  }

  /**
   * Gives the port. `address`: empty = all of this machine. `publicPort`: what visitors see, where something in front of us
   * sends them on.
   */
  async listen(port: number, address: string, { publicPort, isPlain = false }: ListenOptions = {}): Promise<number> {
    const opened = await this.#ports.open(port, address, (socket, own) => {
      if (isPlain) this.acceptPlain(socket);
      else this.accept(socket, publicPort ?? own);
    });
    return opened.port;
  }

  /** A raw port. The answer closes it; who is here stays. */
  async lease(port: number, address: string): Promise<() => void> {
    const opened = await this.#ports.open(port, address, (socket, own) => this.acceptLeased(socket, own));
    return opened.close;
  }

  /** A visitor on public `port`. */
  accept(socket: Socket, port: number): void {
    const visitor = this.#admit(socket, port, false);
    const gauge = visitor && this.#counted(visitor);
    if (visitor === undefined || gauge === undefined) return;
    new HelloStage(visitor, this.#hearer).wait(this.#pending, gauge.key);
  }

  /** A visitor on a raw port: nothing is read of what he says, and he may be spoken to first. */
  acceptLeased(socket: Socket, port: number): void {
    const visitor = this.#admit(socket, port, true);
    if (visitor === undefined || this.#counted(visitor) === undefined) return;
    const { leases, names } = this.#options;
    const lease = leases?.().find(port);
    const { name = "" } = lease ?? {};
    const rules = names().named(name)?.rules; // what the node asks for its own name, it asks for its ports
    this.#bring(visitor, name, lease && { ...lease, ...(rules === undefined ? {} : { rules }) }, undefined);
  }

  /** One more of this visitor's; undefined: he has too many, and is sent away. */
  #counted(visitor: Visitor): Gauge | undefined {
    const gauge = this.#visitors.of(visitorKey(visitor.address));
    const { visitorOpen, visitorConnectionsPerSecond } = this.#limits;
    if (gauge.open >= visitorOpen || !gauge.rate.take(visitorConnectionsPerSecond, this.#options.clock.now())) {
      this.#tooMany(visitor.socket);
      return undefined;
    }
    visitor.count(gauge);
    return gauge;
  }

  /** A visitor on the port for plain HTTP. */
  acceptPlain(socket: Socket): void {
    const visitor = this.#admit(socket, 80, true);
    const gauge = visitor && this.#counted(visitor);
    if (visitor === undefined || gauge === undefined) return;
    const { clock, names } = this.#options;
    if (!this.#redirects.take(this.#limits.nameConnectionsPerSecond, clock.now())) return void this.#tooMany(socket);
    const giveUp = (why: "crowded" | "late"): void => {
      leave();
      if (why === "late") socket.destroy();
      else this.#tooMany(socket);
    };
    const place = this.#pending.enter(gauge.key, { giveUp });
    if (place === undefined) return void this.#tooMany(socket);
    socket.on("close", () => place.leave());
    const leave = answerPlainHttp(socket, {
      clock,
      limitMs: this.#limits.helloMs,
      answered: () => place.leave(),
      isPublic: (name) => {
        const found = names().find(name, 443);
        const rules = found?.rules && rulesAt(found.rules, name, 443);
        const isExact = found?.name === name && isWelcome(rules, visitor.address);
        if (isExact) this.counts.redirected++;
        return isExact;
      },
    });
  }

  /** Undefined: there is no room for him, or he is gone already. */
  #admit(socket: Socket, at: number, isRaw: boolean): Visitor | undefined {
    socket.on("error", destroyed); // always followed by "close", where everything is taken back
    const address = canonicalAddress(socket.remoteAddress ?? "");
    if (this.isDraining || address === undefined || this.#all.size >= this.#limits.open) {
      socket.resetAndDestroy();
      return undefined;
    }
    return new Visitor(socket, { address, at, isRaw }, this.#all);
  }

  #tooMany(socket: Socket): void {
    this.counts.over_limit++;
    socket.resetAndDestroy();
  }

  #noHello(socket: Socket, refusal: HelloRefusal | undefined): void {
    this.counts.no_hello++;
    if (refusal === undefined) socket.destroy();
    else this.#alert(socket, refusal.alert);
  }

  #route(visitor: Visitor, { serverName }: ClientHello, said: Buffer): void {
    const { own, names } = this.#options;
    if (own?.has(serverName) === true) {
      this.counts.own_name++;
      visitor.unread(said);
      visitor.release();
      return void own.accept(visitor.socket);
    }
    const name = foldName(serverName ?? "") ?? "";
    this.#bring(visitor, name, names().find(name, visitor.at), said);
  }

  /** `said`: what was read of him. */
  #bring(visitor: Visitor, name: string, found: PublicName | undefined, said: Buffer | undefined): void {
    const { address, at } = visitor;
    const rules = found?.rules && rulesAt(found.rules, name, at);
    if (found === undefined || !isWelcome(rules, address)) {
      this.counts.unknown_name++;
      return void this.#refuse(visitor, ALERT.unrecognizedName);
    }
    const { owner, peerApi } = found;
    if (peerApi === undefined) {
      this.counts.away++;
      return void this.#refuse(visitor, ALERT.internalError);
    }
    // Under a wildcard there is a name for every visit: its owner's limits are for all of them together.
    const ruled = rules && { site: `${found.name}:${at}`, rules, address };
    if (!this.#hasRoom(visitor, found, ruled)) {
      if (!this.#overLimitAlerts.take(OVER_LIMIT_ALERTS_PER_SECOND, this.#options.clock.now())) {
        return void this.#tooMany(visitor.socket);
      }
      this.counts.over_limit++;
      return void this.#refuse(visitor, ALERT.internalError);
    }
    const bytesPerSecond = Math.min(rules?.bytesPerSecond ?? Infinity, this.#limits.bytesPerSecond);
    const isEarly = this.#early.has(owner);
    const destination = { name, site: `${name}:${at}`, owner, peerApi, bytesPerSecond, isEarly };
    new Delivery(this.#desk, visitor, destination, said).start();
  }

  /** Counts him in the gauges of the name, of this visitor at it, and of its owner's rules; false: one of them is full. */
  #hasRoom(visitor: Visitor, { name }: PublicName, ruled: RuledVisit | undefined): boolean {
    const now = this.#options.clock.now();
    const whole = this.#names.of(name);
    const single = this.#names.of(`${name} ${visitorKey(visitor.address)}`);
    const { nameOpen, nameConnectionsPerSecond, visitorOpen, visitorConnectionsPerSecond } = this.#limits;
    if (whole.open >= nameOpen) return false;
    if (single.open >= visitorOpen) return false;
    // The visitor's first: who asks too often must not use up what the name has for others (FN-10).
    if (!single.rate.take(visitorConnectionsPerSecond, now)) return false;
    const asked = ruled && this.#ruled.roomFor(ruled, now);
    if (ruled !== undefined && asked === undefined) return false;
    if (!whole.rate.take(nameConnectionsPerSecond, now)) return false;
    visitor.count(whole);
    visitor.count(single);
    for (const gauge of asked ?? []) visitor.count(gauge);
    return true;
  }

  #notDelivered(visitor: Visitor, { name, site }: Destination, status: number): void {
    if (visitor.socket.destroyed) return; // he did not wait
    const { log, names } = this.#options;
    log.debug("ingress.not_delivered", { site, status });
    // It may have been taken back since the visitor was sent on.
    const isPrivate = status === 403 || status === 404 || names().find(name, visitor.at) === undefined;
    this.counts[isPrivate ? "unknown_name" : status === 503 ? "over_limit" : "away"]++;
    this.#refuse(visitor, isPrivate ? ALERT.unrecognizedName : ALERT.internalError);
  }

  #learn(owner: string, takesEarly: boolean): void {
    if (!takesEarly) this.#early.delete(owner);
    else if (this.#early.size < MOST_NAMES) this.#early.add(owner);
  }

  /** Tells him that he cannot be brought there. */
  #refuse({ socket, isRaw }: Visitor, alert: number): void {
    if (isRaw) socket.resetAndDestroy();
    else this.#alert(socket, alert);
  }

  /** The alert, and the end; what still comes is not looked at. */
  #alert(socket: Socket, alert: number): void {
    if (socket.destroyed) return;
    socket.end(alertRecord(alert));
    socket.resume();
    const { clock } = this.#options;
    const cancel = clock.at(clock.now() + LINGER_MS, () => void socket.destroy());
    socket.once("end", () => void socket.destroySoon());
    socket.on("close", cancel);
  }

  /** No new visitors; those who are here stay, at most `limitMs`. */
  async drain(limitMs: number): Promise<void> {
    this.#ports.close();
    const { clock } = this.#options;
    const end = clock.now() + limitMs;
    while (this.#all.size > 0 && clock.now() < end) {
      await new Promise<void>((resolve) => clock.at(Math.min(end, clock.now() + DRAIN_LOOK_MS), resolve));
    }
  }

  close(): void {
    this.#ports.close();
    for (const { socket } of this.#all.toArray()) resetSocket(socket);
  }
}

const DRAIN_LOOK_MS = 100;

function destroyed(this: Socket): void {
  this.destroy();
}
