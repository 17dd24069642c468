import { FLAG, type TcpSegment } from "../../wire/tcp.ts";
import { Bbr } from "./bbr.ts";
import { type Congestion, type CongestionControl, createAckReport } from "./congestion.ts";
import { Cubic } from "./cubic.ts";
import { DeliveryRate } from "./delivery-rate.ts";
import { Pacer } from "./pacer.ts";
import { LossDetector } from "./rack.ts";
import { ByteRing } from "./ring.ts";
import { RttEstimator } from "./rtt.ts";
import { SackIntake } from "./sack-intake.ts";
import { LOST, RETRANSMITTED, SACKED, Scoreboard } from "./scoreboard.ts";
import { TailProbe } from "./tail-probe.ts";

export const LARGEST_BUFFER_BYTES: number = 8 * 1024 * 1024;
const FIRST_BUFFER_BYTES = 256 * 1024;
/** No progress for so long: the peer is gone (RFC 5482, and a bound on what a closed window can hold). */
export const USER_TIMEOUT_MS: number = 300_000;
const LARGEST_PERSIST_MS = 60_000;
const DUPLICATE_THRESHOLD = 3;

export interface SenderOutlet {
  /** Sends stream bytes [position, position + length) with `flags` besides ACK. */
  sendData(position: number, length: number, flags: number): void;
  /** A segment without data just before the window: the peer must answer it. */
  sendProbe(): void;
}

const report = createAckReport();

/**
 * The sending half of an established connection: what is in flight, what is lost, when what goes again.
 * RFC 9293 §3.8, RFC 6298, RFC 8985; RFC 6582 where the peer has no SACK.
 * Positions count from the initial sequence number: SYN is 0, the first byte is 1. They never wrap.
 */
export class Sender {
  readonly ring: ByteRing = new ByteRing(1);
  readonly rtt: RttEstimator = new RttEstimator();
  readonly congestion: Congestion;
  readonly #board: Scoreboard = new Scoreboard();
  readonly #losses: LossDetector = new LossDetector();
  readonly #rate: DeliveryRate = new DeliveryRate();
  readonly #pacer: Pacer = new Pacer();
  readonly #probe: TailProbe = new TailProbe();
  readonly #sacks: SackIntake = new SackIntake();
  readonly #outlet: SenderOutlet;
  readonly #hasSack: boolean;
  mss: number;
  una: number = 1;
  nxt: number = 1;
  /** End of what the user wrote. */
  written: number = 1;
  isFinQueued: boolean = false;
  windowEnd: number;
  largestWindow: number;
  /** How much the user may have in the buffer; grows with the congestion window. */
  bufferLimit: number = FIRST_BUFFER_BYTES;
  /** Segments sent more than once. */
  retransmissions: number = 0;

  #state: "open" | "recovery" | "loss" = "open";
  #recoveryEnd = 0;
  #lostHint = 0;
  #duplicates = 0;
  // Since the last settle.
  #delivered = 0;
  #advanced = 0;
  #newlyLost = 0;
  #rttTime = -1;
  #sawDsack = false;
  #isStalled = false;
  #isWindowLimited = false;
  // Undo: RFC 3522, RFC 3708, RFC 5682.
  #mayUndo = false;
  #firstResentAt = Infinity; // in this episode
  #resent = 0; // of this episode, less what was reported to have arrived twice
  #sawOriginal = false;

  #lastSentAt = 0;
  #progressAt = 0;
  #rtoAt = Infinity;
  #persistAt = Infinity;
  #persistBackoff = 1;

  constructor(
    outlet: SenderOutlet,
    options: {
      readonly mss: number;
      readonly hasSack: boolean;
      readonly window: number;
      readonly congestion: CongestionControl;
    },
    now: number,
  ) {
    this.#outlet = outlet;
    this.mss = options.mss;
    this.#hasSack = options.hasSack;
    this.congestion = options.congestion === "bbr" ? new Bbr(options.mss) : new Cubic(options.mss);
    this.windowEnd = 1 + options.window;
    this.largestWindow = options.window;
    this.#lastSentAt = now;
    this.#progressAt = now;
  }

  /** Until the next settle, round-trip samples are not taken: they would measure our own delay. */
  noteStall(): void {
    this.#isStalled = this.rtt.smoothed >= 0;
  }

  get deadline(): number {
    const patience = this.hasOutstanding ? this.#progressAt + USER_TIMEOUT_MS : Infinity;
    const repair = Math.min(this.#rtoAt, this.#probe.deadline, this.#losses.deadline);
    return Math.min(repair, this.#pacer.deadline, this.#persistAt, patience);
  }

  get inFlight(): number {
    const board = this.#board;
    const guessed = this.#hasSack ? 0 : Math.min(this.#duplicates * this.mss, this.nxt - this.una);
    return Math.max(0, this.nxt - this.una - board.sackedBytes - board.lostBytes - guessed);
  }

  get buffered(): number {
    return this.written - Math.min(this.una, this.written);
  }

  get isFinAcknowledged(): boolean {
    return this.isFinQueued && this.una > this.written;
  }

  get hasOutstanding(): boolean {
    return this.una < this.written + (this.isFinQueued ? 1 : 0);
  }

  write(view: Uint8Array, now: number): void {
    if (!this.hasOutstanding) this.#progressAt = now;
    this.ring.put(this.written, view, 0, view.length, this.written);
    this.written += view.length;
  }

  finish(now: number): void {
    if (!this.hasOutstanding) this.#progressAt = now;
    this.isFinQueued = true;
  }

  /** A narrower path (RFC 8201): what is in flight and too long goes again. */
  narrow(mss: number): void {
    if (mss >= this.mss) return;
    this.mss = mss;
    this.congestion.setMss(mss);
    for (let i = this.#board.head; i < this.#board.tail; i++) {
      if (this.#board.end(i) - this.#board.start(i) > mss) this.#board.markLost(i);
    }
    this.#lostHint = this.#board.head;
  }

  // ——— acknowledgments ———

  /**
   * One acknowledgment whose number was found acceptable. `echoAge`: age of the echoed timestamp in ms, -1 for none.
   * `iss` turns wire numbers of SACK blocks into positions.
   */
  acknowledge(ack: number, window: number, segment: TcpSegment, iss: number, echoAge: number, now: number): void {
    const board = this.#board;
    const sackedBefore = board.sackedBytes;
    if (segment.sackCount > 0 && this.#hasSack) this.#takeSacks(ack, segment, iss, echoAge, now);
    const windowEnd = ack + window;
    if (ack > this.una) {
      const isRepair = (board.fate(board.head) & (RETRANSMITTED | SACKED)) === RETRANSMITTED;
      const resentAt = isRepair ? board.time(board.head) : -1;
      for (let i = board.head; i < board.tail && board.end(i) <= ack; i++) {
        if ((board.fate(i) & SACKED) === 0) this.#arrived(i, echoAge, now);
      }
      const advanced = ack - this.una;
      board.acknowledge(ack);
      this.una = ack;
      this.ring.discard(Math.min(ack, this.written));
      if (this.ring.capacity > 2 * LARGEST_BUFFER_BYTES && this.buffered === 0) this.ring.release();
      this.#advanced += advanced;
      this.#delivered += advanced;
      this.#progressAt = now;
      this.#duplicates = this.#state === "recovery" ? Math.max(0, this.#duplicates - 1) : 0;
      if (this.#rttTime < 0 && echoAge >= 0 && !this.#isStalled) this.rtt.sample(echoAge, now);
      if (this.#mayUndo) this.#checkUndo(resentAt, echoAge, now);
      this.windowEnd = windowEnd;
    } else if (ack === this.una) {
      const isDuplicate = segment.payloadLength === 0 && windowEnd === this.windowEnd && this.nxt > this.una;
      if (!this.#hasSack && isDuplicate) this.#duplicates++;
      this.windowEnd = windowEnd;
    }
    this.#delivered += board.sackedBytes - sackedBefore;
    this.largestWindow = Math.max(this.largestWindow, window);
    if (this.windowEnd > this.nxt) {
      this.#persistAt = Infinity;
      this.#persistBackoff = 1;
    }
  }

  #takeSacks(ack: number, segment: TcpSegment, iss: number, echoAge: number, now: number): void {
    const from = this.una;
    const una = (iss + from) >>> 0;
    const arrived = (i: number) => this.#arrived(i, echoAge, now);
    for (let i = 0; i < segment.sackCount; i++) {
      const start = from + ((segment.sack[2 * i]! - una) | 0);
      const end = from + ((segment.sack[2 * i + 1]! - una) | 0);
      if (i === 0 && this.#sacks.isDuplicateReport(start, end, ack, segment, from, una)) {
        this.#sawDsack = true;
        this.#resent--;
        continue;
      }
      if (end > this.nxt || start >= end || end <= ack) continue;
      this.#sacks.take(this.#board, Math.max(start, ack), end, arrived);
    }
  }

  #arrived(segment: number, echoAge: number, now: number): void {
    const board = this.#board;
    if (this.#state === "loss" && (board.fate(segment) & (LOST | RETRANSMITTED)) === LOST) this.#sawOriginal = true;
    const time = this.#losses.delivered(board, segment, echoAge, this.rtt, now);
    this.#rate.take(board, segment, now);
    if (time > this.#rttTime) this.#rttTime = time;
  }

  /**
   * What was sent again at `resentAt` is acknowledged. An echo from before that tells of the original (RFC 3522); so does,
   * after a timeout, the arrival of what was not sent again yet (RFC 5682).
   */
  #checkUndo(resentAt: number, echoAge: number, now: number): void {
    let isSpurious = this.#sawOriginal && this.#resent <= 1;
    if (echoAge >= 0 && resentAt >= 0) {
      this.#mayUndo = false;
      isSpurious = Math.floor(now) - echoAge < Math.floor(Math.min(resentAt, this.#firstResentAt));
    }
    if (isSpurious) this.#undo(now);
  }

  #undo(now: number): void {
    this.#mayUndo = false;
    if (this.#state === "open") return;
    this.#board.clearLost();
    this.#losses.deadline = now + this.rtt.smoothed; // for what was lost all the same
    this.congestion.undo();
    this.rtt.resetBackoff();
    this.#state = "open";
  }

  #beginEpisode(state: "recovery" | "loss"): void {
    this.#state = state;
    this.#recoveryEnd = this.nxt;
    this.#mayUndo = true;
    this.#firstResentAt = Infinity;
    this.#resent = 0;
    this.#sawOriginal = false;
  }

  /** After all acknowledgments of a turn: what is lost, and how much may be under way now. */
  settle(now: number): void {
    const delivered = this.#delivered;
    const advanced = this.#advanced;
    if (this.#sawDsack) this.#onDuplicate(now);
    if (this.#probe.isOut && (delivered > 0 || this.#duplicates > 0)) {
      if (this.#probe.finish(this.una) && this.#state === "open") this.congestion.onTailLoss(this.inFlight + this.mss);
    }
    const rtt = this.#rttTime >= 0 && !this.#isStalled ? now - this.#rttTime : -1;
    if (rtt >= 0) this.rtt.sample(rtt, now);
    if (delivered > 0) this.#detectLosses(now);
    if (!this.#hasSack) this.#countDuplicates(advanced);
    if (this.#state !== "open" && this.una >= this.#recoveryEnd) this.#leaveRecovery();
    if (this.#state === "open" && this.#board.lostBytes > 0) this.#enterRecovery();
    if (delivered > 0) this.#reportTo(delivered, advanced, rtt, now);
    this.#delivered = this.#advanced = 0;
    this.#rttTime = -1;
    this.#isStalled = false;
    const wanted = 2 * this.congestion.window;
    if (wanted > this.bufferLimit) this.bufferLimit = Math.min(wanted, LARGEST_BUFFER_BYTES);
    if (advanced > 0) this.#rtoAt = this.nxt > this.una ? now + this.rtt.rto : Infinity;
    if (this.nxt === this.una) this.#losses.deadline = Infinity;
    if (advanced > 0 || delivered > 0) this.#armProbe(now);
  }

  #reportTo(delivered: number, advanced: number, rtt: number, now: number): void {
    report.now = now;
    report.delivered = delivered;
    report.lost = this.#newlyLost;
    report.inFlight = this.inFlight;
    report.smoothedRtt = this.rtt.smoothed;
    report.rtt = rtt;
    report.rate = this.#rate.rate(this.rtt.least);
    report.isRateLimited = this.#rate.isLimited;
    report.total = this.#rate.delivered;
    report.totalBefore = this.#rate.before;
    report.isWindowLimited = this.#isWindowLimited && advanced > 0;
    report.isRecovering = this.#state === "recovery";
    this.congestion.onAck(report);
    this.#rate.reset();
    this.#newlyLost = 0;
    if (report.isWindowLimited) this.#isWindowLimited = false;
  }

  #onDuplicate(now: number): void {
    this.#sawDsack = false;
    this.#probe.onDuplicate(this.una);
    this.#losses.onDuplicate(this.una, this.nxt);
    // RFC 3708: all that was sent again had arrived before.
    if (this.#state !== "open" && this.#resent === 0 && this.#board.lostBytes === 0) this.#undo(now);
  }

  #detectLosses(now: number): void {
    if (!this.#hasSack) return;
    const before = this.#board.lostBytes;
    const first = this.#losses.detect(this.#board, this.rtt, this.mss, this.#state !== "open", now);
    if (first < 0) return;
    this.#lostHint = Math.min(this.#lostHint, first);
    this.#newlyLost += this.#board.lostBytes - before;
  }

  /** Without SACK: the third duplicate, or a partial acknowledgment in recovery, tells of a loss (RFC 6582). */
  #countDuplicates(advanced: number): void {
    const board = this.#board;
    if (board.head === board.tail) return;
    const isThird = this.#state === "open" && this.#duplicates >= DUPLICATE_THRESHOLD;
    const isPartial = this.#state === "recovery" && advanced > 0 && this.una < this.#recoveryEnd;
    if (!isThird && !isPartial) return;
    if ((board.fate(board.head) & RETRANSMITTED) !== 0 && !isThird) return;
    board.markLost(board.head);
    this.#lostHint = board.head;
  }

  #enterRecovery(): void {
    this.#beginEpisode("recovery");
    this.#probe.disarm();
    this.congestion.onRecovery(this.inFlight, this.inFlight + this.#board.lostBytes);
  }

  #leaveRecovery(): void {
    this.congestion.onRecovered(this.#state === "loss");
    this.#state = "open";
    this.#mayUndo = false;
    this.#duplicates = 0;
    this.#losses.onRecovered();
  }

  // ——— sending ———

  /** Sends up to `quantum` segments. True: more may be sent at once. */
  transmit(now: number, quantum: number): boolean {
    const board = this.#board;
    this.#pacer.deadline = Infinity;
    if (this.nxt === this.una && now - this.#lastSentAt > this.rtt.rto) this.congestion.onIdle(now - this.#lastSentAt);
    let left = quantum;
    while (board.lostBytes > 0) {
      if (left-- === 0) return true;
      if (!this.#retransmitNext(now, false)) return false;
    }
    let isSending = false;
    while (this.#sendNew(now, false)) {
      isSending = true;
      if (--left <= 0) break;
    }
    if (isSending) this.#armProbe(now);
    else if (this.nxt === this.una && this.hasOutstanding && this.#persistAt === Infinity) {
      if (this.#pacer.deadline === Infinity) this.#persistAt = now + this.rtt.rto;
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
    const board = this.#board;
    const segment = board.findLost(this.#lostHint);
    if (segment < 0) return false;
    this.#lostHint = segment;
    const start = board.start(segment);
    if (Math.min(board.end(segment), this.written) - start > this.mss) board.split(segment, start + this.mss);
    if (!isForced && !this.#mayEmit(board.end(segment) - start, now)) return false;
    this.#resend(segment, now);
    return true;
  }

  #resend(segment: number, now: number): void {
    const board = this.#board;
    const start = board.start(segment);
    const end = board.end(segment);
    const length = Math.min(end, this.written) - start;
    board.markSent(segment, now);
    this.#rate.stamp(board, segment, false, now);
    this.retransmissions++;
    this.#resent++;
    this.#firstResentAt = Math.min(this.#firstResentAt, now);
    this.#outlet.sendData(start, Math.min(length, this.mss), (end > this.written ? FLAG.fin : 0) | FLAG.psh);
    this.#sent(end - start, now);
  }

  /** `isForced`: neither the congestion window nor the pace counts, nor that a segment is short. */
  #sendNew(now: number, isForced: boolean): boolean {
    const board = this.#board;
    if (board.isFull) return false;
    const unsent = this.written - this.nxt;
    const room = Math.max(0, this.windowEnd - this.nxt);
    const length = Math.min(unsent, this.mss, room);
    const withFin = this.isFinQueued && this.nxt + length === this.written && this.nxt <= this.written;
    if (length <= 0 && !withFin) {
      if (this.inFlight < this.congestion.window) this.#rate.starve(this.inFlight);
      return false;
    }
    if (length < unsent && length < this.mss && length < this.largestWindow / 2) {
      if (!isForced) return false; // silly window: RFC 9293 §3.8.6.2.1
    }
    if (!isForced && !this.#mayEmit(length, now)) return false;
    const isLast = length === unsent;
    const start = this.nxt;
    const isAlone = this.una === start;
    this.nxt += length + (withFin ? 1 : 0);
    this.#rate.stamp(board, board.push(start, this.nxt, now), isAlone, now);
    this.#outlet.sendData(start, length, (isLast ? FLAG.psh : 0) | (withFin ? FLAG.fin : 0));
    if (this.inFlight + this.mss > this.congestion.window) this.#isWindowLimited = true;
    this.#sent(length, now);
    return true;
  }

  #sent(bytes: number, now: number): void {
    this.congestion.onSent(bytes);
    this.#pacer.sent(bytes, this.congestion.pace);
    this.#lastSentAt = now;
    this.#persistAt = Infinity;
    if (this.#rtoAt === Infinity) this.#rtoAt = now + this.rtt.rto;
  }

  #armProbe(now: number): void {
    this.#probe.disarm();
    if (!this.#hasSack || this.#state !== "open" || this.nxt === this.una || this.#probe.isOut) return;
    const board = this.#board;
    if (board.lostBytes > 0 || board.sackedBytes > 0 || this.rtt.smoothed < 0) return;
    this.#probe.arm(this.rtt.smoothed, board.tail - board.head === 1, this.#rtoAt, now);
  }

  // ——— time ———

  /** Runs what is due. False: the peer has not answered for too long. */
  poll(now: number): boolean {
    if (this.hasOutstanding && now >= this.#progressAt + USER_TIMEOUT_MS) return false;
    if (now >= this.#losses.deadline) {
      this.#detectLosses(now);
      if (this.#state === "open" && this.#board.lostBytes > 0) this.#enterRecovery();
    }
    if (now >= this.#rtoAt) this.#timeOut(now);
    else if (now >= this.#probe.deadline) this.#probeTail(now);
    if (now >= this.#persistAt) this.#persist(now);
    return true;
  }

  #timeOut(now: number): void {
    this.#probe.reset();
    this.#losses.deadline = Infinity;
    if (this.nxt === this.una) {
      this.#rtoAt = Infinity;
      return;
    }
    const board = this.#board;
    const isFirst = this.#state !== "loss";
    const flight = this.inFlight + board.lostBytes;
    const isReneged = (board.fate(board.head) & SACKED) !== 0;
    if (isReneged) this.#sacks.forget();
    board.markAllLost(isReneged);
    this.#lostHint = board.head;
    this.#duplicates = 0;
    this.congestion.onTimeout(flight, isFirst);
    this.#beginEpisode("loss");
    this.rtt.backOff();
    this.#rtoAt = now + this.rtt.rto;
    this.#isWindowLimited = true;
    this.#retransmitNext(now, true);
  }

  #probeTail(now: number): void {
    const board = this.#board;
    this.#probe.disarm();
    if (board.head === board.tail) return;
    const isNew = this.#sendNew(now, true);
    if (!isNew) this.#resend(board.tail - 1, now);
    this.#probe.sent(this.nxt, !isNew);
    this.#rtoAt = now + this.rtt.rto;
  }

  /** RFC 9293 §3.8.6.1. */
  #persist(now: number): void {
    this.#persistAt = Infinity;
    if (this.nxt !== this.una || !this.hasOutstanding) return;
    if (this.#sendNew(now, true)) return;
    this.#outlet.sendProbe();
    this.#persistBackoff *= 2;
    this.#persistAt = now + Math.min(this.rtt.rto * this.#persistBackoff, LARGEST_PERSIST_MS);
  }
}
