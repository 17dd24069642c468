import type { AddressPort } from "../../base/address.ts";
import type { Conn, ConnSink, Proof } from "../../base/conn.ts";
import { Fault, messageOf } from "../../base/fault.ts";
import type { Link } from "../../base/linked-list.ts";
import type { Timed } from "./deadline-heap.ts";
import type { Dial } from "./dials.ts";
import { TcpEndpoint } from "./endpoint.ts";
import type { Handshake } from "./handshake.ts";
import type { KeepaliveTimer } from "./keepalive.ts";
import { LARGEST_BUFFER_BYTES } from "./memory.ts";
import type { Receiver } from "./receiver.ts";
import type { Sender } from "./sender.ts";
import type { TcpSettings } from "./tcp-settings.ts";
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
  deadline: number = Infinity;
  hash: number = 0;
  nextInBucket: TcpConnection | undefined;
  isScheduled: boolean = false;
  heapKey: number = 0;
  heapIndex: number = -1;
  /** Of one that a peer began and that is not open yet: who gets it then. */
  accept: TcpAccept | undefined;
  /** Of one that we began and that is not open yet: who waits for it. */
  dial: Dial | undefined;
  /** In TIME-WAIT: its place among the others there. */
  restingPlace: Link<TcpConnection> | undefined;

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
    this.refresh();
    this.#host.schedule(this);
  }

  protected refresh(): void {
    const { sender, receiver } = this;
    let deadline = Math.min(
      this.endAt,
      this.handshake?.deadline ?? Infinity,
      this.keepaliveTimer?.deadline ?? Infinity,
    );
    if (receiver !== undefined) deadline = Math.min(deadline, receiver.ackAt);
    if (sender !== undefined && this.state !== "time-wait") deadline = Math.min(deadline, sender.deadline);
    this.deadline = this.state === "closed" ? Infinity : deadline;
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

  // ——— time ———

  /** A deadline came. */
  poll(now: number): void {
    const { sender, receiver } = this;
    if (now >= this.endAt) this.die(undefined);
    else if (this.handshake !== undefined) this.#pollHandshake(this.handshake, now);
    else if (receiver !== undefined) this.#pollOpen(now, sender, receiver);
  }

  #pollHandshake(handshake: Handshake, now: number): void {
    if (now < handshake.deadline) return;
    if (handshake.isExhausted) this.die(this.faultOf("TCPIP_TIMEOUT", "no answer"));
    else this.connect(now);
  }

  #pollOpen(now: number, sender: Sender | undefined, receiver: Receiver): void {
    if (now >= receiver.ackAt) receiver.mustAck = true;
    if (sender === undefined || this.state === "time-wait") return void this.changed();
    if (!sender.poll(now)) this.#giveUp(now, sender, "no progress for 300 s");
    else if (this.keepaliveTimer !== undefined && now >= this.keepaliveTimer.deadline) {
      this.#keepAlive(this.keepaliveTimer, now, sender, receiver);
    }
    if (this.state !== "closed") this.changed();
  }

  #keepAlive(timer: KeepaliveTimer, now: number, sender: Sender, receiver: Receiver): void {
    const { keepalive } = this.settings;
    switch (timer.due(now, keepalive)) {
      case "relax":
        sender.relax();
        receiver.relax();
        break;
      case "probe":
        if (!sender.hasOutstanding) this.sendProbe(now);
        break;
      case "give up":
        this.#giveUp(now, sender, `no answer to ${keepalive.probes} keepalive probes`);
        break;
      case "nothing":
    }
  }

  #giveUp(now: number, sender: Sender, found: string): void {
    this.sendReset((this.terms.iss + sender.nxt) >>> 0, now);
    this.die(this.faultOf("TCPIP_TIMEOUT", found));
  }

  /** Asks the other side at `at` whether it still knows us. */
  suspect(at: number): void {
    if (this.keepaliveTimer === undefined) return;
    this.keepaliveTimer.suspect(this.settings.keepalive, at);
    this.changed();
  }

  /** TIME-WAIT cut short, for a bound or a new connection. */
  expire(): void {
    this.die(undefined);
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
    if (this.state !== "time-wait" && this.state !== "closed") return;
    this.#user.rest(); // for a minute nobody needs what he holds: sockets, buffers, what he read of a request
    this.receiver?.relax();
    this.retireSender();
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

  get unsent(): number {
    return this.sender?.buffered ?? 0;
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
    this.#user.leave();
    if (this.state === "closed") return void this.receiver?.release();
    const now = this.#host.now();
    this.sayLastWords(now);
    this.reset(fault, now);
    this.receiver?.release(); // in TIME-WAIT too
  }

  /** Ends it from below: the user is told, the other side gets a reset. */
  cut(fault: Fault): void {
    if (this.state !== "closed") this.reset(fault, this.#host.now());
  }
}
