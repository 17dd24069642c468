import {
  type AddressBytes,
  type AddressPort,
  formatAddress,
  formatAddressPort,
  parseAddress,
} from "../../base/address.ts";
import { Fault } from "../../base/fault.ts";
import { checksumOf, sumPseudoHeader, sumWords } from "../../wire/checksum.ts";
import { type IpView, ipHeaderLength, PROTOCOL, read16, write16, writeIpHeader } from "../../wire/ip.ts";
import { createUdpView, readUdp, UDP, type UdpView, writeUdpHeader } from "../../wire/udp.ts";
import type { StackCore } from "./stack-core.ts";

/** `payload` is dead on return. */
export type UdpReceive = (payload: Uint8Array, source: AddressPort, destination: AddressPort, peer: number) => void;

export interface UdpSocket {
  readonly port: number;
  /** Datagrams that do not fit one packet are dropped and counted. `source`: one of our addresses, any port. */
  send(payload: Uint8Array, destination: AddressPort, source?: AddressPort): void;
  close(): void;
}

const FIRST_EPHEMERAL_PORT = 16_000;

export class UdpService {
  readonly #core: StackCore;
  readonly #sockets: Map<number, UdpReceive> = new Map();
  readonly #view: UdpView = createUdpView();

  constructor(core: StackCore) {
    this.#core = core;
  }

  /** True: nobody listens on that port of ours. */
  input(slab: Uint8Array, ip: IpView, peer: number, isIntact: () => boolean): boolean {
    const { counters } = this.#core;
    const udp = this.#view;
    if (!readUdp(slab, ip.payload, ip.payloadLength, udp)) {
      counters.malformed++;
      return false;
    }
    if (udp.hasChecksum ? !isIntact() : ip.isIpv6) {
      if (!udp.hasChecksum) counters.checksum++; // RFC 8200 §8.1
      return false;
    }
    if (!this.#core.isOurs(slab, ip.destination, ip.addressLength)) {
      counters.notOurs++;
      return false;
    }
    const receive = this.#sockets.get(udp.destinationPort);
    if (receive === undefined) {
      counters.udpUnserved++;
      return true;
    }
    const source = formatAddress(slab.subarray(ip.source, ip.source + ip.addressLength));
    const destination = formatAddress(slab.subarray(ip.destination, ip.destination + ip.addressLength));
    try {
      receive(
        slab.subarray(udp.payload, udp.payload + udp.payloadLength),
        { address: source, port: udp.sourcePort },
        { address: destination, port: udp.destinationPort },
        peer,
      );
    } catch {
      counters.userFailed++; // one handler's mistake is not the stack's
    }
    return false;
  }

  listen(wanted: number, receive: UdpReceive): UdpSocket {
    const port = wanted === 0 ? this.#ephemeralPort() : wanted;
    if (port === undefined || this.#sockets.has(port)) {
      throw new Fault("TCPIP_PORT_IN_USE", `Cannot listen on UDP port "${wanted}": it is taken, wanted a free one`);
    }
    this.#sockets.set(port, receive);
    return {
      port,
      send: (payload, destination, source) => this.#send(payload, destination, source, port),
      close: () => {
        if (this.#sockets.get(port) === receive) this.#sockets.delete(port);
      },
    };
  }

  #ephemeralPort(): number | undefined {
    for (let tries = 0; tries < 64; tries++) {
      const port = FIRST_EPHEMERAL_PORT + (read16(this.#core.random(2), 0) % (65_536 - FIRST_EPHEMERAL_PORT));
      if (!this.#sockets.has(port)) return port;
    }
    return undefined;
  }

  #send(payload: Uint8Array, destination: AddressPort, source: AddressPort | undefined, port: number): void {
    const remote = parseAddress(destination.address);
    const local: AddressBytes | undefined =
      source !== undefined ? parseAddress(source.address) : remote && this.#core.sourceFor(remote);
    if (remote === undefined || local === undefined || local.length !== remote.length) {
      const message = `Cannot send to "${formatAddressPort(destination)}": no address of ours of its family, wanted one`;
      throw new Fault("TCPIP_UNREACHABLE", message);
    }
    const { writer } = this.#core;
    const start = ipHeaderLength(local);
    const length = UDP.end + payload.length;
    if (start + length > writer.mtu) {
      this.#core.counters.udpTooLong++;
      return;
    }
    const { bytes } = writer;
    writeUdpHeader(bytes, start, source?.port ?? port, destination.port, payload.length);
    bytes.set(payload, start + UDP.end);
    writeIpHeader(bytes, local, remote, PROTOCOL.udp, length);
    const sum = sumPseudoHeader(local, remote, PROTOCOL.udp) + length + sumWords(bytes, start, length);
    write16(bytes, start + UDP.checksum, checksumOf(sum) || 0xffff); // 0 would mean: none
    this.#core.output(writer.view(start + length), -1, this.#core.now());
  }

  close(): void {
    this.#sockets.clear();
  }
}
