import type { TcpSegment } from "../../wire/tcp.ts";
import { SACKED, type Scoreboard } from "./scoreboard.ts";

const CACHED = 4; // as many blocks as one option holds

/** Reads SACK options into the scoreboard, and skips what the last ones had said already. */
export class SackIntake {
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];
  #next = 0;

  /** RFC 2883 §4: the first block reports what arrived twice. `una` is the number of the position `from`. */
  isDuplicateReport(start: number, end: number, ack: number, segment: TcpSegment, from: number, una: number): boolean {
    if (end <= ack) return true;
    if (segment.sackCount < 2) return false;
    const nextStart = from + ((segment.sack[2]! - una) | 0);
    const nextEnd = from + ((segment.sack[3]! - una) | 0);
    return start >= nextStart && end <= nextEnd;
  }

  /** Calls `arrived` for each segment within [start, end) that had not been reported, before it is marked. */
  take(board: Scoreboard, start: number, end: number, arrived: (segment: number) => void): void {
    let from = start;
    for (let i = 0; i < this.#starts.length; i++) {
      if (this.#starts[i]! <= from && from < this.#ends[i]!) from = this.#ends[i]!;
    }
    if (from >= end) return;
    let covered = from;
    for (let i = board.find(from); i < board.tail && board.end(i) <= end; i++) {
      if (board.start(i) < start) continue; // a part only: not safe to call it delivered
      covered = board.end(i);
      if ((board.fate(i) & SACKED) !== 0) continue;
      arrived(i);
      board.markSacked(i);
    }
    if (covered <= start) return;
    this.#starts[this.#next] = start;
    this.#ends[this.#next] = covered;
    this.#next = (this.#next + 1) % CACHED;
  }
}
