import type { Socket } from "node:net";
import type { AddressPort } from "../base/address.ts";
import type { Link, LinkedList } from "../base/linked-list.ts";
import type { Gauge } from "./gauges.ts";

/** Who has a visitor for now: hears what he says, and when he goes. */
export interface Stage {
  said(chunk: Buffer): void;
  /** He says no more, and may still listen. */
  finished(): void;
  /** He has taken what was written. */
  drained(): void;
  gone(): void;
}

const VISITOR = Symbol("visitor");

interface VisitorSocket extends Socket {
  [VISITOR]?: Visitor | undefined;
}

/** Somebody at one of our ports, until his connection is gone. One object and five listeners: there are thousands a second. */
export class Visitor implements AddressPort {
  readonly socket: Socket;
  readonly address: string;
  /** His own; ours that he came to is `at`. */
  readonly port: number;
  readonly at: number;
  /** The port is let as it is: no alert would be understood. */
  readonly isRaw: boolean;
  stage: Stage | undefined;
  readonly #all: LinkedList<Visitor>;
  readonly #place: Link<Visitor>;
  readonly #gauges: Gauge[] = [];
  #isHeard = false;

  constructor(
    socket: Socket,
    { address, at, isRaw }: Pick<Visitor, "address" | "at" | "isRaw">,
    all: LinkedList<Visitor>,
  ) {
    this.socket = socket;
    this.address = address;
    this.port = socket.remotePort ?? 0;
    this.at = at;
    this.isRaw = isRaw;
    this.#all = all;
    this.#place = all.add(this);
    (socket as VisitorSocket)[VISITOR] = this;
    socket.on("close", onClose);
  }

  /** He is one more in it, until he goes. */
  count(gauge: Gauge): void {
    gauge.open++;
    this.#gauges.push(gauge);
  }

  /** What he says goes to `stage` from now on, unless the socket is paused. */
  hear(stage: Stage): void {
    this.stage = stage;
    if (this.#isHeard) return;
    this.#isHeard = true;
    const { socket } = this;
    socket.on("end", onEnd);
    socket.on("drain", onDrain);
    socket.on("data", onData);
  }

  /** He is not heard for now, and what he said is still to be read: so it counts against what a paused socket takes. */
  unread(said: Buffer): void {
    this.socket.pause();
    if (said.length > 0) this.socket.unshift(said);
  }

  /** He is not ours to hear any more: somebody else takes the socket. */
  release(): void {
    const { socket } = this;
    this.stage = undefined;
    this.#all.remove(this.#place);
    socket.off("end", onEnd);
    socket.off("drain", onDrain);
    socket.off("data", onData);
  }

  left(): void {
    this.#all.remove(this.#place);
    for (const gauge of this.#gauges) gauge.open--;
    this.stage?.gone();
    this.stage = undefined;
    (this.socket as VisitorSocket)[VISITOR] = undefined; // as in proxy/tcp-forward.ts
  }
}

function onData(this: VisitorSocket, chunk: Buffer): void {
  this[VISITOR]?.stage?.said(chunk);
}

function onEnd(this: VisitorSocket): void {
  this[VISITOR]?.stage?.finished();
}

function onDrain(this: VisitorSocket): void {
  this[VISITOR]?.stage?.drained();
}

function onClose(this: VisitorSocket): void {
  this[VISITOR]?.left();
}
