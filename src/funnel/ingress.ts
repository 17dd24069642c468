import type { Socket } from "node:net";
import { type AddressPort, formatAddress, parseAddress } from "../base/address.ts";
import { type Link, LinkedList } from "../base/linked-list.ts";
import { resetSocket } from "../base/reset.ts";
import { WaitingLine } from "../base/waiting-line.ts";
import { ALERT, alertRecord, type ClientHello, type HelloRefusal } from "../wire/client-hello.ts";
import { foldName } from "../wire/host-name.ts";
import { isWelcome, rulesAt } from "../wire/visitor-rules.ts";
import { deliver, type Traffic } from "./delivery.ts";
import { type Gauge, Gauges, Rate, visitorKey } from "./gauges.ts";
import { readHello } from "./hello-stage.ts";
import { INGRESS_LIMITS, type IngressEvent, type IngressLimits, type IngressOptions } from "./options.ts";
import type { PublicName } from "./public-names.ts";
import { answerPlainHttp } from "./redirect.ts";
import { type RuledVisit, RuleGauges } from "./rule-gauges.ts";
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

/** Who he is, and his place among all who are here. */
interface Visitor extends AddressPort {
  readonly place: Link<Socket>;
}

/**
 * The public end of Funnel: reads whom a visitor's TLS hello asks for, and brings him to that node's peerapi. It ends no
 * TLS and holds no key. Whoever asks for what is not public learns nothing, not even by time (FN-3).
 */
export class Ingress {
  readonly #options: IngressOptions;
  readonly #limits: IngressLimits;
  readonly #ports: VisitorPorts;
  readonly #sockets: LinkedList<Socket> = new LinkedList();
  /** Visitors who have not been told apart yet, by address. */
  readonly #pending: WaitingLine;
  readonly #visitors: Gauges;
  /** By name, and by name and visitor. */
  readonly #names: Gauges;
  readonly #ruled: RuleGauges = new RuleGauges();
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
    const { pending, visitorPending } = this.#limits;
    this.#pending = new WaitingLine({ inAll: pending, ofOwner: visitorPending });
    this.#visitors = new Gauges(2 * this.#limits.open);
    this.#names = new Gauges(MOST_NAMES);
  }

  /** It takes no new visitors. */
  get isDraining(): boolean {
    return this.#ports.isClosed;
  }

  get open(): number {
    return this.#sockets.size;
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
    const visitor = this.#admit(socket);
    const gauge = visitor === undefined ? undefined : this.#counted(socket, visitor);
    if (visitor === undefined || gauge === undefined) return;
    const { clock } = this.#options;
    this.#wait(socket, gauge, (settled) =>
      readHello(socket, {
        clock,
        limitMs: this.#limits.helloMs,
        done: (hello, heldBytes) => {
          settled();
          this.#route(socket, { visitor, gauge, port, hello, heldBytes });
        },
        failed: (refusal) => {
          settled();
          this.#noHello(socket, refusal);
        },
      }),
    );
  }

  /** He is waited for, one of so many: a hello is in one's first words. `begin` gives what leaves him alone. */
  #wait(socket: Socket, gauge: Gauge, begin: (settled: () => void) => () => void): void {
    const giveUp = (): void => {
      leave();
      this.#tooMany(socket);
    };
    const place = this.#pending.enter(gauge.key, { giveUp });
    if (place === undefined) return void this.#tooMany(socket);
    const settled = (): void => place.leave();
    const leave = begin(settled);
    socket.on("close", settled);
  }

  /** A visitor on a raw port: nothing is read of what he says, and he may be spoken to first. */
  acceptLeased(socket: Socket, port: number): void {
    const visitor = this.#admit(socket);
    const gauge = visitor === undefined ? undefined : this.#counted(socket, visitor);
    if (visitor === undefined || gauge === undefined) return;
    const { leases, names } = this.#options;
    const lease = leases?.().find(port);
    const { name = "" } = lease ?? {};
    const rules = names().named(name)?.rules; // what the node asks for its own name, it asks for its ports
    const refuse = (): void => void socket.resetAndDestroy(); // no alert would be understood
    const call: Call = { socket, visitor, gauge, port, name, heldBytes: 0, refuse };
    this.#bring(call, lease && { ...lease, ...(rules === undefined ? {} : { rules }) });
  }

  /** One more of this visitor's; undefined: he has too many, and is sent away. */
  #counted(socket: Socket, { address }: AddressPort): Gauge | undefined {
    const gauge = this.#visitors.of(visitorKey(address));
    const { visitorOpen, visitorConnectionsPerSecond } = this.#limits;
    if (gauge.open >= visitorOpen || !gauge.rate.take(visitorConnectionsPerSecond, this.#options.clock.now())) {
      this.#tooMany(socket);
      return undefined;
    }
    gauge.open++;
    socket.on("close", () => void gauge.open--);
    return gauge;
  }

  /** A visitor on the port for plain HTTP. */
  acceptPlain(socket: Socket): void {
    const visitor = this.#admit(socket);
    const gauge = visitor === undefined ? undefined : this.#counted(socket, visitor);
    if (visitor === undefined || gauge === undefined) return;
    const { clock, names } = this.#options;
    if (!this.#redirects.take(this.#limits.nameConnectionsPerSecond, clock.now())) return void this.#tooMany(socket);
    this.#wait(socket, gauge, (settled) =>
      answerPlainHttp(socket, {
        clock,
        limitMs: this.#limits.helloMs,
        answered: settled,
        isPublic: (name) => {
          const found = names().find(name, 443);
          const rules = found?.rules && rulesAt(found.rules, name, 443);
          const isExact = found?.name === name && isWelcome(rules, visitor.address);
          if (isExact) this.counts.redirected++;
          return isExact;
        },
      }),
    );
  }

  /** Undefined: there is no room for him, or he is gone already. */
  #admit(socket: Socket): Visitor | undefined {
    socket.on("error", () => socket.destroy()); // always followed by "close", where everything is taken back
    const bytes = parseAddress(socket.remoteAddress ?? "");
    if (this.isDraining || bytes === undefined || this.#sockets.size >= this.#limits.open) {
      socket.resetAndDestroy();
      return undefined;
    }
    const place = this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.remove(place));
    return { address: formatAddress(bytes), port: socket.remotePort ?? 0, place };
  }

  #tooMany(socket: Socket): void {
    this.counts.over_limit++;
    socket.resetAndDestroy();
  }

  #noHello(socket: Socket, refusal: HelloRefusal | undefined): void {
    this.counts.no_hello++;
    if (refusal === undefined) socket.destroy();
    else this.#refuse(socket, refusal.alert);
  }

  #route(socket: Socket, visit: Visit): void {
    const { own, names } = this.#options;
    const { hello, heldBytes, port, visitor, gauge } = visit;
    if (own?.has(hello.serverName) === true) {
      this.counts.own_name++;
      this.#sockets.remove(visitor.place);
      return void own.accept(socket);
    }
    const name = foldName(hello.serverName ?? "") ?? "";
    const refuse = (alert: number): void => this.#refuse(socket, alert);
    this.#bring({ socket, visitor, gauge, port, name, heldBytes, refuse }, names().find(name, port));
  }

  #bring(call: Call, found: PublicName | undefined): void {
    const { socket, visitor, gauge, name, port, refuse } = call;
    const rules = found?.rules && rulesAt(found.rules, name, port);
    if (found === undefined || !isWelcome(rules, visitor.address)) {
      this.counts.unknown_name++;
      return void refuse(ALERT.unrecognizedName);
    }
    if (found.peerApi === undefined) {
      this.counts.away++;
      return void refuse(ALERT.internalError);
    }
    const site = `${name}:${port}`;
    // Under a wildcard there is a name for every visit: its owner's limits are for all of them together.
    const ruled = rules && { site: `${found.name}:${port}`, rules, address: visitor.address };
    const gauges = this.#roomAt(found, gauge, ruled);
    if (gauges === undefined) {
      if (!this.#overLimitAlerts.take(OVER_LIMIT_ALERTS_PER_SECOND, this.#options.clock.now())) {
        return void this.#tooMany(socket);
      }
      this.counts.over_limit++;
      return void refuse(ALERT.internalError);
    }
    socket.on("close", () => {
      for (const taken of gauges) taken.open--;
    });
    const { owner, peerApi } = found;
    this.#deliver(call, { site, owner, peerApi, bytesPerSecond: rules?.bytesPerSecond });
  }

  /** The gauges of the name, of this visitor at it, and of its owner's rules, with him in; undefined: one of them is full. */
  #roomAt({ name }: PublicName, gauge: Gauge, ruled: RuledVisit | undefined): readonly Gauge[] | undefined {
    const now = this.#options.clock.now();
    const whole = this.#names.of(name);
    const single = this.#names.of(`${name} ${gauge.key}`);
    const { nameOpen, nameConnectionsPerSecond, visitorOpen, visitorConnectionsPerSecond } = this.#limits;
    if (whole.open >= nameOpen) return undefined;
    if (single.open >= visitorOpen) return undefined;
    // The visitor's first: who asks too often must not use up what the name has for others (FN-10).
    if (!single.rate.take(visitorConnectionsPerSecond, now)) return undefined;
    const asked = ruled === undefined ? [] : this.#ruled.take(ruled, now);
    if (asked === undefined || !whole.rate.take(nameConnectionsPerSecond, now)) {
      for (const taken of asked ?? []) taken.open--;
      return undefined;
    }
    for (const taken of [whole, single]) taken.open++;
    return [whole, single, ...asked];
  }

  #deliver(
    { socket, visitor, name, port, heldBytes, refuse }: Call,
    { site, owner, peerApi, bytesPerSecond }: Destination,
  ): void {
    const { clock, dial, log, names } = this.#options;
    deliver({
      socket,
      heldBytes,
      visitor,
      target: site,
      peerApi,
      dial,
      clock,
      limitMs: this.#limits.answerMs,
      bytesPerSecond: Math.min(bytesPerSecond ?? Infinity, this.#limits.bytesPerSecond),
      traffic: this.traffic,
      isEarly: this.#early.has(owner),
      heard: (takesEarly) => this.#learn(owner, takesEarly),
      opened: () => void this.counts.delivered++,
      failed: (status) => {
        if (socket.destroyed) return; // he did not wait
        log.debug("ingress.not_delivered", { site, status });
        // It may have been taken back since the visitor was sent on.
        const isPrivate = status === 403 || status === 404 || names().find(name, port) === undefined;
        this.counts[isPrivate ? "unknown_name" : status === 503 ? "over_limit" : "away"]++;
        refuse(isPrivate ? ALERT.unrecognizedName : ALERT.internalError);
      },
    });
  }

  #learn(owner: string, takesEarly: boolean): void {
    if (!takesEarly) this.#early.delete(owner);
    else if (this.#early.size < MOST_NAMES) this.#early.add(owner);
  }

  /** The alert, and the end; what still comes is not looked at. */
  #refuse(socket: Socket, alert: number): void {
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
    while (this.#sockets.size > 0 && clock.now() < end) {
      await new Promise<void>((resolve) => clock.at(Math.min(end, clock.now() + DRAIN_LOOK_MS), resolve));
    }
  }

  close(): void {
    this.#ports.close();
    for (const socket of this.#sockets.toArray()) resetSocket(socket);
  }
}

const DRAIN_LOOK_MS = 100;

/** A visitor, and whom he came for. */
interface Call {
  readonly socket: Socket;
  readonly visitor: AddressPort;
  readonly gauge: Gauge;
  readonly name: string;
  readonly port: number;
  /** What he said so far. */
  readonly heldBytes: number;
  /** Tells him that he cannot be brought there. */
  readonly refuse: (alert: number) => void;
}

interface Destination {
  readonly site: string;
  readonly owner: string;
  readonly peerApi: AddressPort;
  readonly bytesPerSecond: number | undefined;
}

interface Visit {
  readonly visitor: Visitor;
  readonly gauge: Gauge;
  readonly port: number;
  readonly hello: ClientHello;
  readonly heldBytes: number;
}
