import type { Duplex } from "node:stream";
import { type AddressPort, formatAddressPort } from "../base/address.ts";
import type { Clock } from "../base/clock.ts";
import { Fault } from "../base/fault.ts";
import type { UdpIo } from "../base/packet.ts";
import type { PathTable } from "../base/path-table.ts";
import { type Random, seededRandom } from "../base/random.ts";
import { type Carry, MemoryStream } from "./memory-stream.ts";
import { MemoryUdp } from "./memory-udp.ts";
import { Nat, type NatKind } from "./nat.ts";

/** The way between one host and the middle of the internet; two hosts' ways add up. */
export interface Link {
  /** One way. @default 5 */
  delayMs: number;
  /** Up to so much more, anew for each datagram. @default 0 */
  jitterMs: number;
  /** Share of the datagrams that get lost, 0 to 1. Streams lose nothing. @default 0 */
  loss: number;
  /** No datagram passes. @default false */
  isUdpBlocked: boolean;
  /** Nothing passes: datagrams are lost, new streams time out, open ones stand still. @default false */
  isCut: boolean;
}

export interface HostOptions extends Partial<Link> {
  /** Behind an address translator of its own. @default none */
  readonly nat?: NatKind | "none" | undefined;
}

/** A program that answers datagrams at a fixed address. */
export type UdpAnswer = (datagram: Uint8Array, from: AddressPort, reply: (datagram: Uint8Array) => void) => void;

const MOST_UNDER_WAY = 65_536;
const MENDED_WITHIN_MS = 200;
const FIRST_UDP_PORT = 41_641;
const DEFAULT_LINK: Link = { delayMs: 5, jitterMs: 0, loss: 0, isUdpBlocked: false, isCut: false };

interface UnderWay {
  readonly at: number;
  readonly arrive: () => void;
}

/** An internet in memory: hosts with links of their own, translators, datagrams and streams. Time is the clock's. */
export class Internet {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #hosts: Map<string, Host> = new Map();
  readonly #nats: Map<string, Host> = new Map();
  readonly #services: Map<string, UdpAnswer> = new Map();
  readonly #listeners: Map<string, (stream: Duplex) => void> = new Map();
  readonly #touched: Set<MemoryUdp> = new Set();
  #underWay: UnderWay[] = [];
  #alarmAt = Infinity;
  #cancelAlarm: () => void = () => {};
  /** Grows with everything that is sent or arrives. */
  events = 0;
  /** Told of everything that is sent. */
  onSend: () => void = () => {};
  readonly counters: { datagrams: number; lost: number } = { datagrams: 0, lost: 0 };

  constructor(clock: Clock, seed = 1) {
    this.#clock = clock;
    this.#random = seededRandom(seed * 2_654_435_761);
  }

  /** Instant of the next arrival, `Infinity` when nothing is under way. */
  get nextArrival(): number {
    return this.#underWay[0]?.at ?? Infinity;
  }

  /** A new host: 192.0.2.n, or 10.0.n.2 behind the translator 203.0.113.n. */
  host(options: HostOptions = {}): Host {
    const number = this.#hosts.size + 1;
    if (number > 254) throw new Fault("TESTNET_FULL", "Cannot add a host: found 254 of them, wanted fewer");
    const { nat, ...link } = options;
    const host = new Host(this, { ...DEFAULT_LINK, ...link }, number, nat === "none" ? undefined : nat);
    this.#hosts.set(host.address, host);
    if (host.nat !== undefined) this.#nats.set(host.nat.address, host);
    return host;
  }

  /** Answers datagrams to `at`, until the result is called. */
  answerUdp(at: AddressPort, answer: UdpAnswer): () => void {
    this.#services.set(formatAddressPort(at), answer);
    return () => void this.#services.delete(formatAddressPort(at));
  }

  /** Accepts streams to `at`, until the result is called. */
  listen(at: AddressPort, accept: (stream: Duplex) => void): () => void {
    this.#listeners.set(formatAddressPort(at), accept);
    return () => void this.#listeners.delete(formatAddressPort(at));
  }

  /** A stream within one machine: no delay, no loss. */
  loopback(accept: (stream: Duplex) => void): MemoryStream {
    const carry: Carry = (arrive) => this.#later(0, arrive);
    const [near, far] = MemoryStream.pair(carry, carry, ["127.0.0.1", "127.0.0.1"]);
    accept(far);
    return near;
  }

  /** For `Host`. */
  connect(from: Host, to: AddressPort, signal: AbortSignal): Promise<Duplex> {
    const { promise, resolve, reject } = Promise.withResolvers<Duplex>();
    const where = formatAddressPort(to);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    if (signal.aborted) return Promise.reject(signal.reason);
    const [there, back] = [this.#wayOf(from), this.#wayOf(from)];
    there(() => {
      if (signal.aborted) return;
      const accept = this.#listeners.get(where);
      if (accept === undefined) {
        const fault = new Fault("TESTNET_REFUSED", `Cannot connect to "${where}": found nobody who listens there`);
        return back(() => reject(fault));
      }
      const [near, far] = MemoryStream.pair(there, back, [from.address, to.address]);
      from.track(near);
      far.on("error", () => far.destroy());
      accept(far);
      resolve(near);
    });
    return promise;
  }

  /** One direction of a stream: what comes later never overtakes. */
  #wayOf(host: Host): Carry {
    let last = 0;
    return (arrive) => {
      // What a cut link holds back arrives once it is mended, as TCP would send it again.
      const attempt = (): void => {
        if (host.link.isCut) this.#later(MENDED_WITHIN_MS, attempt);
        else arrive();
      };
      last = Math.max(last, this.#clock.now() + this.#delay(host));
      this.#later(last - this.#clock.now(), attempt);
    };
  }

  /** For `Host`. */
  sendUdp(from: Host, socket: AddressPort, to: AddressPort, datagram: Uint8Array): void {
    this.counters.datagrams++;
    if (this.#isLost(from)) return;
    const seen = from.nat?.out(socket, to) ?? socket;
    const answer = this.#services.get(formatAddressPort(to));
    if (answer !== undefined) {
      this.#later(this.#delay(from), () =>
        answer(datagram, seen, (reply) => {
          if (!this.#isLost(from)) this.#later(this.#delay(from), () => this.#arrive(to, seen, reply));
        }),
      );
      return;
    }
    const target = this.#nats.get(to.address) ?? this.#hosts.get(to.address);
    if (target === undefined || target === from || this.#isLost(target)) return;
    this.#later(this.#delay(from) + this.#delay(target), () => this.#arrive(seen, to, datagram));
  }

  #arrive(from: AddressPort, to: AddressPort, datagram: Uint8Array): void {
    const host = this.#nats.get(to.address) ?? this.#hosts.get(to.address);
    if (host === undefined) return;
    // An inside address says nothing outside, nor does a translator let it pass.
    if (host.nat !== undefined && to.address !== host.nat.address) return;
    const inside = host.nat === undefined ? to : host.nat.in(to.port, from);
    const socket = inside === undefined ? undefined : host.socketAt(inside.port);
    if (socket === undefined) return;
    socket.receive(datagram, from);
    this.#touched.add(socket);
  }

  #delay({ link }: Host): number {
    return link.delayMs + (link.jitterMs === 0 ? 0 : link.jitterMs * this.#chance());
  }

  #isLost({ link }: Host): boolean {
    const isFull = this.#underWay.length >= MOST_UNDER_WAY;
    const isLost = isFull || link.isCut || link.isUdpBlocked || (link.loss > 0 && this.#chance() < link.loss);
    if (isLost) this.counters.lost++;
    return isLost;
  }

  #chance(): number {
    const draw = this.#random(8);
    return ((draw[1]! << 16) | (draw[4]! << 8) | draw[6]!) / 2 ** 24;
  }

  #later(ms: number, arrive: () => void): void {
    this.events++;
    const at = this.#clock.now() + ms;
    const queue = this.#underWay;
    let low = 0;
    let high = queue.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (queue[middle]!.at <= at) low = middle + 1;
      else high = middle;
    }
    queue.splice(low, 0, { at, arrive });
    this.#rearm();
    this.onSend();
  }

  #rearm(): void {
    if (this.nextArrival === this.#alarmAt) return;
    this.#cancelAlarm();
    this.#alarmAt = this.nextArrival;
    if (this.#alarmAt < Infinity) this.#cancelAlarm = this.#clock.at(this.#alarmAt, () => this.#deliver());
  }

  #deliver(): void {
    this.#alarmAt = Infinity;
    const now = this.#clock.now();
    while (this.nextArrival <= now) {
      this.events++;
      this.#underWay.shift()!.arrive();
    }
    for (const socket of this.#touched) socket.deliver();
    this.#touched.clear();
    this.#rearm();
  }
}

/** A machine on the internet. */
export class Host {
  /** Of its interface; an inside one when there is a translator. */
  readonly address: string;
  readonly nat: Nat | undefined;
  /** May be changed at any time. */
  readonly link: Link;
  readonly #internet: Internet;
  readonly #sockets: Map<number, MemoryUdp> = new Map();
  readonly #streams: Set<Duplex> = new Set();
  #nextPort = FIRST_UDP_PORT;

  constructor(internet: Internet, link: Link, number: number, nat: NatKind | undefined) {
    this.#internet = internet;
    this.link = link;
    this.address = nat === undefined ? `192.0.2.${number}` : `10.0.${number}.2`;
    this.nat = nat === undefined ? undefined : new Nat(nat, `203.0.113.${number}`);
  }

  openUdp(table: PathTable, now: () => number): UdpIo {
    const port = this.#nextPort++;
    const socket = new MemoryUdp({
      port,
      table,
      now,
      send: (to, datagram) => this.#internet.sendUdp(this, { address: this.address, port }, to, datagram),
      onClose: () => void this.#sockets.delete(port),
    });
    this.#sockets.set(port, socket);
    return socket;
  }

  connect(to: AddressPort, signal: AbortSignal): Promise<Duplex> {
    return this.#internet.connect(this, to, signal);
  }

  /** Breaks every stream, as a change of network does. */
  breakStreams(): void {
    for (const stream of this.#streams) stream.destroy();
  }

  socketAt(port: number): MemoryUdp | undefined {
    return this.#sockets.get(port);
  }

  track(stream: Duplex): void {
    this.#streams.add(stream);
    stream.once("close", () => void this.#streams.delete(stream));
  }
}
