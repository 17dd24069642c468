import { type AddressBytes, type AddressPort, formatAddress, formatAddressPort } from "../../base/address.ts";
import { equalBytes } from "../../base/bytes.ts";
import type { Conn, Listener, Proof } from "../../base/conn.ts";
import { Fault, messageOf } from "../../base/fault.ts";
import { LinkedList } from "../../base/linked-list.ts";
import { createIpView, type IpView, PROTOCOL, read16, read32 } from "../../wire/ip.ts";
import { FLAG, TCP, type TcpSegment } from "../../wire/tcp.ts";
import type { CongestionControl } from "./congestion.ts";
import { type ConnectionHost, type TcpAccept, TcpConnection } from "./connection.ts";
import { ConnectionTable } from "./connection-table.ts";
import { DeadlineHeap } from "./deadline-heap.ts";
import { tellGone, tellOpened, waitForOpen } from "./dials.ts";
import { EphemeralPorts } from "./ephemeral-ports.ts";
import { HalfOpen } from "./half-open.ts";
import { InitialNumbers } from "./isn.ts";
import type { Keepalive } from "./keepalive.ts";
import type { TcpMemory } from "./memory.ts";
import { Refusal } from "./refusal.ts";
import type { StackCore } from "./stack-core.ts";
import { ConnectionKey, TcpWriter } from "./tcp-writer.ts";
import { Turns } from "./turns.ts";

export interface TcpServiceOptions {
  readonly keepalive: Keepalive;
  readonly congestion: CongestionControl;
  readonly memory: TcpMemory;
  readonly maxConnections: number;
  readonly proofOf: (peer: number, source: AddressPort, destination: AddressPort) => Proof;
  readonly onSyn: (destination: AddressPort, source: AddressPort, peer: number) => TcpAccept | undefined;
  readonly hasFallback: () => boolean;
}

/** May a peer open a connection from its address to this one of ours? */
export type Admission = (peer: number, source: AddressBytes, destination: AddressBytes, port: number) => boolean;

const MOST_TIME_WAIT = 4096;
const TUNNEL_UP_MS = 1000;
const QUANTUM_SEGMENTS = 64;
const MOST_SERVED = 512;

/** The connections of a stack: who gets a segment, who is served next. */
export class TcpService implements ConnectionHost {
  readonly tcp: TcpWriter;
  readonly keepalive: Keepalive;
  readonly congestion: CongestionControl;
  readonly memory: TcpMemory;
  stalls: number = 0;
  readonly #core: StackCore;
  readonly #options: TcpServiceOptions;
  readonly #table: ConnectionTable;
  readonly #numbers: InitialNumbers;
  readonly #timers: DeadlineHeap<TcpConnection> = new DeadlineHeap();
  readonly #listeners: Map<number, TcpAccept> = new Map();
  readonly #halfOpen: HalfOpen = new HalfOpen();
  readonly #refusal: Refusal;
  readonly #ports: EphemeralPorts;
  readonly #timeWait: LinkedList<TcpConnection> = new LinkedList();
  readonly #turns: Turns<TcpConnection> = new Turns();
  readonly #embedded: IpView = createIpView();

  constructor(core: StackCore, options: TcpServiceOptions) {
    this.#core = core;
    this.#options = options;
    this.tcp = new TcpWriter(core.writer);
    this.#refusal = new Refusal(core, this.tcp);
    this.keepalive = options.keepalive;
    this.congestion = options.congestion;
    this.memory = options.memory;
    this.#table = new ConnectionTable(core.random);
    this.#numbers = new InitialNumbers(core.random);
    this.#ports = new EphemeralPorts(core.random);
  }

  get size(): number {
    return this.#table.size;
  }

  get timeWait(): number {
    return this.#timeWait.size;
  }

  get deadline(): number {
    return this.#timers.next;
  }

  get isPending(): boolean {
    return !this.#turns.isEmpty;
  }

  now(): number {
    return this.#core.now();
  }

  output(packet: Uint8Array, peer: number, now: number): void {
    this.#core.output(packet, peer, now);
  }

  // ——— input ———

  input(segment: TcpSegment, slab: Uint8Array, ip: IpView, peer: number, now: number): void {
    const { source, destination, addressLength } = ip;
    const { sourcePort, destinationPort } = segment;
    const hash = this.#table.hash(slab, destination, source, addressLength, (destinationPort << 16) | sourcePort);
    const connection = this.#table.find(hash, slab, destination, destinationPort, source, sourcePort);
    if (connection !== undefined && connection.key.local.length === addressLength) {
      if (connection.seenPeer !== peer) {
        if (!connection.isDialed) {
          this.#core.counters.wrongPeer++;
          return;
        }
        connection.seenPeer = peer; // a route of ours moved: its allowed addresses were checked
      }
      const isSyn = (segment.flags & (FLAG.syn | FLAG.ack | FLAG.rst)) === FLAG.syn;
      if (!isSyn || !connection.mayBeReplacedBy(segment)) {
        connection.input(segment, slab, now);
        return;
      }
      this.#forget(connection);
    }
    if ((segment.flags & FLAG.rst) !== 0) return;
    if ((segment.flags & (FLAG.syn | FLAG.ack)) === FLAG.syn) this.#open(segment, slab, ip, peer, now);
    else if (this.#core.isOurs(slab, destination, addressLength)) {
      // To a listener, what opens nothing and acknowledges nothing is nothing (RFC 9293 §3.10.7.2).
      if ((segment.flags & FLAG.ack) === 0 && this.#listeners.has(destinationPort)) return;
      this.#refusal.send(segment, slab, ip, peer, now);
    } else this.#core.counters.notOurs++;
  }

  #open(segment: TcpSegment, slab: Uint8Array, ip: IpView, peer: number, now: number): void {
    const { counters } = this.#core;
    const isOurs = this.#core.isOurs(slab, ip.destination, ip.addressLength);
    const local = this.#core.ownAddress(slab, ip.destination, ip.addressLength) ?? copyOf(slab, ip.destination, ip);
    const remote = copyOf(slab, ip.source, ip);
    const { destinationPort: localPort, sourcePort: remotePort } = segment;
    const source = { address: formatAddress(remote), port: remotePort };
    const destination = { address: formatAddress(local), port: localPort };
    let accept = isOurs ? this.#listeners.get(localPort) : undefined;
    if (accept === undefined) {
      if (!isOurs && !this.#options.hasFallback()) {
        counters.notOurs++;
        return;
      }
      accept = this.#askFallback(destination, source, peer);
      if (accept === undefined) {
        this.#refusal.send(segment, slab, ip, peer, now);
        return;
      }
    }
    if (this.#halfOpen.isFull(localPort, peer)) {
      counters.backlogFull++; // silence: the peer will ask again
      return;
    }
    if (!this.#hasRoom()) {
      counters.tooManyConnections++;
      return;
    }
    const key = new ConnectionKey(local, localPort, remote, remotePort);
    const unproved: Proof = { kind: "public", source, destination }; // until it is accepted
    const numbers = this.#numbers.of(local, localPort, remote, remotePort, now);
    const connection = new TcpConnection(this, key, peer, false, unproved, numbers, now);
    this.#table.add(connection);
    this.#halfOpen.add(connection, accept);
    connection.answer(segment, now);
    this.#timers.update(connection);
  }

  #askFallback(destination: AddressPort, source: AddressPort, peer: number): TcpAccept | undefined {
    try {
      return this.#options.onSyn(destination, source, peer);
    } catch {
      this.#core.counters.userFailed++; // a reset is the safe answer
      return undefined;
    }
  }

  #hasRoom(): boolean {
    if (this.#table.size < this.#options.maxConnections) return true;
    const oldest = this.#timeWait.first;
    if (oldest === undefined) return false;
    this.#forget(oldest);
    return true;
  }

  /** A packet of ours, quoted at `offset`, was too long for the path. */
  narrowPath(slab: Uint8Array, offset: number, length: number, mtu: number, peer: number): void {
    const isIpv6 = slab[offset]! >> 4 === 6;
    const header = isIpv6 ? 40 : (slab[offset]! & 15) * 4;
    if (length < header + 8 || header < 20) return;
    const view = this.#embedded;
    view.addressLength = isIpv6 ? 16 : 4;
    const source = offset + (isIpv6 ? 8 : 12);
    const destination = source + view.addressLength;
    if (slab[offset + (isIpv6 ? 6 : 9)] !== PROTOCOL.tcp) return;
    const at = offset + header;
    const localPort = read16(slab, at);
    const remotePort = read16(slab, at + 2);
    const hash = this.#table.hash(slab, source, destination, view.addressLength, (localPort << 16) | remotePort);
    const connection = this.#table.find(hash, slab, source, localPort, destination, remotePort);
    if (connection === undefined || connection.seenPeer !== peer) return;
    connection.narrowPath(mtu, read32(slab, at + TCP.sequence));
  }

  // ——— users ———

  listen(port: number, accept: TcpAccept): Listener {
    if (this.#listeners.has(port)) {
      const message = `Cannot listen on TCP port "${port}": it is taken, wanted a free one`;
      throw new Fault("TCPIP_PORT_IN_USE", message);
    }
    this.#listeners.set(port, accept);
    return {
      port,
      close: () => {
        if (this.#listeners.get(port) === accept) this.#listeners.delete(port);
      },
    };
  }

  dial(remote: AddressBytes, remotePort: number, local: AddressBytes, signal: AbortSignal | undefined): Promise<Conn> {
    const source = { address: formatAddress(remote), port: remotePort };
    const text = formatAddressPort(source);
    const refusal = (code: string, found: string) =>
      Promise.reject(new Fault(code, `Cannot connect to "${text}": ${found}, wanted a free slot`));
    if (signal?.aborted === true) return refusal("TCPIP_ABORTED", "given up by the caller");
    const localPort = this.#ports.pick(
      (port) => !this.#listeners.has(port) && !this.#table.has(local, port, remote, remotePort),
    );
    if (localPort === undefined) return refusal("TCPIP_PORT_IN_USE", "no free source port");
    if (!this.#hasRoom()) return refusal("TCPIP_BUSY", "too many connections");
    const now = this.now();
    const key = new ConnectionKey(local, localPort, remote, remotePort);
    const proof: Proof = { kind: "public", source, destination: { address: formatAddress(local), port: localPort } };
    const numbers = this.#numbers.of(local, localPort, remote, remotePort, now);
    const connection = new TcpConnection(this, key, -1, true, proof, numbers, now);
    this.#table.add(connection);
    const opened = waitForOpen(connection, text, signal);
    connection.connect(now);
    this.#timers.update(connection);
    this.#core.wake();
    return opened;
  }

  // ——— what connections ask ———

  schedule(connection: TcpConnection): void {
    if (connection.heapIndex >= 0 || connection.state !== "closed") this.#timers.update(connection);
    if (connection.isScheduled) return;
    this.#turns.add(connection);
    this.#core.wake();
  }

  established(connection: TcpConnection): void {
    if (tellOpened(connection)) return;
    const accept = this.#halfOpen.take(connection);
    if (accept === undefined) return;
    const { source, destination } = connection.proof as Extract<Proof, { kind: "public" }>;
    try {
      connection.proof = this.#options.proofOf(connection.seenPeer, source, destination);
      accept(connection);
    } catch (thrown) {
      connection.cut(new Fault("TCPIP_ACCEPT_FAILED", `Cannot accept a connection: ${messageOf(thrown)}`));
    }
  }

  userFailed(): void {
    this.#core.counters.userFailed++;
  }

  enteredTimeWait(connection: TcpConnection): void {
    connection.restingPlace = this.#timeWait.add(connection);
    if (this.#timeWait.size <= MOST_TIME_WAIT) return;
    const oldest = this.#timeWait.first;
    if (oldest !== undefined) this.#forget(oldest);
  }

  removed(connection: TcpConnection, fault: Fault | undefined): void {
    this.#table.remove(connection);
    this.#timers.remove(connection);
    if (connection.restingPlace !== undefined) this.#timeWait.remove(connection.restingPlace);
    this.#halfOpen.take(connection);
    tellGone(connection, fault);
  }

  /** Drops one that is only waiting. */
  #forget(connection: TcpConnection): void {
    connection.expire();
  }

  // ——— turns ———

  /** Serves those who wait, until a bound on how long the loop may be held up: the rest is for the next poll. */
  flush(now: number): void {
    for (let served = 0; served < MOST_SERVED && !this.#turns.isEmpty; ) {
      const turn = this.#turns.next();
      served += turn.length;
      for (const connection of turn) connection.deliver();
      for (const connection of turn) {
        connection.isScheduled = false;
        if (connection.transmit(now, QUANTUM_SEGMENTS) || connection.hasDelivery) this.schedule(connection);
        else if (connection.state !== "closed") this.#timers.update(connection);
      }
    }
  }

  poll(now: number): void {
    for (let due = this.#timers.takeDue(now); due !== undefined; due = this.#timers.takeDue(now)) {
      due.poll(now);
      if (due.state !== "closed") this.#timers.update(due);
      if (due.deadline <= now) break; // the rest after it was served
    }
  }

  noteStall(): void {
    this.stalls++; // each connection finds out for itself: a stall must not cost more the more there are
  }

  /** The first question brings up the tunnel; the others wait for it, and do not come all at once. */
  suspectPeer(peer: number): void {
    let at = this.now();
    for (const connection of this.#table) {
      if (connection.seenPeer !== peer) continue;
      connection.suspect(at);
      at = Math.max(at + 1, this.now() + TUNNEL_UP_MS);
    }
  }

  changePath(peer: number): void {
    for (const connection of this.#table) if (connection.seenPeer === peer) connection.changePath(this.now());
  }

  cutPeer(peer: number, fault: Fault): void {
    for (const connection of this.#table) if (connection.seenPeer === peer) connection.cut(fault);
  }

  /** Cuts what peers opened and would not be let in with now. */
  cutUnless(isAdmitted: Admission, fault: Fault): void {
    for (const connection of this.#table) {
      const { isDialed, seenPeer, key } = connection;
      if (isDialed || seenPeer < 0) continue; // ours, or from ourselves
      if (!isAdmitted(seenPeer, key.remote, key.local, key.localPort)) connection.cut(fault);
    }
  }

  /** Cuts what we dial and nobody answered yet, where no way leads there any more. */
  cutDialsUnless(isReachable: (remote: AddressBytes) => boolean): void {
    for (const connection of this.#table) {
      const { isDialed, seenPeer, key } = connection;
      if (!isDialed || seenPeer >= 0 || isReachable(key.remote)) continue;
      const message = `Cannot go on dialing "${formatAddress(key.remote)}": found no peer that has it, wanted one`;
      connection.cut(new Fault("TCPIP_UNREACHABLE", message));
    }
  }

  cutAddress(address: AddressBytes): void {
    for (const connection of this.#table) {
      if (!equalBytes(connection.key.local, address)) continue;
      const message = `Cannot go on from "${formatAddress(address)}": it is no longer ours, wanted an address of ours`;
      connection.cut(new Fault("TCPIP_UNREACHABLE", message));
    }
  }

  close(fault: Fault): void {
    for (const connection of this.#table) connection.cut(fault);
    while (this.isPending) this.flush(this.now());
    this.#listeners.clear();
  }
}

function copyOf(slab: Uint8Array, offset: number, ip: IpView): Uint8Array {
  return slab.slice(offset, offset + ip.addressLength);
}
