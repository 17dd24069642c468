import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { getServers } from "node:dns";
import { connect } from "node:net";
import type { Duplex } from "node:stream";
import { type AddressPort, parseAddress, parseAddressPort } from "../../base/address.ts";
import { framed } from "../../mesh/dns/stream-queries.ts";
import { isMeshAddress } from "../../wire/mesh-address.ts";

const DNS_PORT = 53;
const ANSWER_MS = 4000;
const MOST_WAITING = 128;
const LONGEST_QUERY = 1024;
const HEADER_BYTES = 12;
/** Addresses of the mesh (control-protocol §11.6). */

/** Opens a stream over the mesh, to name servers in it. */
export type DialMesh = (target: AddressPort) => Promise<Duplex>;

/**
 * Passes a WireGuard-only member's questions about the outside world to this machine's own resolvers: its device knows
 * no other server while the tunnel is up. Byte for byte, for at most 128 members' questions at once.
 */
export class DnsForwarder {
  readonly #system: () => readonly string[];
  readonly #dialMesh: DialMesh | undefined;
  #waiting = 0;

  /** `system`: `address` or `address:port`. @default those of this machine */
  constructor(system: () => readonly string[] = getServers, dialMesh?: DialMesh) {
    this.#system = system;
    this.#dialMesh = dialMesh;
  }

  /**
   * Undefined when nobody answers in time, or too many questions wait. `servers`: those that the network names; whom it
   * names is asked and nobody else, for names inside should not be told outside. DNS over HTTPS is not spoken here.
   */
  async forward(
    query: Uint8Array,
    transport: "udp" | "tcp",
    servers: readonly string[] | undefined,
  ): Promise<Uint8Array | undefined> {
    if (this.#waiting >= MOST_WAITING || query.length < HEADER_BYTES || query.length > LONGEST_QUERY) return undefined;
    this.#waiting++;
    try {
      const usable = (servers ?? this.#system()).filter((server) => !server.includes("/"));
      for (const server of usable.slice(0, 2)) {
        const { address, port } = parseAddressPort(server) ?? { address: server, port: DNS_PORT };
        const answer = await this.#ask(query, transport, address, port);
        if (answer !== undefined) return answer;
      }
      return undefined;
    } finally {
      this.#waiting--;
    }
  }

  async #ask(
    query: Uint8Array,
    transport: "udp" | "tcp",
    address: string,
    port: number,
  ): Promise<Uint8Array | undefined> {
    const bytes = parseAddress(address);
    if (bytes === undefined) return undefined;
    if (!isMeshAddress(bytes)) {
      return transport === "udp" ? askByUdp(query, address, port) : askBy(connect(port, address), query);
    }
    // This machine has no way into the mesh but ours, and a name server must answer over TCP too (RFC 7766 §5).
    const stream = await this.#dialMesh?.({ address, port }).catch(() => undefined);
    return stream === undefined ? undefined : askBy(stream, query);
  }
}

/** One socket for each question: its port is as hard to guess as its id (RFC 5452 §9.2). */
function askByUdp(query: Uint8Array, address: string, port: number): Promise<Uint8Array | undefined> {
  const socket: UdpSocket = createSocket(address.includes(":") ? "udp6" : "udp4");
  return settled((done) => {
    socket.on("message", (answer) => {
      if (isAnswerTo(query, answer)) done(answer);
    });
    socket.on("error", () => done(undefined));
    // Where there is no way to it, the error comes here and nowhere else.
    socket.connect(port, address, (error?: Error | null) => (error ? done(undefined) : socket.send(query)));
    return () => socket.close();
  });
}

function askBy(socket: Duplex, query: Uint8Array): Promise<Uint8Array | undefined> {
  return settled((done) => {
    let all = Buffer.alloc(0);
    socket.on("data", (chunk: Buffer) => {
      all = Buffer.concat([all, chunk]);
      const end = all.length < 2 ? Infinity : 2 + all.readUInt16BE(0);
      if (all.length >= end) done(isAnswerTo(query, all.subarray(2, end)) ? all.subarray(2, end) : undefined);
    });
    socket.on("error", () => done(undefined));
    socket.on("close", () => done(undefined));
    socket.write(framed(query));
    return () => socket.destroy();
  });
}

function settled(
  start: (done: (answer: Uint8Array | undefined) => void) => () => void,
): Promise<Uint8Array | undefined> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => done(undefined), ANSWER_MS);
    let stop: (() => void) | undefined;
    let isDone = false;
    const done = (answer: Uint8Array | undefined): void => {
      if (isDone) return;
      isDone = true;
      clearTimeout(timer);
      stop?.();
      resolve(answer);
    };
    stop = start(done);
  });
}

function isAnswerTo(query: Uint8Array, answer: Uint8Array): boolean {
  return answer.length >= HEADER_BYTES && (answer[2]! & 0x80) !== 0 && answer[0] === query[0] && answer[1] === query[1];
}
