import type { AddressPort } from "../../base/address.ts";
import { Fault } from "../../base/fault.ts";
import { FLAG, type TcpSegment } from "../../wire/tcp.ts";
import { judge, judgeInSynSent } from "./arrival.ts";
import { Challenges } from "./challenges.ts";
import { Handshake } from "./handshake.ts";
import { KeepaliveTimer } from "./keepalive.ts";
import { FIRST_WINDOW, Receiver } from "./receiver.ts";
import { Sender, type SenderOutlet } from "./sender.ts";
import type { TcpSettings } from "./tcp-settings.ts";
import type { TcpState } from "./tcp-state.ts";
import type { ConnectionKey } from "./tcp-writer.ts";
import { Terms } from "./terms.ts";

const TIME_WAIT_MS = 60_000;
const LAST_WORDS_BYTES = 4096;
const LAST_WORDS_SEGMENTS = 8;

/**
 * The state machine of a connection: RFC 9293 §3.10, with the checks of RFC 5961 and RFC 7323. It knows no user, no
 * stack and no clock; whoever extends it is told what came of a segment.
 */
export abstract class TcpEndpoint implements SenderOutlet {
  readonly key: ConnectionKey;
  readonly isDialed: boolean;
  state: TcpState;
  sender: Sender | undefined;
  receiver: Receiver | undefined;

  protected readonly settings: TcpSettings;
  protected readonly terms: Terms;
  protected handshake: Handshake | undefined;
  protected keepaliveTimer: KeepaliveTimer | undefined;
  #peerWindow = 0;
  #lastAckSent = 1;
  protected endAt: number = Infinity; // of TIME-WAIT
  /** Where our stream ended, once there is no sender any more. */
  #finalPosition = -1;
  readonly #challenges: Challenges = new Challenges();
  #sawAck = false;
  #mustRespond = false;

  constructor(
    settings: TcpSettings,
    key: ConnectionKey,
    isDialed: boolean,
    numbers: { readonly sequence: number; readonly timestampOffset: number },
    now: number,
  ) {
    this.settings = settings;
    this.key = key;
    this.isDialed = isDialed;
    this.state = isDialed ? "syn-sent" : "syn-received";
    this.terms = new Terms(key.local, settings.tcp.mtu, numbers.sequence, numbers.timestampOffset);
    this.handshake = new Handshake(isDialed, now);
  }

  abstract get remote(): AddressPort;
  protected abstract emit(packet: Uint8Array, now: number): void;
  /** There is something to deliver, to send or to wait for. */
  protected abstract changed(): void;
  /** Some deadline moved. */
  protected abstract refresh(): void;
  /** The receiver exists from now on. */
  protected abstract heardSyn(receiver: Receiver): void;
  protected abstract opened(now: number): void;
  protected abstract enteredTimeWait(): void;
  /** `undefined`: it ended as it should. */
  protected abstract ended(fault: Fault | undefined): void;

  get stalls(): number {
    return this.settings.stalls;
  }

  // ——— opening ———

  /** Sends the first SYN. */
  connect(now: number): void {
    this.#sendSyn(now);
    this.handshake?.wait(now);
    this.refresh();
  }

  /** Answers the SYN that made us. */
  answer(segment: TcpSegment, now: number): void {
    this.#takeSyn(segment, now);
    this.connect(now);
  }

  #takeSyn(segment: TcpSegment, now: number): void {
    this.terms.takeSyn(segment, now);
    this.#peerWindow = segment.window;
    this.receiver = new Receiver(FIRST_WINDOW, this.terms.hasScale, this.settings.memory);
    this.heardSyn(this.receiver);
  }

  #sendSyn(now: number): void {
    this.handshake?.sent();
    this.emit(this.settings.tcp.syn(this.key, this.terms, this.state === "syn-received", now), now);
  }

  #establish(now: number): void {
    const { mss, hasSack } = this.terms;
    const { congestion, memory } = this.settings;
    this.state = "established";
    this.sender = new Sender(this, { mss, hasSack, window: this.#peerWindow, congestion, memory }, now);
    const rtt = this.handshake?.rtt(now) ?? -1;
    if (rtt >= 0) this.sender.rtt.sample(rtt, now);
    this.handshake = undefined;
    this.keepaliveTimer = new KeepaliveTimer(this.settings.keepalive, now);
    this.opened(now);
  }

  // ——— input ———

  /** One segment of this connection. Delivery and answers wait for their turns. */
  input(segment: TcpSegment, slab: Uint8Array, now: number): void {
    if (this.state === "syn-sent") this.#inputSynSent(segment, now);
    else if (this.receiver !== undefined) this.#inputSynchronized(this.receiver, segment, slab, now);
  }

  #inputSynSent(segment: TcpSegment, now: number): void {
    switch (judgeInSynSent(this.terms, segment)) {
      case "refuse":
        this.sendReset(segment.acknowledgment, now);
        break;
      case "refused":
        this.die(this.faultOf("TCPIP_REFUSED", "refused by the other side"));
        break;
      case "open":
        this.#takeSyn(segment, now);
        this.receiver?.ackWithFirstData(now);
        this.#establish(now);
        this.changed();
        break;
      case "both": // opened at once
        this.#takeSyn(segment, now);
        this.state = "syn-received";
        this.connect(now);
        break;
      case "ignore":
    }
  }

  #inputSynchronized(receiver: Receiver, segment: TcpSegment, slab: Uint8Array, now: number): void {
    if (this.state === "closed") return;
    const position = receiver.next + ((segment.sequence - ((this.terms.irs + receiver.next) >>> 0)) | 0);
    switch (judge(this.state, receiver, this.terms, segment, position, now)) {
      case "process":
        this.#process(receiver, segment, slab, position, now);
        break;
      case "challenge":
        this.#challenge(now);
        break;
      case "answer":
        this.#answer();
        break;
      case "duplicate":
        receiver.receive(position, slab, segment.payload, segment.payloadLength, false, this.terms.mss);
        this.#acknowledge(segment, position, now);
        this.changed();
        break;
      case "reset":
        this.#wasReset();
        break;
      case "repeated-syn":
        this.#sendSynAgain(now);
        break;
      case "repeated-fin":
        this.#restartTimeWait(now);
        break;
      case "ignore":
    }
  }

  #process(receiver: Receiver, segment: TcpSegment, slab: Uint8Array, position: number, now: number): void {
    if (segment.hasTimestamps && position <= this.#lastAckSent) this.terms.note(segment, now);
    if (this.state === "syn-received" && !this.#completeHandshake(segment, now)) return;
    this.keepaliveTimer?.heard(now);
    if (!this.#acknowledge(segment, position, now)) return;
    this.#inputPayload(receiver, segment, slab, position, now);
    this.changed();
  }

  #completeHandshake(segment: TcpSegment, now: number): boolean {
    if (segment.acknowledgment !== (this.terms.iss + 1) >>> 0) {
      this.sendReset(segment.acknowledgment, now);
      return false;
    }
    this.#peerWindow = segment.window << this.terms.scale;
    this.#establish(now);
    return true;
  }

  #inputPayload(receiver: Receiver, segment: TcpSegment, slab: Uint8Array, position: number, now: number): void {
    const hasFin = (segment.flags & FLAG.fin) !== 0;
    if (segment.payloadLength === 0 && !hasFin) return;
    if (receiver.isFinished) {
      receiver.mustAck = true;
      if (this.state === "time-wait") this.#restartTimeWait(now);
      return;
    }
    receiver.receive(position, slab, segment.payload, segment.payloadLength, hasFin, this.terms.mss);
    if (receiver.isReportFull && this.sender !== undefined) this.#send(this.sender.nxt, 0, 0, now);
    if (!receiver.isFinished) return;
    if (this.state === "established") this.state = "close-wait";
    else if (this.state === "fin-wait-1") this.state = "closing";
    else if (this.state === "fin-wait-2") this.#enterTimeWait(now);
  }

  /** False: the number is not acceptable, the segment is dropped (RFC 5961 §5). */
  #acknowledge(segment: TcpSegment, position: number, now: number): boolean {
    const { sender } = this;
    if (sender === undefined) return this.#finalPosition < 0 || this.#acknowledgesAll(segment, now);
    const { iss, scale } = this.terms;
    const ack = sender.una + ((segment.acknowledgment - ((iss + sender.una) >>> 0)) | 0);
    if (ack > sender.nxt || ack < sender.una - sender.largestWindow - 1) {
      this.#challenge(now);
      return false;
    }
    if (ack < sender.una) return true; // an old one: only its data counts
    const echoAge = this.terms.echoAge(segment, now);
    sender.acknowledge(ack, segment.window << scale, segment, position, iss, echoAge, now);
    this.#sawAck = true;
    if (!sender.isFinAcknowledged) return true;
    if (this.state === "fin-wait-1") this.state = "fin-wait-2";
    else if (this.state === "closing") this.#enterTimeWait(now);
    else if (this.state === "last-ack") this.die(undefined);
    return true;
  }

  #acknowledgesAll(segment: TcpSegment, now: number): boolean {
    const beyond = (segment.acknowledgment - ((this.terms.iss + this.#finalPosition) >>> 0)) | 0;
    if (beyond > 0) this.#challenge(now);
    return beyond <= 0;
  }

  #wasReset(): void {
    if (this.state === "time-wait" || this.state === "last-ack" || this.state === "closing") this.die(undefined);
    else if (this.state === "syn-received") this.die(this.faultOf("TCPIP_REFUSED", "reset while opening"));
    else this.die(this.faultOf("TCPIP_RESET", "reset by the other side"), true);
  }

  #sendSynAgain(now: number): void {
    if (!this.#challenges.allows(now)) return;
    this.handshake?.again();
    this.#sendSyn(now);
  }

  #challenge(now: number): void {
    if (this.#challenges.allows(now)) this.#answer();
  }

  #answer(): void {
    if (this.sender === undefined && this.#finalPosition < 0) return;
    this.#mustRespond = true;
    this.changed();
  }

  #enterTimeWait(now: number): void {
    this.state = "time-wait";
    this.endAt = now + TIME_WAIT_MS;
    this.keepaliveTimer = undefined;
    this.enteredTimeWait();
    this.changed();
  }

  /** For a minute only numbers are needed: most of what a connection holds is its sender. */
  protected retireSender(): void {
    if (this.state !== "time-wait" || this.sender === undefined) return;
    this.#finalPosition = this.sender.nxt;
    this.sender.relax();
    this.sender = undefined;
  }

  #restartTimeWait(now: number): void {
    this.endAt = now + TIME_WAIT_MS;
    this.#answer();
  }

  /** RFC 6191: a SYN that cannot be old may take the place of what is only waiting. */
  mayBeReplacedBy(segment: TcpSegment): boolean {
    if (this.state !== "time-wait") return false;
    const { hasTimestamps, recent, irs } = this.terms;
    if (hasTimestamps && segment.hasTimestamps) return ((segment.timestamp - recent) | 0) > 0;
    return ((segment.sequence - ((irs + (this.receiver?.next ?? 0)) >>> 0)) | 0) > 0;
  }

  // ——— sending ———

  /** Sends what may be sent. True: there is more for another turn. */
  transmit(now: number, quantum: number): boolean {
    const { sender, receiver } = this;
    const isSynchronized = sender !== undefined || this.#finalPosition >= 0;
    if (this.state === "closed" || receiver === undefined || !isSynchronized) return false;
    let hasMore = false;
    if (sender !== undefined && this.state !== "time-wait") {
      if (this.#sawAck) {
        this.#sawAck = false;
        sender.settle(now);
      }
      receiver.tune(sender.rtt.smoothed, now);
      hasMore = sender.transmit(now, quantum);
    }
    const isDue = receiver.mustAck || this.#mustRespond || receiver.isUpdateDue(this.terms.mss);
    if (isDue) this.#send(sender?.nxt ?? this.#finalPosition, 0, 0, now);
    else if (receiver.owesAck) receiver.delayAck(now);
    this.refresh();
    return hasMore;
  }

  sendData(position: number, length: number, flags: number, now: number): void {
    this.#send(position, length, flags, now);
  }

  sendProbe(now: number): void {
    if (this.sender !== undefined) this.#send(this.sender.una - 1, 0, 0, now);
  }

  #send(position: number, length: number, flags: number, now: number): void {
    const { sender, receiver } = this;
    if (receiver === undefined) return;
    const hadReport = receiver.hasReport;
    const ring = sender?.buffer.ring;
    const packet = this.settings.tcp.segment(this.key, this.terms, receiver, ring, position, length, flags, now);
    this.#lastAckSent = receiver.next;
    // A segment with data leaves SACK blocks out: while there is a gap, an empty one must still report it.
    if (length === 0 || !hadReport) {
      receiver.acknowledged();
      this.#mustRespond = false;
    }
    this.emit(packet, now);
  }

  protected sendReset(sequence: number, now: number): void {
    const acknowledgment = this.receiver === undefined ? -1 : (this.terms.irs + this.receiver.next) >>> 0;
    this.emit(this.settings.tcp.reset(this.key, sequence, acknowledgment), now);
  }

  // ——— ends ———

  /** Ends our direction once everything written is sent. */
  protected finish(now: number): void {
    if (this.sender === undefined) return;
    this.sender.finish(now);
    if (this.state === "established") this.state = "fin-wait-1";
    else if (this.state === "close-wait") this.state = "last-ack";
    this.changed();
  }

  /** Sends what is left, if it is short: an alert that says why, which the reset would overtake. */
  protected sayLastWords(now: number): void {
    const { sender } = this;
    if (sender !== undefined && sender.buffered <= LAST_WORDS_BYTES) sender.transmit(now, LAST_WORDS_SEGMENTS);
  }

  protected reset(fault: Fault, now: number): void {
    const { sender } = this;
    // In TIME-WAIT and at the very end both sides have everything: nothing to reset.
    if (this.state === "time-wait") return;
    const isOver = sender?.isFinAcknowledged === true && this.receiver?.isFinished === true;
    if (!isOver && this.state !== "syn-sent") {
      this.sendReset((this.terms.iss + (sender?.nxt ?? 1)) >>> 0, now);
    }
    this.die(fault);
  }

  /** `undefined`: it ended as it should. `isHeard`: what came before may still be delivered. */
  protected die(fault: Fault | undefined, isHeard: boolean = false): void {
    if (this.state === "closed") return;
    this.state = "closed";
    if (fault !== undefined && !isHeard) this.receiver?.release();
    else if (fault === undefined) this.receiver?.relax(); // what is left is delivered first
    this.sender?.buffer.ring.release();
    this.ended(fault);
    this.changed();
  }

  protected faultOf(code: string, found: string): Fault {
    const place = `${this.remote.address} port ${this.remote.port}`;
    return new Fault(code, `Cannot talk to "${place}": ${found}, wanted an answering TCP peer`);
  }

  /** RFC 8201 and RFC 5927 §7: `sequence` must be of something in flight. True: believed. */
  narrowPath(mtu: number, sequence: number): boolean {
    const { sender } = this;
    if (sender === undefined || mtu >= this.terms.pathMtu) return false;
    const position = sender.una + ((sequence - ((this.terms.iss + sender.una) >>> 0)) | 0);
    if (position < sender.una || position >= sender.nxt) return false;
    this.terms.pathMtu = mtu;
    sender.narrow(this.terms.mss);
    this.changed();
    return true;
  }

  /** Its packets go another way from now on. */
  changePath(now: number): void {
    this.sender?.changePath(now);
    this.changed();
  }
}
