import type { AddressPort } from "../base/address.ts";
import type { Clock } from "../base/clock.ts";
import type { Conn, ConnSink } from "../base/conn.ts";
import { Fault } from "../base/fault.ts";
import { resetSocket } from "../base/reset.ts";
import { writeView } from "../base/view-write.ts";
import type { Awaited, Place, WaitingLine } from "../base/waiting-line.ts";
import { encodeIngressRequest, IngressAnswerReader } from "../wire/ingress.ts";
import { Pace } from "./pace.ts";
import type { Stage, Visitor } from "./visitor.ts";

/** As much as may be on its way to a visitor who does not read. */
const WINDOW_BYTES = 256 * 1024;
/** So much of a visitor's first words is held here, and not in his socket: more than a hello has. */
const MOST_EARLY_BYTES = 16 * 1024;

/** What all deliveries have in common. */
export interface DeliveryDesk {
  readonly clock: Clock;
  readonly dial: (target: AddressPort, signal: AbortSignal) => Promise<Conn>;
  /** Those whose nodes have not answered. */
  readonly unanswered: WaitingLine;
  /** Counted as bytes pass. */
  readonly traffic: Traffic;
  /** The node answered, and takes a visitor's first bytes behind the request or does not. */
  heard(destination: Destination, takesEarly: boolean): void;
  /** The node took the visitor. */
  opened(): void;
  /** The node cannot be reached or will not have him: its status, or 0. The socket is as it was. */
  failed(visitor: Visitor, destination: Destination, status: number): void;
}

/** Bytes from visitors and to them. */
export interface Traffic {
  received: number;
  sent: number;
}

/** Where a visitor is brought. */
export interface Destination {
  readonly name: string;
  /** `name:port`. */
  readonly site: string;
  /** The node's stable id. */
  readonly owner: string;
  readonly peerApi: AddressPort;
  /** In each direction. */
  readonly bytesPerSecond: number;
  /** The node is known to take the visitor's first bytes behind the request. */
  readonly isEarly: boolean;
}

/**
 * Brings a visitor to his node: asks its peerapi, and after the 101 passes bytes both ways. Each direction ends on its own;
 * an error on one side resets the other.
 */
export class Delivery implements Stage, ConnSink, Awaited {
  readonly #visitor: Visitor;
  readonly #destination: Destination;
  readonly #desk: DeliveryDesk;
  /** What goes behind the question; what else the visitor said is still to be read. */
  #early: Buffer | undefined;
  /** Gives up the dial. */
  readonly #aborter: AbortController = new AbortController();
  /** Until the node has answered. */
  #place: Place | undefined;
  #answer: IngressAnswerReader | undefined = new IngressAnswerReader();
  #conn: Conn | undefined;
  readonly #inwards: Pace;
  readonly #outwards: Pace;
  /** Taken from the node, and not yet from us. */
  #owed = 0;
  #isNodeFull = false;
  #isPaced = false;
  #isOver = false;

  /** `said`: what the visitor sent so far, hello included. */
  constructor(desk: DeliveryDesk, visitor: Visitor, destination: Destination, said: Buffer | undefined) {
    this.#desk = desk;
    this.#visitor = visitor;
    this.#destination = destination;
    this.#inwards = Pace.of(destination.bytesPerSecond);
    this.#outwards = Pace.of(destination.bytesPerSecond);
    if (said === undefined) return;
    const cut = destination.isEarly ? Math.min(said.length, MOST_EARLY_BYTES) : 0;
    if (cut > 0) this.#early = said.subarray(0, cut);
    visitor.unread(said.subarray(cut));
  }

  start(): void {
    this.#visitor.stage = this;
    this.#place = this.#desk.unanswered.enter(this.#destination.owner, this);
    if (this.#place === undefined) return void this.#fail(0);
    this.#desk.dial(this.#destination.peerApi, this.#aborter.signal).then(
      (conn) => this.#ask(conn),
      () => this.#fail(0),
    );
  }

  #ask(conn: Conn): void {
    if (this.#isOver) return void conn.abort(this.#givenUp());
    this.#conn = conn;
    const { peerApi, site } = this.#destination;
    const early = this.#early;
    conn.attach(this);
    conn.credit(WINDOW_BYTES);
    conn.write(encodeIngressRequest({ source: this.#visitor, target: site, peerApi, isEarly: early !== undefined }));
    if (early !== undefined) this.said(early);
  }

  #fail(status: number): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#place?.leave();
    this.#visitor.stage = undefined;
    if (this.#conn === undefined) this.#aborter.abort();
    else this.#conn.abort(this.#givenUp());
    this.#desk.failed(this.#visitor, this.#destination, status);
  }

  #givenUp(): Fault {
    const { site } = this.#destination;
    return new Fault("FUNNEL_GIVEN_UP", `Cannot deliver to "${site}": the node did not take the visitor in time`);
  }

  giveUp(): void {
    this.#fail(0);
  }

  // ——— what the node says ———

  data(view: Uint8Array): void {
    if (this.#isOver) return;
    if (this.#answer === undefined) return void this.#toVisitor(view);
    const heard = this.#answer.push(view);
    if (heard === undefined) return;
    if (heard.status !== 101) return void this.#fail(heard.status);
    this.#desk.heard(this.#destination, heard.takesEarly);
    if (this.#early !== undefined && !heard.takesEarly) return void this.#fail(0); // another program by now, which lost them
    this.#open(heard.rest);
  }

  #open(first: Uint8Array): void {
    this.#answer = undefined;
    this.#early = undefined;
    this.#place?.leave();
    this.#desk.opened();
    this.#visitor.hear(this);
    if (this.#visitor.socket.readableEnded) this.#conn?.end(); // a paused socket still says its end, and only once
    if (first.length > 0) this.#toVisitor(first);
    this.#flow();
  }

  #toVisitor(view: Uint8Array): void {
    this.#owed += view.length;
    this.#desk.traffic.sent += view.length;
    if (writeView(this.#visitor.socket, view)) this.#repay();
  }

  end(): void {
    if (this.#answer === undefined) this.#visitor.socket.end();
    else this.#fail(0);
  }

  drain(): void {
    this.#isNodeFull = false;
    this.#flow();
  }

  /** What was cut on one side must not look complete on the other. */
  abort(): void {
    if (this.#answer !== undefined) return void this.#fail(0);
    this.#isOver = true;
    resetSocket(this.#visitor.socket);
  }

  // ——— what the visitor says ———

  said(chunk: Buffer): void {
    const { traffic, clock } = this.#desk;
    traffic.received += chunk.length;
    if (this.#conn?.write(chunk) === false) this.#isNodeFull = true;
    const now = clock.now();
    const wait = this.#inwards.spend(chunk.length, now);
    if (wait > 0) {
      this.#isPaced = true;
      clock.at(now + wait, () => {
        this.#isPaced = false;
        this.#flow();
      });
    }
    if (this.#isNodeFull || this.#isPaced) this.#visitor.socket.pause();
  }

  #flow(): void {
    if (this.#answer !== undefined || this.#isNodeFull || this.#isPaced || this.#isOver) return;
    this.#visitor.socket.resume();
  }

  finished(): void {
    if (this.#answer === undefined) this.#conn?.end();
  }

  drained(): void {
    this.#repay();
  }

  #repay(): void {
    const bytes = this.#owed;
    this.#owed = 0;
    if (bytes === 0 || this.#isOver) return;
    const { clock } = this.#desk;
    const now = clock.now();
    const wait = this.#outwards.spend(bytes, now);
    if (wait === 0) this.#conn?.credit(bytes);
    else clock.at(now + wait, () => this.#conn?.credit(bytes));
  }

  gone(): void {
    if (this.#answer !== undefined) return void this.#fail(0);
    if (this.#isOver) return;
    this.#isOver = true;
    const { socket } = this.#visitor;
    if (socket.readableEnded && socket.writableFinished) return;
    this.#conn?.abort(new Fault("FUNNEL_VISITOR_GONE", "Cannot go on with the visit: the visitor is gone"));
  }
}
