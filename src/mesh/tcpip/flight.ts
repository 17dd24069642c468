import type { TcpSegment } from "../../wire/tcp.ts";
import type { AckReport } from "./congestion.ts";
import { DeliveryRate } from "./delivery-rate.ts";
import { LossDetector } from "./rack.ts";
import type { RttEstimator } from "./rtt.ts";
import { SackIntake } from "./sack-intake.ts";
import { LOST, RETRANSMITTED, SACKED, Scoreboard } from "./scoreboard.ts";

/**
 * What was sent and is not acknowledged, and what acknowledgments say about it. What they said in one turn is summed up
 * in `delivered` to `sawOriginal`, until `forgetTurn`.
 * Positions count from the initial sequence number: SYN is 0, the first byte is 1. They never wrap.
 */
export class Flight {
  readonly board: Scoreboard = new Scoreboard();
  readonly losses: LossDetector = new LossDetector();
  readonly rate: DeliveryRate = new DeliveryRate();
  #sacks: SackIntake | undefined;
  readonly #rtt: RttEstimator;
  readonly #hasSack: boolean;
  una: number = 1;
  nxt: number = 1;
  #lostHint = 0;

  /** Bytes that left the network: acknowledged, or reported by SACK. */
  delivered = 0;
  /** Bytes acknowledged. */
  advanced = 0;
  newlyLost = 0;
  /** When the newest segment that arrived and was sent once had left; -1: none. */
  newestAt = -1;
  /** Reports of what arrived twice. */
  duplicates = 0;
  /** Something arrived that was called lost and not sent again. */
  sawOriginal = false;
  /** When what was acknowledged last had been sent again; -1: it was not. */
  resentAt = -1;

  constructor(rtt: RttEstimator, hasSack: boolean) {
    this.#rtt = rtt;
    this.#hasSack = hasSack;
  }

  get isEmpty(): boolean {
    return this.nxt === this.una;
  }

  get bytes(): number {
    const { board } = this;
    return Math.max(0, this.nxt - this.una - board.sackedBytes - board.lostBytes);
  }

  /** Sends [nxt, end): it goes on the board. */
  push(end: number, now: number): void {
    const isAlone = this.isEmpty;
    const segment = this.board.push(this.nxt, end, now);
    this.nxt = end;
    this.rate.stamp(this.board, segment, isAlone, now);
  }

  resend(segment: number, now: number): void {
    this.board.markSent(segment, now);
    this.rate.stamp(this.board, segment, false, now);
  }

  /** `ack` lies in [una, nxt]. `iss` turns the numbers of SACK blocks into positions. */
  acknowledge(ack: number, segment: TcpSegment, iss: number, echoAge: number, now: number): void {
    const { board } = this;
    const sackedBefore = board.sackedBytes;
    if (segment.sackCount > 0 && this.#hasSack) this.#takeSacks(ack, segment, iss, echoAge, now);
    if (ack > this.una) {
      const isRepair = (board.fate(board.head) & (RETRANSMITTED | SACKED)) === RETRANSMITTED;
      this.resentAt = isRepair ? board.time(board.head) : -1;
      for (let i = board.head; i < board.tail && board.end(i) <= ack; i++) {
        if ((board.fate(i) & SACKED) === 0) this.#arrived(i, echoAge, now);
      }
      board.acknowledge(ack);
      this.advanced += ack - this.una;
      this.delivered += ack - this.una;
      this.una = ack;
    }
    this.delivered += board.sackedBytes - sackedBefore;
  }

  #takeSacks(ack: number, segment: TcpSegment, iss: number, echoAge: number, now: number): void {
    this.#sacks ??= new SackIntake();
    const from = this.una;
    const una = (iss + from) >>> 0;
    const arrived = (i: number) => this.#arrived(i, echoAge, now);
    for (let i = 0; i < segment.sackCount; i++) {
      const start = from + ((segment.sack[2 * i]! - una) | 0);
      const end = from + ((segment.sack[2 * i + 1]! - una) | 0);
      if (i === 0 && this.#sacks.isDuplicateReport(start, end, ack, segment, from, una)) this.duplicates++;
      else if (end <= this.nxt && start < end && end > ack) {
        this.#sacks.take(this.board, Math.max(start, ack), end, arrived);
      }
    }
  }

  #arrived(segment: number, echoAge: number, now: number): void {
    const { board } = this;
    if ((board.fate(segment) & (LOST | RETRANSMITTED)) === LOST) this.sawOriginal = true;
    const time = this.losses.delivered(board, segment, echoAge, this.#rtt, now);
    this.rate.take(board, segment, now);
    if (time > this.newestAt) this.newestAt = time;
  }

  /** What this turn tells of the path. */
  sumUp(report: AckReport): void {
    report.delivered = this.delivered;
    report.lost = this.newlyLost;
    report.rate = this.rate.rate(this.#rtt.least);
    report.isRateLimited = this.rate.isLimited;
    report.total = this.rate.delivered;
    report.totalBefore = this.rate.before;
  }

  forgetTurn(): void {
    this.delivered = this.advanced = this.newlyLost = this.duplicates = 0;
    this.newestAt = -1;
    this.sawOriginal = false;
    this.rate.reset();
  }

  detectLosses(mss: number, isRecovering: boolean, now: number): void {
    if (!this.#hasSack) return;
    const before = this.board.lostBytes;
    const first = this.losses.detect(this.board, this.#rtt, mss, isRecovering, now);
    if (first < 0) return;
    this.#lostHint = Math.min(this.#lostHint, first);
    this.newlyLost += this.board.lostBytes - before;
  }

  /** The first one is lost (RFC 6582). */
  loseHead(): void {
    this.board.markLost(this.board.head);
    this.#lostHint = this.board.head;
  }

  /** After a timeout all of it may be lost; what was reported, too, if the report was taken back (RFC 2018 §8). */
  loseAll(): void {
    const { board } = this;
    const isReneged = (board.fate(board.head) & SACKED) !== 0;
    if (isReneged) this.#sacks = undefined;
    board.markAllLost(isReneged);
    this.#lostHint = board.head;
    this.losses.deadline = Infinity;
  }

  /** What is longer than `mss` does not pass any more. */
  loseLong(mss: number): void {
    const { board } = this;
    for (let i = board.head; i < board.tail; i++) if (board.end(i) - board.start(i) > mss) board.markLost(i);
    this.#lostHint = board.head;
  }

  /** The losses were imagined; `patience` ms later it is looked for real ones again. */
  loseNothing(patience: number, now: number): void {
    this.board.clearLost();
    this.losses.deadline = now + patience;
  }

  /** What to send again first, cut to `mss` (all but the FIN, at `written`); -1: nothing. */
  nextLost(mss: number, written: number): number {
    const { board } = this;
    const segment = board.findLost(this.#lostHint);
    if (segment < 0) return -1;
    this.#lostHint = segment;
    const start = board.start(segment);
    if (Math.min(board.end(segment), written) - start > mss) board.split(segment, start + mss);
    return segment;
  }
}
