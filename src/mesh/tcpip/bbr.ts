import { type AckReport, type Congestion, INITIAL_SEGMENTS, LARGEST_WINDOW_BYTES } from "./congestion.ts";
import { WindowedMax } from "./windowed-max.ts";

type Phase = "startup" | "drain" | "probe-bandwidth" | "probe-rtt";

const STARTUP_GAIN = 2 / Math.LN2; // doubles each round
const GAIN = { startup: STARTUP_GAIN, drain: 1 / STARTUP_GAIN, "probe-rtt": 1 } as const;
const WINDOW_GAIN = 2;
/** One phase each round trip: ask for more, drain what that queued, then six rounds at what is known. */
const CYCLE: readonly number[] = [1.25, 0.75, 1, 1, 1, 1, 1, 1];
const PACING_MARGIN = 0.99; // keeps the queue of the bottleneck from growing by our own errors
const BANDWIDTH_ROUNDS = 10;
const FLAT_ROUNDS = 3;
const FLAT_GROWTH = 1.25;
const LEAST_RTT_MS = 10_000;
const PROBE_RTT_MS = 200;
const PROBE_RTT_GAIN = 0.5;
const LEAST_SEGMENTS = 4;
/** Timers come once a ms and late: a shorter path is paced by its acknowledgments, or it would stand idle. */
const LEAST_PACED_RTT_MS = 3;
const LARGEST_BURST_BYTES = 64 * 1024;
const MOST_AGGREGATED_MS = 100;
/**
 * Losses up to this share say more about the line than about its queue. The draft takes 2 %; tunnels over radio and
 * relays lose more than that by themselves.
 */
const EXCESS_LOSS = 0.05;
const EXCESS_LOSS_SEGMENTS = 6;
const EXCESS_BETA = 0.7;

/**
 * BBR (draft-ietf-ccwg-bbr): the window follows from the measured bandwidth and round-trip time, so that a line that
 * loses packets by itself is still used in full. Cycle and gains are those of its first version
 * (draft-cardwell-iccrg-bbr-congestion-control-00); the ceiling set by excessive loss and the gentle look at the
 * round-trip time are those of its third.
 */
export class Bbr implements Congestion {
  window: number;
  pace: number = Infinity;
  #mss: number;
  #phase: Phase = "startup";
  // The model.
  readonly #bandwidth: WindowedMax = new WindowedMax(BANDWIDTH_ROUNDS);
  #leastRtt = Infinity;
  #leastRttAt = 0;
  /** What left before it tells nothing of the path that there is now. */
  #pathSince = -Infinity;
  /** What may be under way without the losses becoming excessive. */
  #ceiling = Infinity;
  // Rounds.
  #round = 0;
  #roundEnd = 0;
  #isRoundStart = false;
  #roundDelivered = 0;
  #roundLost = 0;
  // Startup.
  #fullRate = 0;
  #flatRounds = 0;
  #isFilled = false;
  // Probing.
  #cycle = 0;
  #cycleAt = 0;
  #hasLostInCycle = false;
  #probeRttEnd = -1;
  #probeRttRound = 0;
  // What arrives in lumps: acknowledgments beyond what the bandwidth would have brought.
  readonly #aggregated: WindowedMax = new WindowedMax(BANDWIDTH_ROUNDS);
  #epochAt = -1;
  #epochDelivered = 0;
  /** Window before a timeout or the look at the round-trip time. */
  #prior = 0;

  constructor(mss: number) {
    this.#mss = mss;
    this.window = INITIAL_SEGMENTS * mss;
  }

  setMss(mss: number): void {
    this.window = Math.max(LEAST_SEGMENTS * mss, this.window);
    this.#mss = mss;
  }

  get #gain(): number {
    return this.#phase === "probe-bandwidth" ? CYCLE[this.#cycle]! : GAIN[this.#phase];
  }

  /** Bytes that keep a path of `gain` times the known one full. */
  #flightFor(gain: number): number {
    if (this.#leastRtt === Infinity || this.#bandwidth.value === 0) return INITIAL_SEGMENTS * this.#mss;
    // Room beside it for what both ends hold back while they make up a burst.
    return gain * this.#bandwidth.value * this.#leastRtt + 3 * this.#burst;
  }

  get #burst(): number {
    return Math.max(2 * this.#mss, Math.min(this.#bandwidth.value, LARGEST_BURST_BYTES)); // one ms of it
  }

  onAck(report: AckReport): void {
    if (report.rtt >= 0 && report.now - report.rtt < this.#pathSince) {
      report.rtt = -1;
      report.rate = -1;
    }
    this.#countRound(report);
    this.#measureBandwidth(report);
    this.#measureAggregation(report);
    this.#turnCycle(report);
    this.#watchFilling(report);
    this.#drain(report);
    this.#measureRtt(report);
    this.#setPace();
    this.#setWindow(report);
  }

  #countRound(report: AckReport): void {
    this.#roundDelivered += report.delivered;
    this.#roundLost += report.lost;
    if (report.lost > 0) this.#hasLostInCycle = true;
    this.#isRoundStart = report.totalBefore >= this.#roundEnd && report.delivered > 0;
    if (!this.#isRoundStart) return;
    this.#roundEnd = report.total;
    this.#round++;
    this.#moveCeiling(this.#roundLost, this.#roundDelivered);
    this.#roundLost = 0;
    this.#roundDelivered = 0;
  }

  #moveCeiling(lost: number, passed: number): void {
    if (lost >= EXCESS_LOSS_SEGMENTS * this.#mss && lost > EXCESS_LOSS * (lost + passed)) {
      this.#ceiling = Math.max(passed, EXCESS_BETA * Math.min(this.#ceiling, this.#flightFor(1)));
      this.#isFilled = true;
    } else if (this.#phase === "probe-bandwidth" && CYCLE[this.#cycle]! > 1) this.#ceiling *= CYCLE[this.#cycle]!;
  }

  #measureBandwidth(report: AckReport): void {
    const { rate, isRateLimited } = report;
    if (rate > 0 && (!isRateLimited || rate >= this.#bandwidth.value)) this.#bandwidth.add(rate, this.#round);
  }

  #measureAggregation(report: AckReport): void {
    const { now, delivered } = report;
    if (delivered === 0) return;
    const expected = this.#epochAt < 0 ? 0 : (now - this.#epochAt) * this.#bandwidth.value;
    if (this.#epochAt < 0 || this.#epochDelivered <= expected) {
      this.#epochAt = now;
      this.#epochDelivered = 0;
    }
    this.#epochDelivered += delivered;
    const extra = this.#epochDelivered - (now - this.#epochAt) * this.#bandwidth.value;
    this.#aggregated.add(Math.min(extra, this.window), this.#round);
  }

  #turnCycle(report: AckReport): void {
    if (this.#phase !== "probe-bandwidth") return;
    const gain = CYCLE[this.#cycle]!;
    const isLong = report.now - this.#cycleAt > this.#leastRtt;
    let isOver = isLong;
    if (gain > 1) {
      // Until the pipe was really asked for more, or said that it had no more.
      isOver = isLong && (this.#hasLostInCycle || report.inFlight >= this.#flightFor(gain));
    } else if (gain < 1) isOver = isLong || report.inFlight <= this.#flightFor(1);
    if (isOver) this.#enterCycle((this.#cycle + 1) % CYCLE.length, report.now);
  }

  #enterCycle(cycle: number, now: number): void {
    this.#phase = "probe-bandwidth";
    this.#cycle = cycle;
    this.#cycleAt = now;
    this.#hasLostInCycle = false;
  }

  #watchFilling(report: AckReport): void {
    if (this.#isFilled || !this.#isRoundStart || report.isRateLimited) return;
    if (this.#bandwidth.value >= this.#fullRate * FLAT_GROWTH) {
      this.#fullRate = this.#bandwidth.value;
      this.#flatRounds = 0;
    } else this.#isFilled = ++this.#flatRounds >= FLAT_ROUNDS;
  }

  #drain(report: AckReport): void {
    if (this.#phase === "startup" && this.#isFilled) this.#phase = "drain";
    // Connections start their cycles at different places; how much each has sent is as good as a draw.
    if (this.#phase === "drain" && report.inFlight <= this.#flightFor(1)) {
      this.#enterCycle(2 + (Math.floor(report.total / this.#mss) % (CYCLE.length - 2)), report.now);
    }
  }

  #measureRtt(report: AckReport): void {
    const { now, rtt } = report;
    const isOld = now > this.#leastRttAt + LEAST_RTT_MS;
    if (rtt >= 0 && (rtt <= this.#leastRtt || isOld)) {
      this.#leastRtt = Math.max(rtt, 0.01);
      this.#leastRttAt = now;
    }
    if (isOld && rtt >= 0 && this.#phase !== "probe-rtt" && this.#isFilled) {
      this.#phase = "probe-rtt";
      this.#prior = this.window;
      this.#probeRttEnd = -1;
    }
    if (this.#phase !== "probe-rtt") return;
    if (this.#probeRttEnd < 0) {
      if (report.inFlight > this.#probeWindow) return;
      this.#probeRttEnd = now + PROBE_RTT_MS;
      this.#probeRttRound = this.#round + 1;
    } else if (now >= this.#probeRttEnd && this.#round > this.#probeRttRound) {
      this.#leastRttAt = now;
      this.#restore();
      this.#enterCycle(2, now);
    }
  }

  get #probeWindow(): number {
    return Math.max(LEAST_SEGMENTS * this.#mss, PROBE_RTT_GAIN * this.#flightFor(1));
  }

  #setPace(): void {
    const bandwidth = this.#bandwidth.value;
    if (bandwidth === 0) return;
    if (this.#leastRtt < LEAST_PACED_RTT_MS) {
      this.pace = Infinity;
      return;
    }
    const pace = this.#gain * bandwidth * PACING_MARGIN;
    if (this.#isFilled || this.pace === Infinity || pace > this.pace) this.pace = pace;
  }

  #setWindow(report: AckReport): void {
    const least = LEAST_SEGMENTS * this.#mss;
    const gain = this.#phase === "startup" || this.#phase === "drain" ? STARTUP_GAIN : WINDOW_GAIN;
    const lumps = Math.min(this.#aggregated.value, this.#bandwidth.value * MOST_AGGREGATED_MS);
    const target = Math.min(this.#flightFor(gain) + lumps, LARGEST_WINDOW_BYTES);
    let window = Math.max(this.window - report.lost, least);
    if (this.#isFilled) window = Math.min(window + report.delivered, target);
    else if (window < target || report.total < INITIAL_SEGMENTS * this.#mss) window += report.delivered;
    if (this.#phase === "probe-rtt") window = Math.min(window, this.#probeWindow);
    else window = Math.min(window, this.#ceiling);
    this.window = Math.max(window, least);
  }

  onRecovery(): void {
    // The model knows what the path carries: what was lost is taken from the window in `onAck`, nothing else.
  }

  onSent(): void {}

  onRecovered(wasTimeout: boolean): void {
    if (wasTimeout) this.#restore();
  }

  #restore(): void {
    this.window = Math.max(this.window, this.#prior);
    this.#prior = 0;
  }

  /** Everything under way is gone: begin with one segment, and look anew at how much there is. */
  onTimeout(_inFlight: number, isFirst: boolean): void {
    if (isFirst) this.#prior = Math.max(this.window, this.#phase === "probe-rtt" ? this.#prior : 0);
    this.window = this.#mss;
    this.#fullRate = 0;
    this.#flatRounds = 0;
  }

  onTailLoss(): void {}

  undo(): void {
    this.#restore();
    this.#flatRounds = 0;
    this.#fullRate = 0;
  }

  onPath(now: number): void {
    this.#pathSince = now;
    this.#leastRtt = Infinity;
    this.#bandwidth.reset(0, this.#round);
    this.#aggregated.reset(0, this.#round);
    this.#epochAt = -1;
    this.#ceiling = Infinity;
    this.#phase = "startup";
    this.#isFilled = false;
    this.#fullRate = 0;
    this.#flatRounds = 0;
    this.#prior = 0;
    this.pace = Infinity;
    this.window = Math.min(this.window, INITIAL_SEGMENTS * this.#mss);
  }

  onIdle(): void {
    // What was known is kept; the pace lets it out evenly.
  }
}
