import { type AddressBytes, type AddressPort, type Prefix, parseAddress } from "../base/address.ts";
import type { Clock } from "../base/clock.ts";
import type { Conn } from "../base/conn.ts";
import { asDuplex } from "../base/duplex.ts";
import { SERVICE_ADDRESS } from "../wire/mesh-address.ts";
import type { NetworkMap } from "../wire/network-map.ts";
import type { FilterRule, Node } from "../wire/tailcfg.ts";
import { answerQueries } from "./dns/stream-queries.ts";
import type { Netstack, UdpSocket } from "./tcpip/netstack.ts";

const PREFIX: Prefix = { address: parseAddress(SERVICE_ADDRESS)!, bits: 32 };
const DNS_PORT = 53;
const TCP_AND_UDP = [6, 17];
const MOST_STREAMS = 64;
const STREAM_MS = 30_000;

export interface MemberDnsParts {
  readonly netstack: Pick<Netstack, "listenUdp">;
  readonly clock: Clock;
  /** The peer at the other end of a tunnel. */
  readonly peer: (index: number) => Node | undefined;
  readonly answer: (query: Uint8Array, transport: "udp" | "tcp") => Promise<Uint8Array | undefined>;
}

/**
 * MagicDNS for WireGuard-only members: their devices have no resolver of the mesh, so the gateway that carries them
 * answers on the service address. Nobody else's packets to it are served: other nodes have their own.
 */
export class MemberDns {
  readonly #parts: MemberDnsParts;
  #socket: UdpSocket | undefined;
  #rule: readonly FilterRule[] = [];
  #streams = 0;

  constructor(parts: MemberDnsParts) {
    this.#parts = parts;
  }

  setMap({ peers }: NetworkMap): void {
    const members = [...peers.values()].filter((node) => node.IsWireGuardOnly === true);
    const SrcIPs = members.flatMap(({ Addresses }) => Addresses);
    const DstPorts = [{ IP: SERVICE_ADDRESS, Ports: { First: DNS_PORT, Last: DNS_PORT } }];
    this.#rule = members.length === 0 ? [] : [{ SrcIPs, DstPorts, IPProto: TCP_AND_UDP }];
    if (members.length === 0) {
      this.#socket?.close();
      this.#socket = undefined;
    } else this.#socket ??= this.#listen();
  }

  /** What the filter lets members do beside the policy. */
  get rules(): readonly FilterRule[] {
    return this.#rule;
  }

  /** Ours while there is a member. */
  get prefixes(): readonly Prefix[] {
    return this.#rule.length === 0 ? [] : [PREFIX];
  }

  get addresses(): readonly AddressBytes[] {
    return this.prefixes.map(({ address }) => address);
  }

  /** For a SYN to the service address. */
  accept(destination: AddressPort, peer: number): ((conn: Conn) => void) | undefined {
    if (destination.port !== DNS_PORT || !this.#isMember(peer) || this.#streams >= MOST_STREAMS) return undefined;
    return (conn) => this.#serve(conn);
  }

  #isMember(peer: number): boolean {
    return this.#parts.peer(peer)?.IsWireGuardOnly === true;
  }

  #listen(): UdpSocket {
    const { netstack, answer } = this.#parts;
    const socket = netstack.listenUdp(DNS_PORT, (payload, source, destination, peer) => {
      if (destination.address !== SERVICE_ADDRESS || !this.#isMember(peer)) return;
      answer(payload.slice(), "udp").then(
        (reply) => {
          // The member, or the tunnel, may be gone by now.
          if (reply !== undefined && this.#isMember(peer) && this.#socket === socket) {
            socket.send(reply, source, destination);
          }
        },
        () => undefined, // the device asks again
      );
    });
    return socket;
  }

  #serve(conn: Conn): void {
    const { clock, answer } = this.#parts;
    const stream = asDuplex(conn);
    this.#streams++;
    const stop = clock.at(clock.now() + STREAM_MS, () => void stream.destroy());
    stream.once("close", () => {
      stop();
      this.#streams--;
    });
    answerQueries(stream, (query) => answer(query, "tcp"));
  }
}
