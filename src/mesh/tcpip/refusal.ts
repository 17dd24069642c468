import type { IpView } from "../../wire/ip.ts";
import { FLAG, type TcpSegment } from "../../wire/tcp.ts";
import type { StackCore } from "./stack-core.ts";
import { ConnectionKey, type TcpWriter } from "./tcp-writer.ts";

const RESETS_PER_SECOND = 1000;

/** Resets for segments of no connection (RFC 9293 §3.10.7.1), at most so many a second. */
export class Refusal {
  readonly #core: StackCore;
  readonly #tcp: TcpWriter;
  #second = -1;
  #count = 0;

  constructor(core: StackCore, tcp: TcpWriter) {
    this.#core = core;
    this.#tcp = tcp;
  }

  /** One that the sender of `segment` will believe. */
  send(segment: TcpSegment, slab: Uint8Array, ip: IpView, peer: number, now: number): void {
    const second = Math.floor(now / 1000);
    if (this.#second !== second) {
      this.#second = second;
      this.#count = 0;
    }
    if (this.#count++ >= RESETS_PER_SECOND) {
      this.#core.counters.rateLimited++;
      return;
    }
    const { flags } = segment;
    const hasAck = (flags & FLAG.ack) !== 0;
    const length = segment.payloadLength + ((flags & FLAG.syn) >> 1) + (flags & FLAG.fin);
    const local = slab.subarray(ip.destination, ip.destination + ip.addressLength);
    const remote = slab.subarray(ip.source, ip.source + ip.addressLength);
    const key = new ConnectionKey(local, segment.destinationPort, remote, segment.sourcePort);
    const sequence = hasAck ? segment.acknowledgment : 0;
    const acknowledgment = hasAck ? -1 : (segment.sequence + length) >>> 0;
    this.#core.output(this.#tcp.reset(key, sequence, acknowledgment), peer, now);
  }
}
