import { FLAG, type TcpSegment } from "../../wire/tcp.ts";
import type { Receiver } from "./receiver.ts";
import type { TcpState } from "./tcp-state.ts";
import type { Terms } from "./terms.ts";

/** What a segment is, before its acknowledgment and its data are looked at. */
export type Verdict =
  | "process"
  | "ignore"
  /** Wrong in a way that an attacker may have made: an acknowledgment, now and then (RFC 5961 §7). */
  | "challenge"
  /** Wrong in a way that an honest peer depends on an answer to: always an acknowledgment. */
  | "answer"
  /** What it brings is here already: an acknowledgment at once, with its report (RFC 2883). */
  | "duplicate"
  | "reset"
  | "repeated-syn"
  | "repeated-fin";

/** RFC 9293 §3.10.7.4 up to its fifth check, with RFC 5961 and RFC 7323. `position`: of the segment's first number. */
export function judge(
  state: TcpState,
  receiver: Receiver,
  terms: Terms,
  segment: TcpSegment,
  position: number,
  now: number,
): Verdict {
  const { flags, payloadLength } = segment;
  const isReset = (flags & FLAG.rst) !== 0;
  if (!isReset && terms.isOld(segment, now)) return payloadLength > 0 ? "answer" : "challenge";
  const isSyn = (flags & FLAG.syn) !== 0;
  const length = payloadLength + (flags & FLAG.fin) + (isSyn ? 1 : 0);
  if (!receiver.isAcceptable(position, length)) {
    if (isReset) return "ignore";
    if (state === "syn-received" && isSyn && position === 0) return "repeated-syn";
    if (state === "time-wait") return "repeated-fin";
    if (payloadLength > 0 && position + length <= receiver.next) return "duplicate";
    return length > 0 || position === receiver.next - 1 ? "answer" : "challenge";
  }
  if (isReset) return position === receiver.next ? "reset" : "challenge"; // RFC 5961 §3
  if (isSyn) return "challenge"; // RFC 5961 §4
  return (flags & FLAG.ack) !== 0 ? "process" : "ignore";
}

/** RFC 9293 §3.10.7.3. */
export function judgeInSynSent(terms: Terms, segment: TcpSegment): "ignore" | "refuse" | "refused" | "open" | "both" {
  const { flags } = segment;
  const isReset = (flags & FLAG.rst) !== 0;
  if ((flags & FLAG.ack) !== 0) {
    const isOurs = segment.acknowledgment === (terms.iss + 1) >>> 0;
    if (!isOurs) return isReset ? "ignore" : "refuse";
    if (isReset) return "refused";
    return (flags & FLAG.syn) !== 0 ? "open" : "ignore";
  }
  return !isReset && (flags & FLAG.syn) !== 0 ? "both" : "ignore";
}
