import { FLAG, type TcpSegment } from "../../wire/tcp.ts";
import { Cubic } from "./cubic.ts";
import { ByteRing } from "./ring.ts";
import { RttEstimator } from "./rtt.ts";
import { LOST, RETRANSMITTED, SACKED, Scoreboard } from "./scoreboard.ts";

export const LARGEST_BUFFER_BYTES: number = 8 * 1024 * 1024;
const FIRST_BUFFER_BYTES = 256 * 1024;
/** No progress for so long: the peer is gone (RFC 5482, and a bound on what a closed window can hold). */
export const USER_TIMEOUT_MS: number = 300_000;
const WORST_DELAYED_ACK_MS = 200; // RFC 8985 §7.2
const LARGEST_PERSIST_MS = 60_000;
const DUPLICATE_THRESHOLD = 3;

export interface SenderOutlet {
  /** Sends stream bytes [position, position + length) with `flags` besides ACK. */
  sendData(position: number, length: number, flags: number): void;
  /** A segment without data just before the window: the peer must answer it. */
  sendProbe(): void;
}

/**
 * The sending half of an established connection: what is in flight, what is lost, how much may be sent.
 * RFC 9293 §3.8, RFC 6298, RFC 6937, RFC 8985, RFC 9438; RFC 6582 where the peer has no SACK.
 * Positions count from the initial sequence number: SYN is 0, the first byte is 1. They never wrap.
 */
export class Sender {
  readonly ring: ByteRing = new ByteRing(1);
  readonly rtt: RttEstimator = new RttEstimator();
  readonly cubic: Cubic;
  readonly #board: Scoreboard = new Scoreboard();
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
  #delivered = 0; // since the last settle
  #advanced = 0;
  #prrDelivered = 0;
  #prrOut = 0;
  #recoveryFlight = 1;
  #undoBefore = -1; // send time of the first retransmission of this episode
  #lostHint = 0;
  #duplicates = 0;
  #isCwndLimited = false;
  #lastSentAt = 0;
  #progressAt = 0;
  // RACK
  #rackTime = -1;
  #rackEnd = 0;
  #rackRtt = 0;
  #furthest = 1; // RACK.fack
  #sawReordering = false;
  #reorderFactor = 1;
  #reorderPersist = 0;
  #dsackRoundEnd = 0;
  #sawDsack = false;
  // Tail loss probe
  #probeEnd = -1;
  #probeIsRetransmission = false;
  // Last SACK blocks, to skip what they covered.
  readonly #cacheStart: Float64Array = new Float64Array(4);
  readonly #cacheEnd: Float64Array = new Float64Array(4);
  #cacheNext = 0;

  #isStalled = false;

  #rtoAt = Infinity;
  #ptoAt = Infinity;
  #rackAt = Infinity;
  #persistAt = Infinity;
  #persistBackoff = 1;

  constructor(outlet: SenderOutlet, mss: number, hasSack: boolean, window: number, now: number) {
    this.#outlet = outlet;
    this.mss = mss;
    this.#hasSack = hasSack;
    this.cubic = new Cubic(mss);
    this.windowEnd = 1 + window;
    this.largestWindow = window;
    this.#lastSentAt = now;
    this.#progressAt = now;
  }

  /** Until the next settle, round-trip samples are not taken: they would measure our own delay. */
  noteStall(): void {
    this.#isStalled = this.rtt.smoothed >= 0;
  }

  get deadline(): number {
    const patience = this.hasOutstanding ? this.#progressAt + USER_TIMEOUT_MS : Infinity;
    return Math.min(this.#rtoAt, this.#ptoAt, this.#rackAt, this.#persistAt, patience);
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

  get isFinSent(): boolean {
    return this.nxt > this.written;
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
    this.cubic.setMss(mss);
    for (let i = this.#board.head; i < this.#board.tail; i++) {
      if (this.#board.end(i) - this.#board.start(i) > mss) this.#board.markLost(i);
    }
    this.#lostHint = this.#board.head;
  }

  /**
   * One acknowledgment whose number was found acceptable. `echoAge`: age of the echoed timestamp in ms, -1 for none.
   * `base` turns wire numbers of SACK blocks into positions.
   */
  acknowledge(ack: number, window: number, segment: TcpSegment, iss: number, echoAge: number, now: number): void {
    const board = this.#board;
    const sackedBefore = board.sackedBytes;
    let rttTime = -1;
    for (let i = 0; i < segment.sackCount; i++) {
      const una = (iss + this.una) >>> 0;
      const start = this.una + ((segment.sack[2 * i]! - una) | 0);
      const end = this.una + ((segment.sack[2 * i + 1]! - una) | 0);
      if (i === 0 && this.#isDuplicateReport(start, end, ack, segment, una)) {
        this.#sawDsack = true;
        continue;
      }
      if (end > this.nxt || start >= end || end <= ack) continue;
      rttTime = Math.max(rttTime, this.#sack(Math.max(start, ack), end, echoAge, now));
    }
    const windowEnd = ack + window;
    if (ack > this.una) {
      for (let i = board.head; i < board.tail && board.end(i) <= ack; i++) {
        if ((board.fate(i) & SACKED) === 0) rttTime = Math.max(rttTime, this.#rackDelivered(i, echoAge, now));
      }
      const advanced = ack - this.una;
      board.acknowledge(ack);
      this.una = ack;
      this.ring.discard(Math.min(ack, this.written));
      if (this.ring.capacity > 2 * LARGEST_BUFFER_BYTES && this.buffered === 0) this.ring.release();
      this.#advanced += advanced;
      this.#delivered += advanced + (board.sackedBytes - sackedBefore);
      this.#progressAt = now;
      this.#duplicates = this.#state === "recovery" ? Math.max(0, this.#duplicates - 1) : 0;
      if (rttTime < 0 && echoAge >= 0 && !this.#isStalled) this.rtt.sample(echoAge, now);
      this.#checkUndo(echoAge, now);
      this.windowEnd = windowEnd;
    } else {
      this.#delivered += board.sackedBytes - sackedBefore;
      const isDuplicate =
        segment.payloadLength === 0 && windowEnd === this.windowEnd && this.nxt > this.una && ack === this.una;
      if (!this.#hasSack && isDuplicate) this.#duplicates++;
      if (ack === this.una) this.windowEnd = windowEnd;
    }
    this.largestWindow = Math.max(this.largestWindow, window);
    if (rttTime >= 0 && !this.#isStalled) {
      this.rtt.sample(now - rttTime, now);
      this.cubic.onRtt(now - rttTime, this.una, this.nxt);
    }
    if (this.windowEnd > this.nxt) {
      this.#persistAt = Infinity;
      this.#persistBackoff = 1;
    }
  }

  /** RFC 2883 §4: the first block reports what arrived twice. */
  #isDuplicateReport(start: number, end: number, ack: number, segment: TcpSegment, una: number): boolean {
    if (end <= ack) return true;
    if (segment.sackCount < 2) return false;
    const nextStart = this.una + ((segment.sack[2]! - una) | 0);
    const nextEnd = this.una + ((segment.sack[3]! - una) | 0);
    return start >= nextStart && end <= nextEnd;
  }

  /** Returns the latest send time of an original that arrived, or -1. */
  #sack(start: number, end: number, echoAge: number, now: number): number {
    let from = start;
    for (let i = 0; i < 4; i++) {
      if (this.#cacheStart[i]! <= from && from < this.#cacheEnd[i]!) from = this.#cacheEnd[i]!;
    }
    if (from >= end) return -1;
    const board = this.#board;
    let latest = -1;
    let covered = from;
    for (let i = board.find(from); i < board.tail && board.end(i) <= end; i++) {
      if (board.start(i) < start) continue; // a part only: not safe to call it delivered
      covered = board.end(i);
      if ((board.fate(i) & SACKED) !== 0) continue;
      latest = Math.max(latest, this.#rackDelivered(i, echoAge, now));
      board.markSacked(i);
    }
    if (covered > start) {
      this.#cacheStart[this.#cacheNext] = start;
      this.#cacheEnd[this.#cacheNext] = covered;
      this.#cacheNext = (this.#cacheNext + 1) & 3;
    }
    return latest;
  }

  /** RFC 8985 §6.2 steps 1 to 3. Returns the send time when it was sent once only, -1 otherwise (Karn). */
  #rackDelivered(segment: number, echoAge: number, now: number): number {
    const board = this.#board;
    const time = board.time(segment);
    const end = board.end(segment);
    const isAgain = (board.fate(segment) & RETRANSMITTED) !== 0;
    if (isAgain) {
      if (echoAge >= 0 && now - echoAge < Math.floor(time)) return -1;
      if (now - time < this.rtt.least) return -1;
    } else if (end < this.#furthest) this.#sawReordering = true;
    this.#furthest = Math.max(this.#furthest, end);
    if (time > this.#rackTime || (time === this.#rackTime && end > this.#rackEnd)) {
      this.#rackTime = time;
      this.#rackEnd = end;
      this.#rackRtt = now - time;
    }
    return isAgain ? -1 : time;
  }

  /** RFC 3522: an echo older than our first retransmission acknowledges the original. */
  #checkUndo(echoAge: number, now: number): void {
    if (this.#undoBefore < 0 || echoAge < 0) return;
    const isSpurious = Math.floor(now) - echoAge < Math.floor(this.#undoBefore);
    this.#undoBefore = -1;
    if (!isSpurious || this.#state === "open") return;
    this.#board.clearLost();
    this.cubic.undo();
    this.rtt.resetBackoff();
    this.#state = "open";
  }

  /** After all acknowledgments of a batch: loss detection and the congestion window. */
  settle(now: number): void {
    const delivered = this.#delivered;
    const advanced = this.#advanced;
    this.#delivered = 0;
    this.#advanced = 0;
    this.#isStalled = false;
    if (this.#sawDsack) this.#onDsack();
    if (delivered > 0 || this.#duplicates > 0) this.#finishProbe();
    if (delivered > 0) this.#detectLosses(now);
    if (!this.#hasSack) this.#countDuplicates(advanced);
    if (this.#state !== "open" && this.una >= this.#recoveryEnd) this.#leaveRecovery();
    if (this.#state === "open" && this.#board.lostBytes > 0) this.#enterRecovery(now);
    else if (this.#state === "recovery" && delivered > 0) this.#reduceProportionally(delivered);
    else if (advanced > 0 && this.#isCwndLimited) {
      this.cubic.onAck(delivered, this.rtt.smoothed, now);
      this.#isCwndLimited = false;
    }
    const wanted = 2 * this.cubic.window;
    if (wanted > this.bufferLimit) this.bufferLimit = Math.min(wanted, LARGEST_BUFFER_BYTES);
    if (advanced > 0) this.#rtoAt = this.nxt > this.una ? now + this.rtt.rto : Infinity;
    if (this.nxt === this.una) this.#rackAt = Infinity;
    if (advanced > 0 || delivered > 0) this.#armProbe(now);
  }

  #onDsack(): void {
    this.#sawDsack = false;
    if (this.#probeEnd >= 0 && this.#probeIsRetransmission && this.una >= this.#probeEnd) this.#probeEnd = -1;
    if (this.una < this.#dsackRoundEnd) return; // once a round trip
    this.#dsackRoundEnd = this.nxt;
    this.#reorderFactor = Math.min(this.#reorderFactor + 1, 20);
    this.#reorderPersist = 16;
  }

  /** RFC 8985 §7.4. */
  #finishProbe(): void {
    if (this.#probeEnd < 0 || this.una < this.#probeEnd) return;
    const repaired = this.#probeIsRetransmission && this.una > this.#probeEnd && this.#state === "open";
    this.#probeEnd = -1;
    if (!repaired) return;
    this.cubic.onLoss(this.inFlight + this.mss);
    this.cubic.window = this.cubic.threshold;
  }

  /** RFC 8985 §6.2 steps 4 and 5. */
  #detectLosses(now: number): void {
    const board = this.#board;
    this.#rackAt = Infinity;
    if (this.#rackTime < 0 || !this.#hasSack) return;
    let window = 0;
    const isCertain = this.#state !== "open" || board.sackedBytes >= DUPLICATE_THRESHOLD * this.mss;
    if (this.#sawReordering || !isCertain) {
      window = Math.min((this.rtt.least / 4) * this.#reorderFactor, Math.max(this.rtt.smoothed, 1));
    }
    let wait = 0;
    for (let i = board.head; i < board.tail; i++) {
      const time = board.time(i);
      const fate = board.fate(i);
      if (time > this.#rackTime || (time === this.#rackTime && board.end(i) >= this.#rackEnd)) {
        if ((fate & RETRANSMITTED) === 0) break; // originals leave in order: all that follow are later still
        continue;
      }
      if ((fate & (SACKED | LOST)) !== 0) continue;
      const remaining = time + this.#rackRtt + window - now;
      if (remaining <= 0) {
        board.markLost(i);
        this.#lostHint = Math.min(this.#lostHint, i);
      } else wait = Math.max(wait, remaining);
    }
    if (wait > 0) this.#rackAt = now + wait;
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

  #enterRecovery(now: number): void {
    this.#state = "recovery";
    this.#recoveryEnd = this.nxt;
    this.#recoveryFlight = Math.max(1, this.nxt - this.una - this.#board.sackedBytes);
    this.#prrDelivered = 0;
    this.#prrOut = 0;
    this.#undoBefore = now;
    this.#ptoAt = Infinity;
    this.cubic.onLoss(this.inFlight + this.#board.lostBytes);
    this.cubic.window = this.inFlight + this.mss; // the first retransmission goes at once
  }

  /** RFC 6937 §3, with the slow-start reduction bound. */
  #reduceProportionally(delivered: number): void {
    const { cubic, mss } = this;
    const pipe = this.inFlight;
    this.#prrDelivered += delivered;
    let count: number;
    if (pipe > cubic.threshold) {
      count = Math.ceil((this.#prrDelivered * cubic.threshold) / this.#recoveryFlight) - this.#prrOut;
    } else {
      const limit = Math.max(this.#prrDelivered - this.#prrOut, delivered) + mss;
      count = Math.min(cubic.threshold - pipe, limit);
    }
    cubic.window = Math.max(pipe + Math.max(0, count), mss);
  }

  #leaveRecovery(): void {
    if (this.#state === "recovery") this.cubic.window = Math.max(this.cubic.threshold, 2 * this.mss);
    this.#state = "open";
    this.#undoBefore = -1;
    this.#duplicates = 0;
    if (this.#reorderPersist > 0 && --this.#reorderPersist === 0) this.#reorderFactor = 1;
  }

  /** Sends up to `quantum` segments. True: more may be sent at once. */
  transmit(now: number, quantum: number): boolean {
    const board = this.#board;
    if (this.nxt === this.una && now - this.#lastSentAt > this.rtt.rto) this.cubic.onIdle(now - this.#lastSentAt);
    let left = quantum;
    while (board.lostBytes > 0) {
      if (left-- === 0) return true;
      if (!this.#retransmitNext(now)) return false;
    }
    let isSending = false;
    while (this.#sendNew(now, false)) {
      isSending = true;
      if (--left <= 0) break;
    }
    if (isSending) this.#armProbe(now);
    else if (this.nxt === this.una && this.hasOutstanding && this.#persistAt === Infinity) {
      this.#persistAt = now + this.rtt.rto;
    }
    return isSending && left <= 0;
  }

  #retransmitNext(now: number): boolean {
    const board = this.#board;
    let segment = Math.max(this.#lostHint, board.head);
    while (segment < board.tail && (board.fate(segment) & LOST) === 0) segment++;
    this.#lostHint = segment;
    if (segment === board.tail) {
      this.#lostHint = board.head; // hint was past a segment that was lost again
      segment = board.head;
      while (segment < board.tail && (board.fate(segment) & LOST) === 0) segment++;
      if (segment === board.tail) return false;
    }
    const start = board.start(segment);
    if (Math.min(board.end(segment), this.written) - start > this.mss) board.split(segment, start + this.mss);
    const size = board.end(segment) - start;
    const inFlight = this.inFlight;
    if (inFlight > 0 && inFlight + size > this.cubic.window) return false;
    this.#resend(segment, now);
    return true;
  }

  #resend(segment: number, now: number): void {
    const board = this.#board;
    const start = board.start(segment);
    const end = board.end(segment);
    const length = Math.min(end, this.written) - start;
    board.markSent(segment, now);
    this.#prrOut += end - start;
    this.retransmissions++;
    if (this.#undoBefore < 0 && this.#state === "loss") this.#undoBefore = now;
    this.#outlet.sendData(start, Math.min(length, this.mss), (end > this.written ? FLAG.fin : 0) | FLAG.psh);
    this.#sent(now);
  }

  /** `isForced`: a short segment may go although the window would hold no full one. */
  #sendNew(now: number, isForced: boolean): boolean {
    if (this.#board.isFull) return false;
    const unsent = this.written - this.nxt;
    const room = Math.max(0, this.windowEnd - this.nxt);
    const length = Math.min(unsent, this.mss, room);
    const withFin = this.isFinQueued && this.nxt + length === this.written && this.nxt <= this.written;
    if (length <= 0 && !withFin) return false;
    const inFlight = this.inFlight;
    if (length < unsent && length < this.mss && length < this.largestWindow / 2) {
      if (!isForced) return false; // silly window: RFC 9293 §3.8.6.2.1
    }
    if (inFlight > 0 && inFlight + length > this.cubic.window) {
      this.#isCwndLimited = true;
      return false;
    }
    const isLast = length === unsent;
    const start = this.nxt;
    this.nxt += length + (withFin ? 1 : 0);
    this.#board.push(start, this.nxt, now);
    this.#prrOut += length;
    this.#outlet.sendData(start, length, (isLast ? FLAG.psh : 0) | (withFin ? FLAG.fin : 0));
    if (this.inFlight + this.mss > this.cubic.window) this.#isCwndLimited = true;
    this.#sent(now);
    return true;
  }

  #sent(now: number): void {
    this.#lastSentAt = now;
    this.#persistAt = Infinity;
    if (this.#rtoAt === Infinity) this.#rtoAt = now + this.rtt.rto;
  }

  /** RFC 8985 §7.2. */
  #armProbe(now: number): void {
    this.#ptoAt = Infinity;
    if (!this.#hasSack || this.#state !== "open" || this.nxt === this.una || this.#probeEnd >= 0) return;
    if (this.#board.lostBytes > 0 || this.#board.sackedBytes > 0 || this.rtt.smoothed < 0) return;
    let wait = 2 * this.rtt.smoothed;
    if (this.#board.tail - this.#board.head === 1) wait += WORST_DELAYED_ACK_MS;
    if (now + wait < this.#rtoAt) this.#ptoAt = now + Math.max(wait, 2);
  }

  /** Runs what is due. False: the peer has not answered for too long. */
  poll(now: number): boolean {
    if (this.hasOutstanding && now >= this.#progressAt + USER_TIMEOUT_MS) return false;
    if (now >= this.#rackAt) {
      this.#detectLosses(now);
      if (this.#state === "open" && this.#board.lostBytes > 0) this.#enterRecovery(now);
    }
    if (now >= this.#rtoAt) this.#timeOut(now);
    else if (now >= this.#ptoAt) this.#probeTail(now);
    if (now >= this.#persistAt) this.#persist(now);
    return true;
  }

  #timeOut(now: number): void {
    this.#ptoAt = Infinity;
    this.#probeEnd = -1;
    this.#rackAt = Infinity;
    if (this.nxt === this.una) {
      this.#rtoAt = Infinity;
      return;
    }
    const board = this.#board;
    const isFirst = this.#state !== "loss";
    const flight = this.inFlight + board.lostBytes;
    const isReneged = (board.fate(board.head) & SACKED) !== 0;
    if (isReneged) this.#forgetSacks();
    board.markAllLost(isReneged);
    this.#lostHint = board.head;
    this.#duplicates = 0;
    this.cubic.onTimeout(flight, isFirst);
    if (isFirst) this.#undoBefore = -1;
    this.#state = "loss";
    this.#recoveryEnd = this.nxt;
    this.rtt.backOff();
    this.#rtoAt = now + this.rtt.rto;
    this.#isCwndLimited = true;
    this.#retransmitNext(now);
  }

  #forgetSacks(): void {
    this.#cacheStart.fill(0);
    this.#cacheEnd.fill(0);
  }

  #probeTail(now: number): void {
    this.#ptoAt = Infinity;
    const board = this.#board;
    if (board.head === board.tail) return;
    this.#probeIsRetransmission = !this.#sendNew(now, true);
    if (this.#probeIsRetransmission) this.#resend(board.tail - 1, now);
    this.#probeEnd = this.nxt;
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
