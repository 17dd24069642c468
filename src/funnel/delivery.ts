import type { Socket } from "node:net";
import type { AddressPort } from "../base/address.ts";
import type { Clock } from "../base/clock.ts";
import type { Conn } from "../base/conn.ts";
import { Fault } from "../base/fault.ts";
import { resetSocket } from "../base/reset.ts";
import { writeView } from "../base/view-write.ts";
import { encodeIngressRequest, IngressAnswerReader } from "../wire/ingress.ts";
import { Pace } from "./pace.ts";

/** As much as may be on its way to a visitor who does not read. */
const WINDOW_BYTES = 256 * 1024;

export interface Delivery {
  readonly socket: Socket;
  /** What the visitor sent so far, hello included, is still in the socket. */
  readonly heldBytes: number;
  readonly visitor: AddressPort;
  /** `name:port`. */
  readonly target: string;
  readonly peerApi: AddressPort;
  readonly dial: (target: AddressPort, signal: AbortSignal) => Promise<Conn>;
  readonly clock: Clock;
  /** Until the node has answered. */
  readonly limitMs: number;
  /** In each direction. */
  readonly bytesPerSecond: number;
  /** Counted as bytes pass. */
  readonly traffic: Traffic;
  /** The node is known to take the visitor's first bytes behind the request. */
  readonly isEarly: boolean;
  /** The node answered, and takes them so or does not. */
  readonly heard: (takesEarly: boolean) => void;
  /** The node took the visitor. */
  readonly opened: () => void;
  /** The node cannot be reached or will not have him: its status, or 0. The socket is as it was. */
  readonly failed: (status: number) => void;
}

/** Bytes from visitors and to them. */
export interface Traffic {
  received: number;
  sent: number;
}

/** Brings a visitor to his node: asks its peerapi, and after the 101 passes bytes both ways until both have ended. */
export function deliver(work: Delivery): void {
  const { socket, clock, peerApi } = work;
  const aborter = new AbortController();
  let conn: Conn | undefined;
  let isSettled = false;
  const fail = (status: number): void => {
    if (isSettled) return;
    isSettled = true;
    cancel();
    socket.off("close", onGone);
    aborter.abort();
    conn?.abort(new Fault("FUNNEL_GIVEN_UP", `Cannot deliver to "${work.target}": the node did not take it`));
    work.failed(status);
  };
  const onGone = (): void => fail(0);
  const cancel = clock.at(clock.now() + work.limitMs, () => fail(0));
  socket.on("close", onGone);
  work.dial(peerApi, aborter.signal).then(
    (dialed) => {
      if (isSettled) {
        return dialed.abort(new Fault("FUNNEL_GIVEN_UP", `Cannot deliver to "${work.target}": it took too long`));
      }
      conn = dialed;
      ask(dialed);
    },
    () => fail(0),
  );

  const ask = (dialed: Conn): void => {
    const answer = new IngressAnswerReader();
    const flow = new Flow(dialed, work);
    const isEarly = work.isEarly && work.heldBytes > 0;
    let isOpen = false;
    dialed.attach({
      data: (view) => {
        if (isOpen) return flow.toVisitor(view);
        const heard = answer.push(view);
        if (heard === undefined) return;
        if (heard.status !== 101 || isSettled) return fail(heard.status);
        work.heard(heard.takesEarly);
        if (isEarly && !heard.takesEarly) return fail(0); // another program by now, which lost them
        isOpen = true;
        isSettled = true;
        cancel();
        socket.off("close", onGone);
        work.opened();
        flow.start(heard.rest);
      },
      end: () => (isOpen ? flow.nodeEnded() : fail(0)),
      drain: () => flow.nodeDrained(),
      abort: () => (isOpen ? flow.cut() : fail(0)),
    });
    dialed.credit(WINDOW_BYTES);
    dialed.write(encodeIngressRequest({ source: work.visitor, target: work.target, peerApi, isEarly }));
    if (isEarly) flow.toNode((socket.read(work.heldBytes) as Buffer | null) ?? NOTHING);
  };
}

const NOTHING: Buffer = Buffer.alloc(0);

/** Bytes between a visitor and his node. Each direction ends on its own; an error on one side resets the other. */
class Flow {
  readonly #socket: Socket;
  readonly #conn: Conn;
  readonly #clock: Clock;
  readonly #inwards: Pace;
  readonly #outwards: Pace;
  readonly #traffic: Traffic;
  /** Taken from the node, and not yet from us. */
  #owed = 0;
  #isNodeFull = false;
  #isPaced = false;
  #isStarted = false;
  #isOver = false;

  constructor(conn: Conn, { socket, clock, bytesPerSecond, traffic }: Delivery) {
    this.#traffic = traffic;
    this.#socket = socket;
    this.#conn = conn;
    this.#clock = clock;
    this.#inwards = new Pace(bytesPerSecond);
    this.#outwards = new Pace(bytesPerSecond);
  }

  start(first: Uint8Array): void {
    const socket = this.#socket;
    this.#isStarted = true;
    socket.on("data", (chunk: Buffer) => this.toNode(chunk));
    socket.on("end", () => this.#conn.end());
    socket.on("drain", () => this.#repay());
    socket.on("close", () => {
      if (this.#isOver) return;
      this.#isOver = true;
      if (socket.readableEnded && socket.writableFinished) return;
      this.#conn.abort(new Fault("FUNNEL_VISITOR_GONE", "Cannot go on with the visit: the visitor is gone"));
    });
    if (socket.readableEnded) this.#conn.end(); // a paused socket still says its end, and only once
    if (first.length > 0) this.toVisitor(first);
    this.#flow();
  }

  toNode(chunk: Buffer): void {
    this.#traffic.received += chunk.length;
    if (!this.#conn.write(chunk)) this.#isNodeFull = true;
    const now = this.#clock.now();
    const wait = this.#inwards.spend(chunk.length, now);
    if (wait > 0) {
      this.#isPaced = true;
      this.#clock.at(now + wait, () => {
        this.#isPaced = false;
        this.#flow();
      });
    }
    if (this.#isNodeFull || this.#isPaced) this.#socket.pause();
  }

  #flow(): void {
    if (this.#isStarted && !this.#isNodeFull && !this.#isPaced && !this.#isOver) this.#socket.resume();
  }

  nodeDrained(): void {
    this.#isNodeFull = false;
    this.#flow();
  }

  toVisitor(view: Uint8Array): void {
    this.#owed += view.length;
    this.#traffic.sent += view.length;
    if (writeView(this.#socket, view)) this.#repay();
  }

  #repay(): void {
    const bytes = this.#owed;
    this.#owed = 0;
    if (bytes === 0 || this.#isOver) return;
    const now = this.#clock.now();
    const wait = this.#outwards.spend(bytes, now);
    if (wait === 0) this.#conn.credit(bytes);
    else this.#clock.at(now + wait, () => this.#conn.credit(bytes));
  }

  nodeEnded(): void {
    this.#socket.end();
  }

  /** What was cut on one side must not look complete on the other. */
  cut(): void {
    this.#isOver = true;
    resetSocket(this.#socket);
  }
}
