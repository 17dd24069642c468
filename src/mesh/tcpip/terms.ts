import { ipHeaderLength } from "../../wire/ip.ts";
import { TCP, type TcpSegment, TIMESTAMPS_BYTES } from "../../wire/tcp.ts";

const LEAST_MSS = 48; // Linux' TCP_MIN_SND_MSS: CVE-2019-11479
const DEFAULT_MSS = { 4: 536, 16: 1220 } as const; // RFC 9293 §3.7.1
const PAWS_IDLE_MS = 24 * 24 * 3600 * 1000; // RFC 7323 §5.5

/** What both ends said in their SYNs, and the clock of the timestamps (RFC 7323). */
export class Terms {
  /** Our initial sequence number, and theirs. */
  readonly iss: number;
  irs: number = 0;
  hasTimestamps: boolean = true;
  hasSack: boolean = true;
  hasScale: boolean = true;
  /** Shift of the windows that we are told. */
  scale: number = 0;
  /** Theirs, to be echoed: TS.Recent. */
  recent: number = 0;
  #recentAt = 0;
  readonly #offset: number;
  readonly #headerBytes: number;
  #peerMss: number;
  pathMtu: number;

  constructor(local: Uint8Array, mtu: number, sequence: number, timestampOffset: number) {
    this.iss = sequence;
    this.#offset = timestampOffset;
    this.#headerBytes = ipHeaderLength(local) + TCP.end;
    this.#peerMss = DEFAULT_MSS[local.length === 4 ? 4 : 16];
    this.pathMtu = mtu;
  }

  takeSyn(segment: TcpSegment, now: number): void {
    this.irs = segment.sequence;
    if (segment.mss >= 0) this.#peerMss = segment.mss;
    this.hasScale = segment.windowScale >= 0;
    this.scale = Math.max(0, segment.windowScale);
    this.hasSack = segment.isSackPermitted;
    this.hasTimestamps = segment.hasTimestamps;
    if (segment.hasTimestamps) this.note(segment, now);
  }

  /** Bytes of data in a segment that fits the path and the peer, options counted. */
  get mss(): number {
    const most = Math.min(this.pathMtu - this.#headerBytes, this.#peerMss);
    return Math.max(LEAST_MSS, most - (this.hasTimestamps ? TIMESTAMPS_BYTES : 0));
  }

  clock(now: number): number {
    return (Math.floor(now) + this.#offset) >>> 0;
  }

  note(segment: TcpSegment, now: number): void {
    this.recent = segment.timestamp;
    this.#recentAt = now;
  }

  /** PAWS, RFC 7323 §5. */
  isOld(segment: TcpSegment, now: number): boolean {
    if (!this.hasTimestamps || !segment.hasTimestamps) return false;
    return ((segment.timestamp - this.recent) | 0) < 0 && now - this.#recentAt < PAWS_IDLE_MS;
  }

  /** Age of the echo in ms; -1: there is none, or it was never ours. */
  echoAge(segment: TcpSegment, now: number): number {
    if (!this.hasTimestamps || !segment.hasTimestamps) return -1;
    const age = (this.clock(now) - segment.timestampEcho) >>> 0;
    return age > 0x7fffffff ? -1 : age;
  }
}
