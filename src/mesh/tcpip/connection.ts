import type { AddressPort } from "../../base/address.ts";
import type { Conn, ConnSink, Proof } from "../../base/conn.ts";
import { Fault, messageOf } from "../../base/fault.ts";
import { sumPseudoHeader } from "../../wire/checksum.ts";
import { ipHeaderLength, PROTOCOL } from "../../wire/ip.ts";
import {
  FLAG,
  TCP,
  type TcpSegment,
  TIMESTAMPS_BYTES,
  writeMss,
  writeSack,
  writeSackPermitted,
  writeTcpHeader,
  writeTimestamps,
  writeWindowScale,
} from "../../wire/tcp.ts";
import type { CongestionControl } from "./congestion.ts";
import type { Timed } from "./deadline-heap.ts";
import { OUR_WINDOW_SCALE, Receiver } from "./receiver.ts";
import type { PacketWriter } from "./segment-writer.ts";
import { LARGEST_BUFFER_BYTES, Sender, type SenderOutlet } from "./sender.ts";

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
  readonly writer: PacketWriter;
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

export interface Keepalive {
  readonly idleMs: number;
  readonly intervalMs: number;
  readonly probes: number;
}

export interface ConnectionKey {
  readonly local: Uint8Array;
  readonly localPort: number;
  readonly remote: Uint8Array;
  readonly remotePort: number;
}

const SYN_TRIES = 6; // 1, 2, 4, … s, as gVisor
const SYN_ACK_TRIES = 5;
const HANDSHAKE_RTO_MS = 1000;
const FIRST_WINDOW = 65_535; // the most an unscaled field can say
const TIME_WAIT_MS = 60_000;
const CHALLENGE_MS = 500;
const LEAST_MSS = 48; // Linux' TCP_MIN_SND_MSS: CVE-2019-11479
const PAWS_IDLE_MS = 24 * 24 * 3600 * 1000; // RFC 7323 §5.5
const DEFAULT_MSS = { 4: 536, 16: 1220 } as const; // RFC 9293 §3.7.1

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
  readonly #pseudoSum: number;
  readonly #iss: number;
  #irs = 0;
  readonly #timestampOffset: number;
  #hasTimestamps = true;
  #hasSack = true;
  #hasScale = true;
  #sendScale = 0;
  #timestampRecent = 0;
  #timestampRecentAt = 0;
  #lastAckSent = 1;
  #peerMss: number;
  #pathMtu: number;
  #peerWindow = 0;
  // handshake
  #handshakeAt = Infinity;
  #tries = 0;
  #wait = HANDSHAKE_RTO_MS;
  #startedAt: number;
  // keepalive and closing
  #heardAt: number;
  #keepaliveAt = Infinity;
  #probesSent = 0;
  #endAt = Infinity;
  #challengedAt = -Infinity;
  #sawAck = false;
  #mustRespond = false;
  // user
  #sink: ConnSink | undefined;
  #earlyCredit = 0;
  #mustDrain = false;
  #endDelivered = false;
  #isEndQueued = false;
  #fault: Fault | undefined;
  #faultDelivered = false;

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
    this.#iss = numbers.sequence;
    this.#timestampOffset = numbers.timestampOffset;
    this.#pseudoSum = sumPseudoHeader(key.local, key.remote, PROTOCOL.tcp);
    this.#peerMss = DEFAULT_MSS[key.local.length === 4 ? 4 : 16];
    this.#pathMtu = host.writer.mtu;
    this.#startedAt = now;
    this.#heardAt = now;
  }

  get remote(): AddressPort {
    return this.proof.kind === "ingress" ? this.proof.visitor : this.proof.source;
  }

  /** Segment size that fits the path and the peer, options counted. */
  get #mss(): number {
    const path = this.#pathMtu - ipHeaderLength(this.key.local) - TCP.end;
    return Math.max(LEAST_MSS, Math.min(path, this.#peerMss) - (this.#hasTimestamps ? TIMESTAMPS_BYTES : 0));
  }

  // ——— opening ———

  /** Sends the first SYN. */
  connect(now: number): void {
    this.#sendSyn(now);
    this.#armHandshake(now);
  }

  /** Answers the SYN that made us. */
  answer(segment: TcpSegment, now: number): void {
    this.#takeSyn(segment, now);
    this.#sendSyn(now);
    this.#armHandshake(now);
  }

  #takeSyn(segment: TcpSegment, now: number): void {
    this.#irs = segment.sequence;
    if (segment.mss >= 0) this.#peerMss = segment.mss;
    this.#hasScale = segment.windowScale >= 0;
    this.#sendScale = Math.max(0, segment.windowScale);
    this.#hasSack = segment.isSackPermitted;
    this.#hasTimestamps = segment.hasTimestamps;
    if (segment.hasTimestamps) {
      this.#timestampRecent = segment.timestamp;
      this.#timestampRecentAt = now;
    }
    this.#peerWindow = segment.window;
    this.receiver = new Receiver(FIRST_WINDOW, this.#hasScale);
    this.receiver.credit = this.#earlyCredit;
  }

  #armHandshake(now: number): void {
    this.#handshakeAt = now + this.#wait;
    this.#wait *= 2;
    this.#refresh();
  }

  #sendSyn(now: number): void {
    const { bytes, mtu } = this.#host.writer;
    const start = ipHeaderLength(this.key.local);
    const isAnswer = this.state === "syn-received";
    let at = start + TCP.end;
    at = writeMss(bytes, at, mtu - start - TCP.end);
    if (this.#hasTimestamps) at = writeTimestamps(bytes, at, this.#clock(now), isAnswer ? this.#timestampRecent : 0);
    if (this.#hasSack) at = writeSackPermitted(bytes, at);
    if (this.#hasScale) at = writeWindowScale(bytes, at, OUR_WINDOW_SCALE);
    const acknowledgment = isAnswer ? (this.#irs + 1) >>> 0 : 0;
    const flags = FLAG.syn | (isAnswer ? FLAG.ack : 0);
    const length = at - start;
    const { localPort, remotePort } = this.key;
    writeTcpHeader(bytes, start, localPort, remotePort, this.#iss, acknowledgment, length, flags, FIRST_WINDOW);
    this.#seal(length, now);
    this.#tries++;
  }

  #establish(now: number): void {
    this.#handshakeAt = Infinity;
    this.state = "established";
    const window = this.#peerWindow;
    const { congestion } = this.#host;
    this.sender = new Sender(this, { mss: this.#mss, hasSack: this.#hasSack, window, congestion }, now);
    if (this.#tries === 1) this.sender.rtt.sample(now - this.#startedAt, now); // Karn
    this.#keepaliveAt = now + this.#host.keepalive.idleMs;
    this.#host.established(this);
    if (this.#isEndQueued && this.sender !== undefined) this.#finish(now);
  }

  // ——— input ———

  /** One segment of this connection. Delivery and answers wait for `service`. */
  input(segment: TcpSegment, slab: Uint8Array, now: number): void {
    switch (this.state) {
      case "closed":
        return;
      case "syn-sent":
        this.#inputSynSent(segment, now);
        break;
      default:
        this.#inputSynchronized(segment, slab, now);
    }
  }

  /** RFC 9293 §3.10.7.3. */
  #inputSynSent(segment: TcpSegment, now: number): void {
    const { flags } = segment;
    const hasAck = (flags & FLAG.ack) !== 0;
    const isOurs = hasAck && segment.acknowledgment === (this.#iss + 1) >>> 0;
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
    this.#heardAt = now;
    if (isOurs) {
      this.#mustRespond = true;
      this.#establish(now);
      this.#schedule();
      return;
    }
    this.state = "syn-received"; // both opened at once
    this.#sendSyn(now);
    this.#armHandshake(now);
  }

  /** RFC 9293 §3.10.7.4. */
  #inputSynchronized(segment: TcpSegment, slab: Uint8Array, now: number): void {
    const receiver = this.receiver;
    if (receiver === undefined) return;
    const { flags } = segment;
    const position = receiver.next + ((segment.sequence - ((this.#irs + receiver.next) >>> 0)) | 0);
    const length = segment.payloadLength + (flags & FLAG.fin) + ((flags & FLAG.syn) >> 1);
    const isReset = (flags & FLAG.rst) !== 0;

    if (this.#hasTimestamps && segment.hasTimestamps && !isReset && this.#isOld(segment, now)) {
      this.#challenge(now, segment.payloadLength > 0);
      return;
    }
    const edge = Math.max(receiver.edge, receiver.next);
    const isAcceptable =
      length === 0
        ? position === receiver.next || (position >= receiver.next && position < edge)
        : (position < edge || position === receiver.next) && position + length > receiver.next;
    if (!isAcceptable) {
      if (isReset) return;
      // RFC 5961 §4 for the SYN; an old duplicate of data is answered at once, for its SACK report.
      if (this.state === "syn-received" && (flags & FLAG.syn) !== 0 && position === 0) this.#sendSynAgain(now);
      else if (this.state === "time-wait") this.#restartTimeWait(now);
      else if (segment.payloadLength > 0 && position + length <= receiver.next) {
        receiver.receive(position, slab, segment.payload, segment.payloadLength, false, this.#mss);
        this.#acknowledge(segment, now);
        this.#schedule();
      } else this.#challenge(now, length > 0 || position === receiver.next - 1);
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
    if (segment.hasTimestamps && position <= this.#lastAckSent) {
      this.#timestampRecent = segment.timestamp;
      this.#timestampRecentAt = now;
    }
    this.#heardAt = now;
    this.#probesSent = 0;
    if (this.state === "syn-received") {
      if (segment.acknowledgment !== (this.#iss + 1) >>> 0) {
        this.#sendReset(segment.acknowledgment, now);
        return;
      }
      this.#peerWindow = segment.window << this.#sendScale;
      this.#establish(now);
    }
    if (!this.#acknowledge(segment, now)) return;
    this.#inputPayload(receiver, segment, slab, position, now);
    this.#schedule();
  }

  #inputPayload(receiver: Receiver, segment: TcpSegment, slab: Uint8Array, position: number, now: number): void {
    const hasFin = (segment.flags & FLAG.fin) !== 0;
    if (segment.payloadLength === 0 && !hasFin) return;
    if (receiver.isFinished) {
      receiver.mustAck = true;
      if (this.state === "time-wait") this.#restartTimeWait(now);
      return;
    }
    receiver.receive(position, slab, segment.payload, segment.payloadLength, hasFin, this.#mss);
    if (receiver.isReportFull && this.sender !== undefined) this.#sendEmpty(now, this.sender.nxt);
    if (!receiver.isFinished) return;
    switch (this.state) {
      case "established":
        this.state = "close-wait";
        break;
      case "fin-wait-1":
        this.state = "closing";
        break;
      case "fin-wait-2":
        this.#enterTimeWait(now);
        break;
    }
  }

  /** PAWS, RFC 7323 §5. */
  #isOld(segment: TcpSegment, now: number): boolean {
    if (((segment.timestamp - this.#timestampRecent) | 0) >= 0) return false;
    return now - this.#timestampRecentAt < PAWS_IDLE_MS;
  }

  /** False: the number is not acceptable, and the segment is dropped (RFC 5961 §5). */
  #acknowledge(segment: TcpSegment, now: number): boolean {
    const { sender } = this;
    if (sender === undefined) return true;
    const ack = sender.una + ((segment.acknowledgment - ((this.#iss + sender.una) >>> 0)) | 0);
    if (ack > sender.nxt || ack < sender.una - sender.largestWindow - 1) {
      this.#challenge(now, false);
      return false;
    }
    if (ack < sender.una) return true; // an old one: only its data counts
    const echoAge =
      this.#hasTimestamps && segment.hasTimestamps ? (this.#clock(now) - segment.timestampEcho) >>> 0 : -1;
    const window = segment.window << this.#sendScale;
    sender.acknowledge(ack, window, segment, this.#iss, echoAge > 0x7fffffff ? -1 : echoAge, now);
    this.#sawAck = true;
    if (!sender.isFinAcknowledged) return true;
    switch (this.state) {
      case "fin-wait-1":
        this.state = "fin-wait-2";
        break;
      case "closing":
        this.#enterTimeWait(now);
        break;
      case "last-ack":
        this.#die(undefined);
        break;
    }
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
    this.#sendSyn(now);
    this.#tries = Math.max(2, this.#tries - 1);
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
    this.#keepaliveAt = Infinity;
    this.sender?.ring.release();
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
    if (this.#hasTimestamps && segment.hasTimestamps) return ((segment.timestamp - this.#timestampRecent) | 0) > 0;
    return ((segment.sequence - ((this.#irs + (this.receiver?.next ?? 0)) >>> 0)) | 0) > 0;
  }

  // ——— delivery, sending, time ———

  /** Something for the user came up after his turn. */
  get hasDelivery(): boolean {
    const { receiver } = this;
    if (this.#sink === undefined) return false;
    if (this.#fault !== undefined) return !this.#faultDelivered;
    if (receiver === undefined) return false;
    return receiver.waiting > 0 ? receiver.credit > 0 : receiver.isFinished && !this.#endDelivered;
  }

  /** Hands to the user what he may have. */
  deliver(): void {
    const sink = this.#sink;
    if (sink === undefined) return;
    if (this.#fault !== undefined) {
      if (this.#faultDelivered) return;
      this.#faultDelivered = true;
      this.#tellAbort(sink, this.#fault);
      return;
    }
    const { receiver, sender } = this;
    if (receiver === undefined) return;
    try {
      for (let view = receiver.take(); view !== undefined; view = receiver.take()) {
        sink.data(view);
        if (this.#fault !== undefined) return;
      }
      if (receiver.isFinished && receiver.waiting === 0 && !this.#endDelivered) {
        this.#endDelivered = true;
        sink.end();
      }
      if (this.#mustDrain && sender !== undefined && sender.buffered <= sender.bufferLimit / 2) {
        this.#mustDrain = false;
        sink.drain();
      }
    } catch (thrown) {
      this.abort(new Fault("TCPIP_SINK_FAILED", `Cannot deliver to a user: ${messageOf(thrown)}`, { cause: thrown }));
    }
  }

  #tellAbort(sink: ConnSink, fault: Fault): void {
    try {
      sink.abort(fault);
    } catch {
      this.#host.userFailed(); // the connection is gone already
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
    if (receiver.mustAck || this.#mustRespond || receiver.isUpdateDue(this.#mss)) this.#sendEmpty(now, sender.nxt);
    else if (receiver.owesAck) receiver.delayAck(now);
    this.#refresh();
    return hasMore;
  }

  /** A deadline came. */
  poll(now: number): void {
    const { sender, receiver } = this;
    if (now >= this.#endAt) this.#die(undefined);
    else if (now >= this.#handshakeAt) this.#retryHandshake(now);
    else if (sender !== undefined && receiver !== undefined) this.#pollOpen(now, sender, receiver);
  }

  #pollOpen(now: number, sender: Sender, receiver: Receiver): void {
    if (now >= receiver.ackAt) receiver.mustAck = true;
    if (this.state !== "time-wait" && !sender.poll(now)) {
      this.#sendReset((this.#iss + sender.nxt) >>> 0, now);
      this.#die(this.#faultOf("TCPIP_TIMEOUT", "no progress for 300 s"));
      return;
    }
    if (now >= this.#keepaliveAt) this.#keepAlive(now, sender);
    this.#schedule();
  }

  #retryHandshake(now: number): void {
    if (this.#tries > (this.isDialed ? SYN_TRIES : SYN_ACK_TRIES)) {
      this.#die(this.#faultOf("TCPIP_TIMEOUT", "no answer"));
      return;
    }
    this.#sendSyn(now);
    this.#armHandshake(now);
  }

  /** RFC 9293 §3.8.4. */
  #keepAlive(now: number, sender: Sender): void {
    const { idleMs, intervalMs, probes } = this.#host.keepalive;
    const quiet = now - this.#heardAt;
    if (quiet < idleMs) this.#keepaliveAt = this.#heardAt + idleMs;
    else if (this.#probesSent >= probes) {
      this.#sendReset((this.#iss + sender.nxt) >>> 0, now);
      this.#die(this.#faultOf("TCPIP_TIMEOUT", `no answer to ${probes} keepalive probes`));
    } else {
      this.#probesSent++;
      this.#keepaliveAt = now + intervalMs;
      if (!sender.hasOutstanding) this.sendProbe();
    }
    if (sender.buffered === 0) sender.ring.release();
    this.receiver?.relax();
  }

  #refresh(): void {
    const { sender, receiver } = this;
    let deadline = Math.min(this.#handshakeAt, this.#endAt, this.#keepaliveAt);
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

  #clock(now: number): number {
    return (Math.floor(now) + this.#timestampOffset) >>> 0;
  }

  sendData(position: number, length: number, flags: number): void {
    this.#send(position, length, flags, this.#host.now());
  }

  sendProbe(): void {
    const { sender } = this;
    if (sender !== undefined) this.#send(sender.una - 1, 0, 0, this.#host.now());
  }

  #sendEmpty(now: number, position: number): void {
    this.#send(position, 0, 0, now);
  }

  #send(position: number, length: number, flags: number, now: number): void {
    const { sender, receiver } = this;
    if (sender === undefined || receiver === undefined) return;
    const { bytes } = this.#host.writer;
    const start = ipHeaderLength(this.key.local);
    let at = start + TCP.end;
    if (this.#hasTimestamps) at = writeTimestamps(bytes, at, this.#clock(now), this.#timestampRecent);
    if (length === 0 && this.#hasSack && receiver.hasReport) {
      const count = receiver.reportRanges(sackEdges, this.#irs, this.#hasTimestamps ? 3 : 4);
      if (count > 0) at = writeSack(bytes, at, sackEdges, count);
    }
    const headerLength = at - start;
    const window = receiver.promise();
    const acknowledgment = (this.#irs + receiver.next) >>> 0;
    const sequence = (this.#iss + position) >>> 0;
    const { localPort, remotePort } = this.key;
    const all = flags | FLAG.ack;
    writeTcpHeader(bytes, start, localPort, remotePort, sequence, acknowledgment, headerLength, all, window);
    if (length > 0) sender.ring.read(position, length, bytes, at);
    this.#lastAckSent = receiver.next;
    // A segment with data leaves SACK blocks out: while there is a gap, an empty one must still report it.
    if (length === 0 || !receiver.hasReport) {
      receiver.acknowledged();
      this.#mustRespond = false;
    }
    this.#seal(headerLength + length, now);
  }

  #sendReset(sequence: number, now: number): void {
    const { bytes } = this.#host.writer;
    const start = ipHeaderLength(this.key.local);
    const { receiver } = this;
    const acknowledgment = receiver === undefined ? 0 : (this.#irs + receiver.next) >>> 0;
    const flags = FLAG.rst | (receiver === undefined ? 0 : FLAG.ack);
    const { localPort, remotePort } = this.key;
    writeTcpHeader(bytes, start, localPort, remotePort, sequence, acknowledgment, TCP.end, flags, 0);
    this.#seal(TCP.end, now);
  }

  #seal(length: number, now: number): void {
    const { key } = this;
    this.#host.output(this.#host.writer.sealTcp(key.local, key.remote, this.#pseudoSum, length), this.peer, now);
  }

  // ——— the user's side ———

  attach(sink: ConnSink): void {
    this.#sink = sink;
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
    this.#mustDrain = sender.buffered >= sender.bufferLimit;
    return !this.#mustDrain;
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
    this.#faultDelivered = true; // whoever aborts knows
    this.#reset(fault);
  }

  /** Ends it from below: the user is told, the other side gets a reset. */
  cut(fault: Fault): void {
    if (this.state !== "closed") this.#reset(fault);
  }

  #reset(fault: Fault): void {
    const now = this.#host.now();
    // In TIME-WAIT and at the very end both sides have everything: nothing to reset.
    const isOver = this.state === "time-wait" || (this.sender?.isFinAcknowledged === true && this.receiver?.isFinished);
    if (isOver) {
      if (this.state !== "time-wait") this.#die(fault);
      return;
    }
    const sequence = (this.#iss + (this.sender?.nxt ?? 1)) >>> 0;
    if (this.state !== "syn-sent") this.#sendReset(sequence, now);
    this.#die(fault);
  }

  /** `undefined`: it ended as it should. */
  #die(fault: Fault | undefined): void {
    if (this.state === "closed") return;
    this.state = "closed";
    this.deadline = Infinity;
    if (fault === undefined) this.#faultDelivered = true;
    this.#fault = fault;
    if (fault !== undefined) {
      this.receiver?.release();
      this.sender?.ring.release();
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
    if (sender === undefined || mtu >= this.#pathMtu) return false;
    const position = sender.una + ((sequence - ((this.#iss + sender.una) >>> 0)) | 0);
    if (position < sender.una || position >= sender.nxt) return false;
    this.#pathMtu = mtu;
    sender.narrow(this.#mss);
    this.#schedule();
    return true;
  }

  #schedule(): void {
    this.#refresh();
    this.#host.schedule(this);
  }
}

const sackEdges = new Uint32Array(8);
