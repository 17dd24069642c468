import { LARGEST_BUFFER_BYTES, type TcpMemory } from "./memory.ts";
import { RangeList } from "./ranges.ts";
import { ByteRing } from "./ring.ts";

/** The most that an unscaled field can say. */
export const FIRST_WINDOW = 65_535;
const FIRST_CAPACITY_BYTES = 256 * 1024;
const LARGEST_VIEW_BYTES = 64 * 1024;
/** Covers the largest buffer: 65,535 << 8 is 16 MiB. RFC 7323 §2.3. */
export const OUR_WINDOW_SCALE = 8;
/** What a ring may keep that is empty and was not filled in the last round trip. */
const LARGEST_IDLE_BYTES = 1024 * 1024;
const DELAYED_ACK_MS = 25;
/** A turn of the loop: whoever waits for the other side to speak first must not wait for more. */
const FIRST_ACK_MS = 1;
const BLOCKS_BESIDE_TIMESTAMPS = 3;

const reported: number[] = [];

/**
 * The receiving half: reassembly, the window we promise, and when to acknowledge.
 * Positions count from the peer's initial sequence number: SYN is 0, the first byte is 1.
 */
export class Receiver {
  readonly #memory: TcpMemory;
  readonly #ring: ByteRing;
  /** Made when the first segment comes out of order. */
  #ranges: RangeList | undefined;
  /** Next position expected, FIN included. */
  next: number = 1;
  /** Next position to hand to the user. */
  delivered: number = 1;
  /** First position that we did not allow. It never moves back. */
  edge: number;
  credit: number = 0;
  /** Position of FIN, -1 while unknown. */
  finAt: number = -1;
  mustAck: boolean = false;
  ackAt: number = Infinity;
  /** Segments beyond the bounds. */
  dropped: number = 0;
  /** What one of the window field stands for. */
  readonly #unit: number;
  #capacity = FIRST_CAPACITY_BYTES;
  #unacknowledged = 0;
  #duplicateStart = 0;
  #duplicateEnd = 0;
  #tuneAt = 0;
  #tuneFrom = 0;
  /** Bytes stored, in order or not. */
  #received = 0;

  constructor(firstWindow: number, isScaled: boolean, memory: TcpMemory) {
    this.#memory = memory;
    this.#ring = new ByteRing(1, memory);
    this.edge = 1 + firstWindow;
    this.#unit = isScaled ? 1 << OUR_WINDOW_SCALE : 1;
  }

  get isFinished(): boolean {
    return this.finAt >= 0 && this.next > this.finAt;
  }

  /** End of what is stored. */
  get #used(): number {
    return Math.max(this.next, this.#ranges?.end ?? 0);
  }

  /** Bytes in order that the user has not taken. */
  get waiting(): number {
    return (this.isFinished ? this.finAt : this.next) - this.delivered;
  }

  /** RFC 9293 §3.10.7.4, the four cases of its table. */
  isAcceptable(position: number, length: number): boolean {
    const edge = Math.max(this.edge, this.next);
    if (length === 0) return position === this.next || (position >= this.next && position < edge);
    return (position < edge || position === this.next) && position + length > this.next;
  }

  /** Payload at `position`, already known to touch the window. */
  receive(position: number, slab: Uint8Array, offset: number, length: number, hasFin: boolean, mss: number): void {
    let start = position;
    let end = position + length;
    if (start < this.next) {
      if (length > 0 || hasFin) this.#noteDuplicate(start, Math.min(end, this.next));
      start = this.next;
      if (end + (hasFin ? 1 : 0) <= this.next) {
        this.mustAck = true;
        return;
      }
    }
    let fin = hasFin;
    if (end > this.edge) {
      end = this.edge;
      fin = false; // beyond the window: it will come again
      this.mustAck = true;
    }
    if (this.finAt >= 0 && end > this.finAt) end = this.finAt; // RFC 9293: nothing follows FIN
    if (fin && this.finAt < 0 && end >= (this.#ranges?.end ?? 0)) this.finAt = end;
    const size = end - start;
    if (size > 0) {
      if (!this.#memory.mayGrow(this.#ring.capacity, this.#ring.sizeFor(end))) {
        this.dropped++;
        this.mustAck = true;
        return;
      }
      if (start > this.next) {
        this.#ranges ??= new RangeList();
        if (this.#ranges.covers(start, end)) this.#noteDuplicate(start, end);
        else if (!this.#ranges.add(start, end)) {
          this.dropped++;
          this.mustAck = true;
          return;
        }
      }
      this.#received += size;
      this.#ring.put(start, slab, offset + (start - position), size, this.#used);
    }
    if (start > this.next) {
      this.mustAck = true; // a gap: tell at once
      return;
    }
    this.next = Math.max(this.next, end);
    if (this.#ranges !== undefined && this.#ranges.size > 0) {
      this.next = this.#ranges.advance(this.next);
      this.mustAck = true; // a gap filled: tell at once
    }
    if (this.finAt >= 0 && this.next === this.finAt) {
      this.next++;
      this.mustAck = true;
    }
    this.#unacknowledged += size;
    if (this.#unacknowledged >= 2 * mss) this.mustAck = true;
  }

  #noteDuplicate(start: number, end: number): void {
    this.#duplicateStart = start;
    this.#duplicateEnd = end;
    this.mustAck = true;
  }

  /** Data arrived that may wait for an answer to carry its acknowledgment. */
  get owesAck(): boolean {
    return this.#unacknowledged > 0;
  }

  delayAck(now: number): void {
    if (this.ackAt === Infinity) this.ackAt = now + DELAYED_ACK_MS;
  }

  /** Who dials mostly speaks at once, and his first words carry the acknowledgment of the handshake. */
  ackWithFirstData(now: number): void {
    this.ackAt = now + FIRST_ACK_MS;
  }

  /** The next piece for the user, within credit; empty when there is none. It must be taken before anything else. */
  take(): Uint8Array | undefined {
    const length = Math.min(this.waiting, this.credit, LARGEST_VIEW_BYTES);
    if (length <= 0) return undefined;
    const view = this.#ring.view(this.delivered, length);
    this.delivered += view.length;
    this.credit -= view.length;
    this.#ring.discard(this.delivered);
    return view;
  }

  /**
   * Grows the promise with what comes in a round trip (dynamic right-sizing), as long as the user keeps up. Four times of
   * it: the sender may double its pace, and behind a loss a whole round trip waits for its repair.
   */
  tune(rtt: number, now: number): void {
    if (now - this.#tuneAt < Math.max(rtt, 1)) return;
    const wanted = 4 * (this.#received - this.#tuneFrom);
    if (this.#memory.isScarce) this.#ring.fit(this.#used);
    else if (this.#ring.capacity > LARGEST_IDLE_BYTES && 2 * wanted < this.#ring.capacity) this.relax();
    if (this.#tuneAt > 0 && wanted > this.#capacity && this.waiting < this.#capacity / 4) {
      this.#capacity = Math.min(wanted, LARGEST_BUFFER_BYTES);
    }
    this.#tuneAt = now;
    this.#tuneFrom = this.#received;
  }

  /**
   * How far the window may reach now. What the user allows counts beside what we would hold for him, and where others hold
   * much, neither does.
   */
  get #wantedEdge(): number {
    const own = Math.max(this.#capacity, Math.min(this.credit, LARGEST_BUFFER_BYTES));
    const wanted = this.delivered + Math.min(own, this.#memory.share);
    return Math.min(wanted, this.next + 0xffff * this.#unit);
  }

  /** True when the window opened so far that the peer should hear of it without asking (RFC 9293 §3.8.6.2.2). */
  isUpdateDue(mss: number): boolean {
    if (this.isFinished) return false;
    const growth = this.#wantedEdge - this.edge;
    const capacity = Math.min(this.#capacity, this.#memory.share);
    if (growth < Math.min(mss, capacity / 2)) return false;
    const left = this.edge - this.next;
    return left < 2 * mss || (left < capacity / 8 && growth >= capacity / 4);
  }

  /** The window field of the segment being sent, which promises it. */
  promise(): number {
    const wanted = Math.max(this.edge, this.#wantedEdge);
    const unit = this.#unit;
    let field = Math.min(0xffff, Math.floor((wanted - this.next) / unit));
    if (field < 0) field = 0;
    if (this.next + field * unit < this.edge) field = Math.min(0xffff, Math.ceil((this.edge - this.next) / unit));
    this.edge = Math.max(this.edge, this.next + field * unit);
    return field;
  }

  /** An acknowledgment left. */
  acknowledged(): void {
    this.mustAck = false;
    this.ackAt = Infinity;
    this.#unacknowledged = 0;
  }

  /** SACK blocks for the next segment, the report of a duplicate first (RFC 2883). Returns the count. */
  reportRanges(into: Uint32Array, irs: number, most: number): number {
    let count = 0;
    if (this.#duplicateEnd > this.#duplicateStart) {
      into[0] = irs + this.#duplicateStart;
      into[1] = irs + this.#duplicateEnd;
      this.#duplicateEnd = this.#duplicateStart;
      count = 1;
    }
    if (this.#ranges === undefined || this.#ranges.size === 0) return count;
    const found = this.#ranges.report(reported, most - count);
    for (let i = 0; i < 2 * found; i++) into[2 * count + i] = irs + reported[i]!;
    return count + found;
  }

  /** One more and the next report could not tell it all: RFC 2018 §4 wants each gap told as it appears. */
  get isReportFull(): boolean {
    return this.#ranges !== undefined && this.#ranges.fresh >= BLOCKS_BESIDE_TIMESTAMPS;
  }

  get hasReport(): boolean {
    return (this.#ranges !== undefined && this.#ranges.size > 0) || this.#duplicateEnd > this.#duplicateStart;
  }

  /** Gives memory back; the rest of the stream does not matter any more. */
  release(): void {
    this.delivered += this.waiting;
    this.#ring.release();
  }

  /** Gives memory back when nothing is held. */
  relax(): void {
    if (this.waiting > 0 || (this.#ranges !== undefined && this.#ranges.size > 0)) return;
    this.#ring.release();
    this.#ranges = undefined;
  }
}
