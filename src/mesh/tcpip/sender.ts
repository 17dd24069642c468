import { FLAG, type TcpSegment } from "../../wire/tcp.ts";
import { Bbr } from "./bbr.ts";
import { type Congestion, type CongestionControl, createAckReport } from "./congestion.ts";
import { Cubic } from "./cubic.ts";
import { Episode } from "./episode.ts";
import { Flight } from "./flight.ts";
import type { TcpMemory } from "./memory.ts";
import { Pacer } from "./pacer.ts";
import { PeerWindow } from "./peer-window.ts";
import { RttEstimator } from "./rtt.ts";
import { RETRANSMITTED } from "./scoreboard.ts";
import { SendBuffer } from "./send-buffer.ts";
import { TailProbe } from "./tail-probe.ts";

/** No progress for so long: the peer is gone (RFC 5482, and a bound on what a closed window can hold). */
export const USER_TIMEOUT_MS: number = 300_000;
const DUPLICATE_THRESHOLD = 3;

export interface SenderOutlet {
  readonly stalls: number;
  /** Sends stream bytes [position, position + length) with `flags` besides ACK. */
  sendData(position: number, length: number, flags: number, now: number): void;
  /** A segment without data just before the window: the peer must answer it. */
  sendProbe(now: number): void;
}

export interface SenderOptions {
  readonly mss: number;
  readonly hasSack: boolean;
  /** What the peer allowed with its SYN. */
  readonly window: number;
  readonly congestion: CongestionControl;
  readonly memory: TcpMemory;
}

const report = createAckReport();

/**
 * The sending half of an established connection: how much may be sent, what goes again, and when.
 * RFC 9293 §3.8, RFC 6298, RFC 8985; RFC 6582 where the peer has no SACK.
 */
export class Sender {
  readonly buffer: SendBuffer;
  readonly rtt: RttEstimator = new RttEstimator();
  readonly congestion: Congestion;
  readonly #flight: Flight;
  readonly #episode: Episode = new Episode();
  readonly #pacer: Pacer = new Pacer();
  readonly #probe: TailProbe = new TailProbe();
  readonly #peerWindow: PeerWindow;
  readonly #outlet: SenderOutlet;
  readonly #hasSack: boolean;
  mss: number;
  /** Segments sent more than once. */
  retransmissions: number = 0;

  #duplicates = 0; // acknowledgments that repeat the last one
  #stallsSeen: number;
  #isWindowLimited = false;
  #lastSentAt: number;
  #progressAt: number;
  #rtoAt = Infinity;

  constructor(outlet: SenderOutlet, { mss, hasSack, window, congestion, memory }: SenderOptions, now: number) {
    this.buffer = new SendBuffer(memory);
    this.#outlet = outlet;
    this.#stallsSeen = outlet.stalls;
    this.mss = mss;
    this.#hasSack = hasSack;
    this.#flight = new Flight(this.rtt, hasSack);
    this.congestion = congestion === "bbr" ? new Bbr(mss) : new Cubic(mss);
    this.#peerWindow = new PeerWindow(window);
    this.#lastSentAt = now;
    this.#progressAt = now;
  }

  get una(): number {
    return this.#flight.una;
  }

  get nxt(): number {
    return this.#flight.nxt;
  }

  get largestWindow(): number {
    return this.#peerWindow.largest;
  }

  /** Behind a stall, until the next settle, round-trip samples are not taken: they would measure our own delay. */
  get #isStalled(): boolean {
    return this.#outlet.stalls !== this.#stallsSeen && this.rtt.smoothed >= 0;
  }

  get deadline(): number {
    const patience = this.hasOutstanding ? this.#progressAt + USER_TIMEOUT_MS : Infinity;
    const repair = Math.min(this.#rtoAt, this.#probe.deadline, this.#flight.losses.deadline);
    return Math.min(repair, this.#pacer.deadline, this.#peerWindow.probeAt, patience);
  }

  get inFlight(): number {
    const guessed = this.#hasSack ? 0 : this.#duplicates * this.mss; // each repeated ACK tells of one that left
    return Math.max(0, this.#flight.bytes - guessed);
  }

  get buffered(): number {
    return Math.max(0, this.buffer.written - this.una);
  }

  get isFinAcknowledged(): boolean {
    return this.una > this.buffer.written;
  }

  get hasOutstanding(): boolean {
    return this.una < this.buffer.end;
  }

  write(view: Uint8Array, now: number): void {
    if (!this.hasOutstanding) this.#progressAt = now;
    this.buffer.write(view);
  }

  finish(now: number): void {
    if (!this.hasOutstanding) this.#progressAt = now;
    this.buffer.isFinQueued = true;
  }

  /** A narrower path (RFC 8201): what is in flight and too long goes again. */
  narrow(mss: number): void {
    if (mss >= this.mss) return;
    this.mss = mss;
    this.congestion.setMss(mss);
    this.#flight.loseLong(mss);
  }

  changePath(now: number): void {
    this.rtt.changePath(now);
    this.congestion.onPath(now);
  }

  /** Gives memory back while nothing is under way. */
  relax(): void {
    if (this.hasOutstanding) return;
    this.buffer.ring.release();
    this.#flight.board.release();
  }

  // ——— acknowledgments ———

  /**
   * One acknowledgment whose number was found acceptable, with a segment that began at `position` of the peer's stream.
   * `echoAge`: age of the echoed timestamp in ms, -1 for none.
   */
  acknowledge(
    ack: number,
    window: number,
    segment: TcpSegment,
    position: number,
    iss: number,
    echoAge: number,
    now: number,
  ): void {
    const flight = this.#flight;
    const isDuplicate = ack === this.una && ack + window === this.#peerWindow.end && segment.payloadLength === 0;
    const hasAdvanced = ack > this.una;
    flight.acknowledge(ack, segment, iss, echoAge, now);
    if (hasAdvanced) {
      this.buffer.discard(ack);
      this.#progressAt = now;
      this.#duplicates = this.#episode.state === "recovery" ? Math.max(0, this.#duplicates - 1) : 0;
      if (flight.newestAt < 0 && echoAge >= 0 && !this.#isStalled) this.rtt.sample(echoAge, now);
      if (flight.sawOriginal) this.#episode.noteOriginal();
      if (this.#episode.isImagined(flight.resentAt, echoAge, now)) this.#undo(now);
    } else if (isDuplicate && !this.#hasSack && !flight.isEmpty) this.#duplicates++;
    this.#peerWindow.take(ack, window, position, hasAdvanced, this.nxt);
  }

  #undo(now: number): void {
    if (this.#episode.isOpen) return;
    this.#episode.end();
    this.#flight.loseNothing(this.rtt.smoothed, now);
    this.congestion.undo();
    this.rtt.resetBackoff();
  }

  /** After all acknowledgments of a turn: what is lost, and how much may be under way now. */
  settle(now: number): void {
    const flight = this.#flight;
    const { delivered, advanced } = flight;
    if (flight.duplicates > 0) this.#onArrivedTwice(now);
    if (this.#probe.isOut && (delivered > 0 || this.#duplicates > 0)) {
      if (this.#probe.finish(this.una) && this.#episode.isOpen) this.congestion.onTailLoss(this.inFlight + this.mss);
    }
    const rtt = flight.newestAt >= 0 && !this.#isStalled ? now - flight.newestAt : -1;
    if (rtt >= 0) this.rtt.sample(rtt, now);
    if (delivered > 0) flight.detectLosses(this.mss, !this.#episode.isOpen, now);
    if (!this.#hasSack) this.#countDuplicates(advanced);
    if (this.#episode.isOver(this.una)) this.#leaveRecovery();
    this.#recoverIfLost();
    if (delivered > 0) this.#reportTo(rtt, now);
    flight.forgetTurn();
    this.#stallsSeen = this.#outlet.stalls;
    this.buffer.widen(this.congestion.window);
    if (advanced > 0) this.#rtoAt = flight.isEmpty ? Infinity : now + this.rtt.rto;
    if (flight.isEmpty) flight.losses.deadline = Infinity;
    if (delivered > 0) this.#armProbe(now);
  }

  #reportTo(rtt: number, now: number): void {
    const flight = this.#flight;
    flight.sumUp(report);
    report.now = now;
    report.inFlight = this.inFlight;
    report.smoothedRtt = this.rtt.smoothed;
    report.rtt = rtt;
    report.isWindowLimited = this.#isWindowLimited && flight.advanced > 0;
    report.isRecovering = this.#episode.state === "recovery";
    this.congestion.onAck(report);
    if (report.isWindowLimited) this.#isWindowLimited = false;
  }

  #onArrivedTwice(now: number): void {
    const { duplicates, losses, board } = this.#flight;
    for (let i = 0; i < duplicates; i++) this.#episode.noteDuplicate();
    this.#probe.onDuplicate(this.una);
    losses.onDuplicate(this.una, this.nxt);
    if (this.#episode.wasAllDuplicate && board.lostBytes === 0) this.#undo(now);
  }

  /** Without SACK: the third duplicate, or a partial acknowledgment in recovery, tells of a loss (RFC 6582). */
  #countDuplicates(advanced: number): void {
    const { board, isEmpty } = this.#flight;
    if (isEmpty) return;
    const isThird = this.#episode.isOpen && this.#duplicates >= DUPLICATE_THRESHOLD;
    const isPartial = advanced > 0 && this.#episode.isPartial(this.una);
    if (isThird || (isPartial && (board.fate(board.head) & RETRANSMITTED) === 0)) this.#flight.loseHead();
  }

  #recoverIfLost(): void {
    const { lostBytes } = this.#flight.board;
    if (!this.#episode.isOpen || lostBytes === 0) return;
    this.#episode.begin("recovery", this.nxt);
    this.#probe.disarm();
    this.congestion.onRecovery(this.inFlight, this.inFlight + lostBytes);
  }

  #leaveRecovery(): void {
    this.congestion.onRecovered(this.#episode.state === "loss");
    this.#episode.end();
    this.#duplicates = 0;
    this.#flight.losses.onRecovered();
  }

  // ——— sending ———

  /** Sends up to `quantum` segments. True: more may be sent at once. */
  transmit(now: number, quantum: number): boolean {
    const flight = this.#flight;
    this.#pacer.deadline = Infinity;
    if (flight.isEmpty && now - this.#lastSentAt > this.rtt.rto) this.congestion.onIdle(now - this.#lastSentAt);
    let left = quantum;
    while (flight.board.lostBytes > 0) {
      if (left-- === 0) return true;
      if (!this.#retransmitNext(now, false)) return false;
    }
    let isSending = false;
    while (this.#sendNew(now, false)) {
      isSending = true;
      if (--left <= 0) break;
    }
    if (isSending) this.#armProbe(now);
    else if (flight.isEmpty && this.hasOutstanding && this.#pacer.deadline === Infinity) {
      this.#peerWindow.arm(this.rtt.rto, now);
    }
    return isSending && left <= 0;
  }

  /** False: the window, or the pace, holds `bytes` back. */
  #mayEmit(bytes: number, now: number): boolean {
    const { inFlight } = this;
    if (inFlight > 0 && inFlight + bytes > this.congestion.window) {
      this.#isWindowLimited = true;
      return false;
    }
    return this.#pacer.mayAt(now, this.congestion.pace, this.mss);
  }

  #retransmitNext(now: number, isForced: boolean): boolean {
    const segment = this.#flight.nextLost(this.mss, this.buffer.written);
    if (segment < 0) return false;
    const { board } = this.#flight;
    if (!isForced && !this.#mayEmit(board.end(segment) - board.start(segment), now)) return false;
    this.#resend(segment, now);
    return true;
  }

  #resend(segment: number, now: number): void {
    const { board } = this.#flight;
    const { written } = this.buffer;
    const start = board.start(segment);
    const end = board.end(segment);
    const length = Math.min(end, written) - start;
    this.#flight.resend(segment, now);
    this.#episode.noteResent(now);
    this.retransmissions++;
    this.#outlet.sendData(start, Math.min(length, this.mss), (end > written ? FLAG.fin : 0) | FLAG.psh, now);
    this.#sent(end - start, now);
  }

  /** `isForced`: neither the congestion window nor the pace counts, nor that a segment is short. */
  #sendNew(now: number, isForced: boolean): boolean {
    const flight = this.#flight;
    if (flight.board.isFull) return false;
    const { written, isFinQueued } = this.buffer;
    const start = flight.nxt;
    const unsent = written - start;
    const length = Math.min(unsent, this.mss, Math.max(0, this.#peerWindow.end - start));
    const withFin = isFinQueued && start + length === written && start <= written;
    if (length <= 0 && !withFin) {
      if (this.inFlight < this.congestion.window) flight.rate.starve(this.inFlight);
      return false;
    }
    if (!isForced) {
      // Silly window: RFC 9293 §3.8.6.2.1.
      if (length < unsent && length < this.mss && length < this.#peerWindow.largest / 2) return false;
      if (!this.#mayEmit(length, now)) return false;
    }
    flight.push(start + length + (withFin ? 1 : 0), now);
    this.#outlet.sendData(start, length, (length === unsent ? FLAG.psh : 0) | (withFin ? FLAG.fin : 0), now);
    if (this.inFlight + this.mss > this.congestion.window) this.#isWindowLimited = true;
    this.#sent(length, now);
    return true;
  }

  #sent(bytes: number, now: number): void {
    this.congestion.onSent(bytes);
    this.#pacer.sent(bytes, this.congestion.pace);
    this.#lastSentAt = now;
    this.#peerWindow.disarm();
    if (this.#rtoAt === Infinity) this.#rtoAt = now + this.rtt.rto;
  }

  #armProbe(now: number): void {
    this.#probe.disarm();
    const { board, isEmpty } = this.#flight;
    if (!this.#hasSack || !this.#episode.isOpen || isEmpty || this.#probe.isOut) return;
    if (board.lostBytes > 0 || board.sackedBytes > 0 || this.rtt.smoothed < 0) return;
    this.#probe.arm(this.rtt.smoothed, board.tail - board.head === 1, this.#rtoAt, now);
  }

  // ——— time ———

  /** Runs what is due. False: the peer has not answered for too long. */
  poll(now: number): boolean {
    if (this.hasOutstanding && now >= this.#progressAt + USER_TIMEOUT_MS) return false;
    if (now >= this.#flight.losses.deadline) {
      this.#flight.detectLosses(this.mss, !this.#episode.isOpen, now);
      this.#recoverIfLost();
    }
    if (now >= this.#rtoAt) this.#timeOut(now);
    else if (now >= this.#probe.deadline) this.#probeTail(now);
    if (now >= this.#peerWindow.probeAt) this.#probeWindow(now);
    return true;
  }

  #timeOut(now: number): void {
    this.#probe.reset();
    if (this.#flight.isEmpty) {
      this.#rtoAt = Infinity;
      return;
    }
    this.congestion.onTimeout(this.inFlight + this.#flight.board.lostBytes, this.#episode.state !== "loss");
    this.#flight.loseAll();
    this.#duplicates = 0;
    this.#episode.begin("loss", this.nxt);
    this.rtt.backOff();
    this.#rtoAt = now + this.rtt.rto;
    this.#isWindowLimited = true;
    this.#retransmitNext(now, true);
  }

  #probeTail(now: number): void {
    this.#probe.disarm();
    if (this.#flight.isEmpty) return;
    const isNew = this.#sendNew(now, true);
    if (!isNew) this.#resend(this.#flight.board.tail - 1, now);
    this.#probe.sent(this.nxt, !isNew);
    this.#rtoAt = now + this.rtt.rto;
  }

  #probeWindow(now: number): void {
    this.#peerWindow.disarm();
    if (!this.#flight.isEmpty || !this.hasOutstanding) return;
    if (this.#sendNew(now, true)) return;
    this.#outlet.sendProbe(now);
    this.#peerWindow.backOff(this.rtt.rto, now);
  }
}
