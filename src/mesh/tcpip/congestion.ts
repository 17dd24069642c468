export type CongestionControl = "bbr" | "cubic";

/** What the acknowledgments of one turn told. Reused for the next: nothing may keep it. */
export interface AckReport {
  now: number;
  /** Bytes that left the network since the last report: acknowledged or reported by SACK. */
  delivered: number;
  /** Bytes found lost since the last report. */
  lost: number;
  /** Bytes believed to be under way now. */
  inFlight: number;
  smoothedRtt: number;
  /** Round trip of the newest segment that arrived; -1: none that counts. */
  rtt: number;
  /** Bytes a ms over the flight of that segment; -1: not known. */
  rate: number;
  /** That flight was short of data, not of window. */
  isRateLimited: boolean;
  /** Bytes ever delivered, and the same count when the newest segment left: together they tell rounds apart. */
  total: number;
  totalBefore: number;
  /** The window was in full use. */
  isWindowLimited: boolean;
  isRecovering: boolean;
}

export function createAckReport(): AckReport {
  return {
    now: 0,
    delivered: 0,
    lost: 0,
    inFlight: 0,
    smoothedRtt: -1,
    rtt: -1,
    rate: -1,
    isRateLimited: false,
    total: 0,
    totalBefore: 0,
    isWindowLimited: false,
    isRecovering: false,
  };
}

/** How much may be under way, and how fast it may leave. Loss detection is the sender's matter. */
export interface Congestion {
  /** Bytes. */
  readonly window: number;
  /** Bytes a ms; `Infinity`: as acknowledgments come. */
  readonly pace: number;
  onAck(report: AckReport): void;
  /** The first loss of an episode. `flight`: what was sent and not acknowledged; `inFlight`: what of it is under way. */
  onRecovery(inFlight: number, flight: number): void;
  /** Bytes left during recovery: PRR counts them. */
  onSent(bytes: number): void;
  /** The episode is over; `wasTimeout`: it began with one, or came to one. */
  onRecovered(wasTimeout: boolean): void;
  /** The retransmission timer ran out. `isFirst`: not for the second time in one episode. */
  onTimeout(inFlight: number, isFirst: boolean): void;
  /** The only loss was the last segment, and a probe repaired it. */
  onTailLoss(inFlight: number): void;
  /** The losses of this episode were imagined (RFC 4015). */
  undo(): void;
  /** Nothing was sent for `gap` ms. */
  onIdle(gap: number): void;
  /** Packets go another way from now on: of what was measured nothing need hold there (RFC 9000 section 9.4). */
  onPath(now: number): void;
  setMss(mss: number): void;
}

export const INITIAL_SEGMENTS = 10; // RFC 6928
export const LARGEST_WINDOW_BYTES: number = 64 * 1024 * 1024;
