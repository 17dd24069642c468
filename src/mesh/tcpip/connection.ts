import type { AddressPort } from "../../base/address.ts";
import type { Conn, ConnSink, Proof } from "../../base/conn.ts";
import { Fault, messageOf } from "../../base/fault.ts";
import type { Timed } from "./deadline-heap.ts";
import { TcpEndpoint, type TcpSettings } from "./endpoint.ts";
import type { Receiver } from "./receiver.ts";
import { LARGEST_BUFFER_BYTES } from "./send-buffer.ts";
import type { ConnectionKey } from "./tcp-writer.ts";
import { UserEnd } from "./user-end.ts";

export type TcpAccept = (conn: Conn) => void;

/** What a connection asks of the stack that holds it. */
export interface ConnectionHost extends TcpSettings {
  now(): number;
  output(packet: Uint8Array, peer: number, now: number): void;
  /** There is something to deliver, to send or to wait for: give it a turn soon. */
  schedule(connection: TcpConnection): void;
  established(connection: TcpConnection): void;
  enteredTimeWait(connection: TcpConnection): void;
  /** A user threw where nothing more can be done about it. */
  userFailed(): void;
  /** Gone from the state machine: forget it. */
  removed(connection: TcpConnection, fault: Fault | undefined): void;
}

/** One TCP connection as its user and its stack see it. */
export class TcpConnection extends TcpEndpoint implements Conn, Timed {
  /** Packets of a connection that came through a peer leave through it; -1: by destination. */
  peer: number;
  /** The peer that packets came from last. */
  seenPeer: number;
  proof: Proof;
  hash: number = 0;
  nextInBucket: TcpConnection | undefined;
  isScheduled: boolean = false;
  heapKey: number = 0;
  heapIndex: number = -1;

  readonly #host: ConnectionHost;
  readonly #user: UserEnd = new UserEnd();
  #earlyCredit = 0;
  #isEndQueued = false;

  constructor(
    host: ConnectionHost,
    key: ConnectionKey,
    peer: number,
    isDialed: boolean,
    proof: Proof,
    numbers: { readonly sequence: number; readonly timestampOffset: number },
    now: number,
  ) {
    super(host, key, isDialed, numbers, now);
    this.#host = host;
    this.peer = isDialed ? -1 : peer;
    this.seenPeer = peer;
    this.proof = proof;
  }

  get remote(): AddressPort {
    return this.proof.kind === "ingress" ? this.proof.visitor : this.proof.source;
  }

  // ——— what the state machine tells ———

  protected emit(packet: Uint8Array, now: number): void {
    this.#host.output(packet, this.peer, now);
  }

  protected changed(): void {
    this.#host.schedule(this);
  }

  protected heardSyn(receiver: Receiver): void {
    receiver.credit = this.#earlyCredit;
  }

  protected opened(now: number): void {
    this.#host.established(this);
    if (this.#isEndQueued) this.finish(now);
  }

  protected enteredTimeWait(): void {
    this.#host.enteredTimeWait(this);
  }

  protected ended(fault: Fault | undefined): void {
    this.#user.close(fault);
    this.#host.removed(this, fault);
  }

  // ——— delivery ———

  /** Something for the user came up after his turn. */
  get hasDelivery(): boolean {
    return this.#user.isOwed(this.receiver);
  }

  /** Hands to the user what he may have. */
  deliver(): void {
    try {
      this.#user.deliver(this.receiver, this.sender);
    } catch (thrown) {
      if (this.state === "closed") this.#host.userFailed();
      else
        this.abort(new Fault("TCPIP_SINK_FAILED", `Cannot deliver to a user: ${messageOf(thrown)}`, { cause: thrown }));
    }
  }

  // ——— the user's side ———

  attach(sink: ConnSink): void {
    this.#user.attach(sink);
    this.changed();
  }

  credit(bytes: number): void {
    if (this.receiver === undefined) this.#earlyCredit += bytes;
    else this.receiver.credit += bytes;
    this.changed();
  }

  write(view: Uint8Array): boolean {
    const { sender } = this;
    if (sender === undefined || this.state === "closed" || this.#isEndQueued) return false;
    if (sender.buffered > 2 * LARGEST_BUFFER_BYTES) {
      this.abort(this.faultOf("TCPIP_OVERFLOW", "its user writes on without waiting for drain"));
      return false;
    }
    sender.write(view, this.#host.now());
    this.changed();
    this.#user.mustDrain = sender.buffered >= sender.buffer.limit;
    return !this.#user.mustDrain;
  }

  end(): void {
    if (this.#isEndQueued || this.state === "closed") return;
    this.#isEndQueued = true;
    this.finish(this.#host.now());
  }

  abort(fault: Fault): void {
    if (this.state === "closed") return;
    this.#user.leave();
    this.reset(fault, this.#host.now());
  }

  /** Ends it from below: the user is told, the other side gets a reset. */
  cut(fault: Fault): void {
    if (this.state !== "closed") this.reset(fault, this.#host.now());
  }
}
