import type { AddressPort } from "../../base/address.ts";
import type { Clock } from "../../base/clock.ts";
import type { Proof } from "../../base/conn.ts";
import { Fault } from "../../base/fault.ts";
import type { Link } from "../../base/linked-list.ts";
import type { PeekedConn, PeekWatcher } from "../../base/peeked-conn.ts";
import type { Awaited, Place } from "../../base/waiting-line.ts";
import type { Gauge } from "../../funnel/gauges.ts";
import { ALERT, alertRecord, HelloReader } from "../../wire/client-hello.ts";
import { foldName } from "../../wire/host-name.ts";
import type { Target } from "./public-targets.ts";

export type MeshProof = Extract<Proof, { kind: "mesh" }>;

/** Visitors whom one relay has brought. */
export interface RelayLoad {
  open: number;
  /** Of them, those whose hellos are not here. */
  pending: number;
}

/** Who is told how it goes with a visit. */
export interface VisitKeeper {
  readonly clock: Clock;
  /** For a visitor's hello, once the relay was told to go on. */
  readonly helloMs: number;
  admit(visit: Visit): void;
  over(visit: Visit): void;
}

export type VisitParts = Pick<Visit, "conn" | "proof" | "target" | "visitor" | "relay" | "gauges" | "bytesPerSecond">;

/** For the alert to arrive before the connection goes. */
const LINGER_MS = 1000;

/** A visitor's connection, and by what right it is here. */
export class Visit implements PeekWatcher, Awaited {
  readonly conn: PeekedConn;
  readonly proof: MeshProof;
  readonly target: Target;
  readonly visitor: AddressPort;
  readonly relay: RelayLoad;
  /** He is counted in them. */
  readonly gauges: readonly Gauge[];
  readonly bytesPerSecond: number | undefined;
  /** Among all visits. */
  place: Link<Visit> | undefined;
  /** Among those whose relays were not answered yet. */
  unanswered: Place | undefined;
  readonly #keeper: VisitKeeper;
  /** While the hello is waited for. */
  #reader: HelloReader | undefined;
  #cancel: (() => void) | undefined;

  constructor(keeper: VisitKeeper, parts: VisitParts) {
    this.#keeper = keeper;
    this.conn = parts.conn;
    this.proof = parts.proof;
    this.target = parts.target;
    this.visitor = parts.visitor;
    this.relay = parts.relay;
    this.gauges = parts.gauges;
    this.bytesPerSecond = parts.bytesPerSecond;
  }

  /** The visitor's own words: one complete hello that asks for the very name that the relay was let in for. */
  awaitHello(): void {
    this.#reader = new HelloReader();
    this.relay.pending++;
    this.conn.lookAgain();
    if (this.#reader === undefined) return;
    const { clock, helloMs } = this.#keeper;
    this.#cancel = clock.at(clock.now() + helloMs, () => this.#refuse(ALERT.internalError, "no hello came in time"));
  }

  look(part: Buffer): void {
    const hello = this.#reader?.push(part);
    if (hello === undefined) return;
    if ("alert" in hello) this.#refuse(hello.alert, hello.found);
    else if (hello.serverName !== this.target.name && foldName(hello.serverName ?? "") !== this.target.name) {
      this.#refuse(ALERT.unrecognizedName, "the hello asks for another name");
    } else {
      this.#settle();
      this.#keeper.admit(this);
    }
  }

  gone(): void {
    if (this.#reader === undefined) return;
    this.#settle();
    this.conn.abort(new Fault("FUNNEL_VISITOR_GONE", `${this.#cannot()}: the hello did not come to its end`));
  }

  /** The relay has waited long enough for the backend's first words. */
  giveUp(): void {
    this.conn.sendLead();
  }

  leadSent(): void {
    this.unanswered?.leave();
  }

  closed(): void {
    this.unanswered?.leave();
    this.#keeper.over(this);
  }

  #settle(): void {
    this.#reader = undefined;
    this.relay.pending--;
    this.#cancel?.();
  }

  #refuse(alert: number, found: string): void {
    this.#settle();
    const { conn } = this;
    conn.write(alertRecord(alert));
    conn.end();
    const { clock } = this.#keeper;
    const refused = new Fault("FUNNEL_REFUSED", `${this.#cannot()}: ${found}`);
    clock.at(clock.now() + LINGER_MS, () => conn.abort(refused));
  }

  #cannot(): string {
    return `Cannot take a visitor for "${this.target.name}"`;
  }
}
