import type { AddressPort } from "../../base/address.ts";
import type { Conn, ConnSink, Proof } from "../../base/conn.ts";
import { Fault, messageOf } from "../../base/fault.ts";
import { FLAG, type TcpSegment } from "../../wire/tcp.ts";
import type { CongestionControl } from "./congestion.ts";
import type { Timed } from "./deadline-heap.ts";
import { Handshake } from "./handshake.ts";
import { type Keepalive, KeepaliveTimer } from "./keepalive.ts";
import { FIRST_WINDOW, Receiver } from "./receiver.ts";
import { LARGEST_BUFFER_BYTES } from "./send-buffer.ts";
import { Sender, type SenderOutlet } from "./sender.ts";
import type { ConnectionKey, TcpWriter } from "./tcp-writer.ts";
import { Terms } from "./terms.ts";
import { UserEnd } from "./user-end.ts";

export type TcpState =
  | "syn-sent"
  | "syn-received"
  | "established"
  | "fin-wait-1"
  | "fin-wait-2"
  | "close-wait"
  | "closing"
  | "last-ack"
  | "time-wait"
  | "closed";

/** What a connection asks of the stack that holds it. */
export interface ConnectionHost {
  readonly tcp: TcpWriter;
  readonly keepalive: Keepalive;
  readonly congestion: CongestionControl;
  now(): number;
  output(packet: Uint8Array, peer: number, now: number): void;
  /** There is something to deliver, to send or to wait for: `service` soon. */
  schedule(connection: TcpConnection): void;
  established(connection: TcpConnection): void;
  enteredTimeWait(connection: TcpConnection): void;
  /** A user threw where nothing more can be done about it. */
  userFailed(): void;
  /** Gone from the state machine: forget it. */
  removed(connection: TcpConnection, fault: Fault | undefined): void;
}

const TIME_WAIT_MS = 60_000;
const CHALLENGE_MS = 500;

/** One TCP connection: RFC 9293 §3.10, with the checks of RFC 5961 and RFC 7323. */
export class TcpConnection implements Conn, SenderOutlet, Timed {
  readonly key: ConnectionKey;
  /** Packets of a connection that came through a peer leave through it; -1: by destination. */
  peer: number;
  readonly isDialed: boolean;
  /** The peer that packets came from last. */
  seenPeer: number;
  state: TcpState;
  proof: Proof;
  sender: Sender | undefined;
  receiver: Receiver | undefined;
  hash: number = 0;
  nextInBucket: TcpConnection | undefined;
  isScheduled: boolean = false;
  deadline: number = Infinity;
  heapKey: number = 0;
  heapIndex: number = -1;

  readonly #host: ConnectionHost;
  readonly #terms: Terms;
  readonly #user: UserEnd = new UserEnd();
  #handshake: Handshake | undefined;
  #keepalive: KeepaliveTimer | undefined;
  #peerWindow = 0;
  #lastAckSent = 1;
  #endAt = Infinity; // of TIME-WAIT
  #challengedAt = -Infinity;
  #sawAck = false;
  #mustRespond = false;
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
    this.#host = host;
    this.key = key;
    this.peer = isDialed ? -1 : peer;
    this.seenPeer = peer;
    this.isDialed = isDialed;
    this.proof = proof;
    this.state = isDialed ? "syn-sent" : "syn-received";
    this.#terms = new Terms(key.local, host.tcp.mtu, numbers.sequence, numbers.timestampOffset);
    this.#handshake = new Handshake(isDialed, now);
  }

  get remote(): AddressPort {
    return this.proof.kind === "ingress" ? this.proof.visitor : this.proof.source;
  }

  // ——— opening ———

  /** Sends the first SYN. */
  connect(now: number): void {
    this.#sendSyn(now);
    this.#handshake?.wait(now);
    this.#refresh();
  }

  /** Answers the SYN that made us. */
  answer(segment: TcpSegment, now: number): void {
    this.#takeSyn(segment, now);
    this.connect(now);
  }

  #takeSyn(segment: TcpSegment, now: number): void {
    this.#terms.takeSyn(segment, now);
    this.#peerWindow = segment.window;
    this.receiver = new Receiver(FIRST_WINDOW, this.#terms.hasScale);
    this.receiver.credit = this.#earlyCredit;
  }

  #sendSyn(now: number): void {
    this.#handshake?.sent();
    this.#output(this.#host.tcp.syn(this.key, this.#terms, this.state === "syn-received", now), now);
  }

  #establish(now: number): void {
    const { mss, hasSack } = this.#terms;
    const { congestion } = this.#host;
    this.state = "established";
    this.sender = new Sender(this, { mss, hasSack, window: this.#peerWindow, congestion }, now);
    const rtt = this.#handshake?.rtt(now) ?? -1;
    if (rtt >= 0) this.sender.rtt.sample(rtt, now);
    this.#handshake = undefined;
    this.#keepalive = new KeepaliveTimer(now);
    this.#host.established(this);
    if (this.#isEndQueued && this.sender !== undefined) this.#finish(now);
  }

  // ——— input ———

  /** One segment of this connection. Delivery and answers wait for `deliver` and `transmit`. */
  input(segment: TcpSegment, slab: Uint8Array, now: number): void {
    if (this.state === "syn-sent") this.#inputSynSent(segment, now);
    else if (this.receiver !== undefined) this.#inputSynchronized(this.receiver, segment, slab, now);
  }

  /** RFC 9293 §3.10.7.3. */
  #inputSynSent(segment: TcpSegment, now: number): void {
    const { flags } = segment;
    const hasAck = (flags & FLAG.ack) !== 0;
    const isOurs = hasAck && segment.acknowledgment === (this.#terms.iss + 1) >>> 0;
    if (hasAck && !isOurs) {
      if ((flags & FLAG.rst) === 0) this.#sendReset(segment.acknowledgment, now);
      return;
    }
    if ((flags & FLAG.rst) !== 0) {
      if (isOurs) this.#die(this.#faultOf("TCPIP_REFUSED", "refused by the other side"));
      return;
    }
    if ((flags & FLAG.syn) === 0) return;
    this.#takeSyn(segment, now);
    if (isOurs) {
      this.#mustRespond = true;
      this.#establish(now);
      this.#schedule();
      return;
    }
    this.state = "syn-received"; // both opened at once
    this.connect(now);
  }

  /** RFC 9293 §3.10.7.4. */
  #inputSynchronized(receiver: Receiver, segment: TcpSegment, slab: Uint8Array, now: number): void {
    if (this.state === "closed") return;
    const { flags } = segment;
    const terms = this.#terms;
    const position = receiver.next + ((segment.sequence - ((terms.irs + receiver.next) >>> 0)) | 0);
    const length = segment.payloadLength + (flags & FLAG.fin) + ((flags & FLAG.syn) >> 1);
    const isReset = (flags & FLAG.rst) !== 0;
    if (!isReset && terms.isOld(segment, now)) {
      this.#challenge(now, segment.payloadLength > 0);
      return;
    }
    if (!receiver.isAcceptable(position, length)) {
      if (!isReset) this.#inputUnacceptable(receiver, segment, slab, position, length, now);
      return;
    }
    if (isReset) {
      if (position === receiver.next) this.#wasReset();
      else this.#challenge(now, false); // RFC 5961 §3
      return;
    }
    if ((flags & FLAG.syn) !== 0) {
      this.#challenge(now, false);
      return;
    }
    if ((flags & FLAG.ack) === 0) return;
    if (segment.hasTimestamps && position <= this.#lastAckSent) terms.note(segment, now);
    if (this.state === "syn-received" && !this.#completeHandshake(segment, now)) return;
    this.#keepalive?.heard(now);
    if (!this.#acknowledge(segment, position, now)) return;
    this.#inputPayload(receiver, segment, slab, position, now);
    this.#schedule();
  }

  #completeHandshake(segment: TcpSegment, now: number): boolean {
    if (segment.acknowledgment !== (this.#terms.iss + 1) >>> 0) {
      this.#sendReset(segment.acknowledgment, now);
      return false;
    }
    this.#peerWindow = segment.window << this.#terms.scale;
    this.#establish(now);
    return true;
  }

  /** RFC 5961 §4 for the SYN; an old duplicate of data is answered at once, for its SACK report. */
  #inputUnacceptable(
    receiver: Receiver,
    segment: TcpSegment,
    slab: Uint8Array,
    position: number,
    length: number,
    now: number,
  ): void {
    const isSyn = (segment.flags & FLAG.syn) !== 0;
    if (this.state === "syn-received" && isSyn && position === 0) this.#sendSynAgain(now);
    else if (this.state === "time-wait") this.#restartTimeWait(now);
    else if (segment.payloadLength > 0 && position + length <= receiver.next) {
      receiver.receive(position, slab, segment.payload, segment.payloadLength, false, this.#terms.mss);
      this.#acknowledge(segment, position, now);
      this.#schedule();
    } else this.#challenge(now, length > 0 || position === receiver.next - 1);
  }

  #inputPayload(receiver: Receiver, segment: TcpSegment, slab: Uint8Array, position: number, now: number): void {
    const hasFin = (segment.flags & FLAG.fin) !== 0;
    if (segment.payloadLength === 0 && !hasFin) return;
    if (receiver.isFinished) {
      receiver.mustAck = true;
      if (this.state === "time-wait") this.#restartTimeWait(now);
      return;
    }
    receiver.receive(position, slab, segment.payload, segment.payloadLength, hasFin, this.#terms.mss);
    if (receiver.isReportFull && this.sender !== undefined) this.#send(this.sender.nxt, 0, 0, now);
    if (!receiver.isFinished) return;
    if (this.state === "established") this.state = "close-wait";
    else if (this.state === "fin-wait-1") this.state = "closing";
    else if (this.state === "fin-wait-2") this.#enterTimeWait(now);
  }

  /** False: the number is not acceptable, and the segment is dropped (RFC 5961 §5). */
  #acknowledge(segment: TcpSegment, position: number, now: number): boolean {
    const { sender } = this;
    if (sender === undefined) return true;
    const { iss, scale } = this.#terms;
    const ack = sender.una + ((segment.acknowledgment - ((iss + sender.una) >>> 0)) | 0);
    if (ack > sender.nxt || ack < sender.una - sender.largestWindow - 1) {
      this.#challenge(now, false);
      return false;
    }
    if (ack < sender.una) return true; // an old one: only its data counts
    const echoAge = this.#terms.echoAge(segment, now);
    sender.acknowledge(ack, segment.window << scale, segment, position, iss, echoAge, now);
    this.#sawAck = true;
    if (!sender.isFinAcknowledged) return true;
    if (this.state === "fin-wait-1") this.state = "fin-wait-2";
    else if (this.state === "closing") this.#enterTimeWait(now);
    else if (this.state === "last-ack") this.#die(undefined);
    return true;
  }

  #wasReset(): void {
    if (this.state === "time-wait" || this.state === "last-ack" || this.state === "closing") this.#die(undefined);
    else if (this.state === "syn-received") this.#die(this.#faultOf("TCPIP_REFUSED", "reset while opening"));
    else this.#die(this.#faultOf("TCPIP_RESET", "reset by the other side"));
  }

  #sendSynAgain(now: number): void {
    if (now - this.#challengedAt < CHALLENGE_MS) return;
    this.#challengedAt = now;
    this.#handshake?.again();
    this.#sendSyn(now);
  }

  /** RFC 5961 §7: a bounded number of acknowledgments to what looks wrong. `isOrdinary`: probes are always answered. */
  #challenge(now: number, isOrdinary: boolean): void {
    if (this.state === "syn-received" || this.sender === undefined) return;
    if (!isOrdinary) {
      if (now - this.#challengedAt < CHALLENGE_MS) return;
      this.#challengedAt = now;
    }
    this.#mustRespond = true;
    this.#schedule();
  }

  #enterTimeWait(now: number): void {
    this.state = "time-wait";
    this.#keepalive?.stop();
    this.sender?.relax();
    this.#restartTimeWait(now);
    this.#host.enteredTimeWait(this);
  }

  #restartTimeWait(now: number): void {
    this.#endAt = now + TIME_WAIT_MS;
    this.#mustRespond = true;
    this.#schedule();
  }

  /** RFC 6191: a SYN that cannot be old may take the place of what is only waiting. */
  mayBeReplacedBy(segment: TcpSegment): boolean {
    if (this.state !== "time-wait") return false;
    const { hasTimestamps, recent, irs } = this.#terms;
    if (hasTimestamps && segment.hasTimestamps) return ((segment.timestamp - recent) | 0) > 0;
    return ((segment.sequence - ((irs + (this.receiver?.next ?? 0)) >>> 0)) | 0) > 0;
  }

  // ——— delivery, sending, time ———

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

  /** Sends what may be sent. True: there is more for another turn. */
  transmit(now: number, quantum: number): boolean {
    const { sender, receiver } = this;
    if (this.state === "closed" || sender === undefined || receiver === undefined) return false;
    let hasMore = false;
    if (this.state !== "time-wait") {
      if (this.#sawAck) {
        this.#sawAck = false;
        sender.settle(now);
      }
      receiver.tune(sender.rtt.smoothed, now);
      hasMore = sender.transmit(now, quantum);
    }
    const isDue = receiver.mustAck || this.#mustRespond || receiver.isUpdateDue(this.#terms.mss);
    if (isDue) this.#send(sender.nxt, 0, 0, now);
    else if (receiver.owesAck) receiver.delayAck(now);
    this.#refresh();
    return hasMore;
  }

  /** A deadline came. */
  poll(now: number): void {
    const { sender, receiver } = this;
    if (now >= this.#endAt) this.#die(undefined);
    else if (this.#handshake !== undefined) this.#pollHandshake(this.#handshake, now);
    else if (sender !== undefined && receiver !== undefined) this.#pollOpen(now, sender, receiver);
  }

  #pollHandshake(handshake: Handshake, now: number): void {
    if (now < handshake.deadline) return;
    if (handshake.isExhausted) this.#die(this.#faultOf("TCPIP_TIMEOUT", "no answer"));
    else this.connect(now);
  }

  #pollOpen(now: number, sender: Sender, receiver: Receiver): void {
    if (now >= receiver.ackAt) receiver.mustAck = true;
    if (this.state !== "time-wait" && !sender.poll(now)) this.#giveUp(now, sender, "no progress for 300 s");
    else if (this.#keepalive !== undefined && now >= this.#keepalive.deadline) {
      this.#keepAlive(this.#keepalive, now, sender, receiver);
    }
    if (this.state !== "closed") this.#schedule();
  }

  #keepAlive(timer: KeepaliveTimer, now: number, sender: Sender, receiver: Receiver): void {
    const { keepalive } = this.#host;
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
    this.#sendReset((this.#terms.iss + sender.nxt) >>> 0, now);
    this.#die(this.#faultOf("TCPIP_TIMEOUT", found));
  }

  #refresh(): void {
    const { sender, receiver } = this;
    let deadline = Math.min(this.#endAt, this.#handshake?.deadline ?? Infinity, this.#keepalive?.deadline ?? Infinity);
    if (receiver !== undefined) deadline = Math.min(deadline, receiver.ackAt);
    if (sender !== undefined && this.state !== "time-wait") deadline = Math.min(deadline, sender.deadline);
    this.deadline = this.state === "closed" ? Infinity : deadline;
  }

  /** TIME-WAIT cut short, for a bound or a new connection. */
  expire(): void {
    this.#die(undefined);
  }

  /** Acknowledgments that wait in the socket since the loop was held up say nothing about the path. */
  noteStall(): void {
    this.sender?.noteStall();
  }

  // ——— segments ———

  sendData(position: number, length: number, flags: number, now: number): void {
    this.#send(position, length, flags, now);
  }

  sendProbe(now: number): void {
    if (this.sender !== undefined) this.#send(this.sender.una - 1, 0, 0, now);
  }

  #send(position: number, length: number, flags: number, now: number): void {
    const { sender, receiver } = this;
    if (sender === undefined || receiver === undefined) return;
    const hadReport = receiver.hasReport;
    const { ring } = sender.buffer;
    const packet = this.#host.tcp.segment(this.key, this.#terms, receiver, ring, position, length, flags, now);
    this.#lastAckSent = receiver.next;
    // A segment with data leaves SACK blocks out: while there is a gap, an empty one must still report it.
    if (length === 0 || !hadReport) {
      receiver.acknowledged();
      this.#mustRespond = false;
    }
    this.#output(packet, now);
  }

  #sendReset(sequence: number, now: number): void {
    const acknowledgment = this.receiver === undefined ? -1 : (this.#terms.irs + this.receiver.next) >>> 0;
    this.#output(this.#host.tcp.reset(this.key, sequence, acknowledgment), now);
  }

  #output(packet: Uint8Array, now: number): void {
    this.#host.output(packet, this.peer, now);
  }

  // ——— the user's side ———

  attach(sink: ConnSink): void {
    this.#user.attach(sink);
    this.#schedule();
  }

  credit(bytes: number): void {
    if (this.receiver === undefined) this.#earlyCredit += bytes;
    else this.receiver.credit += bytes;
    this.#schedule();
  }

  write(view: Uint8Array): boolean {
    const { sender } = this;
    if (sender === undefined || this.state === "closed" || this.#isEndQueued) return false;
    if (sender.buffered > 2 * LARGEST_BUFFER_BYTES) {
      this.abort(this.#faultOf("TCPIP_OVERFLOW", "its user writes on without waiting for drain"));
      return false;
    }
    sender.write(view, this.#host.now());
    this.#schedule();
    this.#user.mustDrain = sender.buffered >= sender.buffer.limit;
    return !this.#user.mustDrain;
  }

  end(): void {
    if (this.#isEndQueued || this.state === "closed") return;
    this.#isEndQueued = true;
    this.#finish(this.#host.now());
  }

  #finish(now: number): void {
    if (this.sender === undefined) return;
    this.sender.finish(now);
    if (this.state === "established") this.state = "fin-wait-1";
    else if (this.state === "close-wait") this.state = "last-ack";
    this.#schedule();
  }

  abort(fault: Fault): void {
    if (this.state === "closed") return;
    this.#user.leave();
    this.#reset(fault);
  }

  /** Ends it from below: the user is told, the other side gets a reset. */
  cut(fault: Fault): void {
    if (this.state !== "closed") this.#reset(fault);
  }

  #reset(fault: Fault): void {
    const { sender } = this;
    // In TIME-WAIT and at the very end both sides have everything: nothing to reset.
    if (this.state === "time-wait") return;
    const isOver = sender?.isFinAcknowledged === true && this.receiver?.isFinished === true;
    if (!isOver && this.state !== "syn-sent") {
      this.#sendReset((this.#terms.iss + (sender?.nxt ?? 1)) >>> 0, this.#host.now());
    }
    this.#die(fault);
  }

  /** `undefined`: it ended as it should. */
  #die(fault: Fault | undefined): void {
    if (this.state === "closed") return;
    this.state = "closed";
    this.deadline = Infinity;
    this.#user.close(fault);
    if (fault !== undefined) {
      this.receiver?.release();
      this.sender?.buffer.ring.release();
    }
    this.#host.removed(this, fault);
    this.#schedule();
  }

  #faultOf(code: string, found: string): Fault {
    const { address, port } = this.remote;
    return new Fault(code, `Cannot talk to "${address} port ${port}": ${found}, wanted an answering TCP peer`);
  }

  /** RFC 8201 and RFC 5927 §7: `sequence` must be of something in flight. True: believed. */
  narrowPath(mtu: number, sequence: number): boolean {
    const { sender } = this;
    if (sender === undefined || mtu >= this.#terms.pathMtu) return false;
    const position = sender.una + ((sequence - ((this.#terms.iss + sender.una) >>> 0)) | 0);
    if (position < sender.una || position >= sender.nxt) return false;
    this.#terms.pathMtu = mtu;
    sender.narrow(this.#terms.mss);
    this.#schedule();
    return true;
  }

  #schedule(): void {
    this.#refresh();
    this.#host.schedule(this);
  }
}
