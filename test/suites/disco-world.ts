import { type AddressPort, formatAddressPort, parseAddressPort } from "../../src/base/address.ts";
import { toHex } from "../../src/base/bytes.ts";
import { createBatch, PACKET, type PacketBatch } from "../../src/base/packet.ts";
import { type Path, PathTable } from "../../src/base/path-table.ts";
import { seededRandom } from "../../src/base/random.ts";
import { generatePrivateKey, publicKeyOf } from "../../src/crypto/keys.ts";
import { Paths, type PathsOptions } from "../../src/mesh/paths/paths.ts";
import { Nat, type NatKind } from "../../src/testnet/nat.ts";
import { decodeStunRequest, encodeStunAnswer } from "../../src/wire/stun.ts";
import type { DerpMap, NetInfo } from "../../src/wire/tailcfg.ts";

export type Kind = NatKind | "none";

const STUN_SERVERS = ["198.51.100.1:3478", "198.51.100.2:3478"];
export const HOP_MS = 10;
export const RELAY_MS = 40;
export const MAP: DerpMap = {
  Regions: Object.fromEntries(
    [1, 2].map((id) => [
      id,
      {
        RegionID: id,
        RegionCode: `r${id}`,
        RegionName: `R${id}`,
        Nodes: [{ Name: `${id}a`, RegionID: id, HostName: `r${id}.example`, IPv4: `198.51.100.${id}` }],
      },
    ]),
  ),
};

export function batchOf(datagram: Uint8Array, path: number): PacketBatch {
  const batch = createBatch(1, datagram.length);
  batch.slab.set(datagram);
  batch.at[PACKET.length] = datagram.length;
  batch.at[PACKET.path] = path;
  batch.count = 1;
  return batch;
}

/** A network under a time that tests move: hosts behind NATs, two STUN servers, a relay. */
export class World {
  now = 0;
  isUdpBlocked = false;
  readonly #events: { at: number; order: number; run: () => void }[] = [];
  readonly hosts: Host[] = [];

  later(ms: number, run: () => void): void {
    this.#events.push({ at: this.now + ms, order: this.#events.length, run });
  }

  run(ms: number): void {
    const end = this.now + ms;
    for (;;) {
      this.#events.sort((a, b) => a.at - b.at);
      const next = Math.min(
        this.#events[0]?.at ?? Infinity,
        ...this.hosts.map(({ paths }) => Math.max(paths.deadline, this.now)),
      );
      if (next > end) break;
      this.now = next;
      while (this.#events[0] !== undefined && this.#events[0].at <= next) this.#events.shift()!.run();
      for (const { paths } of this.hosts) paths.poll(this.now);
    }
    this.now = end;
  }

  udp(from: Host, to: string, datagram: Uint8Array): void {
    if (this.isUdpBlocked) return;
    const seen = formatAddressPort(from.seenBy(parseAddressPort(to)!));
    this.later(HOP_MS, () => {
      if (STUN_SERVERS.includes(to)) {
        const tx = decodeStunRequest(datagram)!;
        const answer = encodeStunAnswer(tx, parseAddressPort(seen)!)!;
        this.later(HOP_MS, () => this.arrive(seen, to, answer));
      } else {
        this.arrive(to, seen, datagram);
      }
    });
  }

  arrive(to: string, from: string, datagram: Uint8Array): void {
    const [address, port] = to.split(":");
    const nat = this.hosts.find((host) => host.nat?.address === address)?.nat;
    const inside = nat === undefined ? parseAddressPort(to) : nat.in(Number(port), parseAddressPort(from)!);
    const host = this.hosts.find(({ socket }) => inside !== undefined && socket === formatAddressPort(inside));
    host?.receive({ kind: "udp", ...parseAddressPort(from)! }, datagram);
  }
}

export class Host {
  readonly paths: Paths;
  readonly table: PathTable = new PathTable();
  readonly nodeKey: Uint8Array;
  readonly discoPrivate: Uint8Array;
  readonly nat: Nat | undefined;
  readonly socket: string;
  readonly world: World;
  readonly sent: { readonly to: Path; readonly datagram: Uint8Array; readonly at: number }[] = [];
  endpoints: readonly string[] = [];
  info: NetInfo | undefined;

  constructor(world: World, seed: number, kind: Kind, options: Partial<PathsOptions> = {}, map: DerpMap = MAP) {
    const random = seededRandom(seed);
    this.world = world;
    this.discoPrivate = generatePrivateKey(random);
    this.nodeKey = publicKeyOf(generatePrivateKey(random));
    this.nat = kind === "none" ? undefined : new Nat(kind, `203.0.113.${seed}`);
    const address = kind === "none" ? `192.0.2.${seed}` : `10.0.${seed}.2`;
    this.socket = `${address}:41641`;
    this.paths = new Paths({
      discoPrivateKey: this.discoPrivate,
      nodePublicKey: this.nodeKey,
      random,
      table: this.table,
      send: (path, datagram) => this.send(this.table.get(path)!, datagram.slice()),
      onEndpoints: (endpoints) => {
        this.endpoints = endpoints.map(({ endpoint }) => endpoint);
      },
      onNetInfo: (info) => {
        this.info = info;
      },
      ...options,
    });
    world.hosts.push(this);
    this.paths.setLocalAddresses([address], 41641, world.now);
    this.paths.setDerpMap(map, world.now);
  }

  send(to: Path, datagram: Uint8Array): void {
    this.sent.push({ to, datagram, at: this.world.now });
    if (to.kind === "udp") {
      this.world.udp(this, formatAddressPort(to), datagram);
      return;
    }
    const peer = this.world.hosts.find(({ nodeKey }) => toHex(nodeKey) === to.nodeKey);
    const from: Path = { kind: "derp", region: to.region, nodeKey: toHex(this.nodeKey) };
    this.world.later(RELAY_MS, () => peer?.receive(from, datagram));
  }

  receive(from: Path, datagram: Uint8Array): void {
    this.paths.input(batchOf(datagram, this.table.intern(from)), this.world.now);
  }

  know(peer: Host, index: number = 0, endpoints: readonly string[] = peer.endpoints): void {
    const { nodeKey } = peer;
    const discoKey = publicKeyOf(peer.discoPrivate);
    this.paths.setPeer({ index, nodeKey, discoKey, endpoints, homeDerp: 1, isWireGuardOnly: false }, this.world.now);
  }

  /** Sends data every 500 ms. */
  talk(ms: number): void {
    this.paths.sent(0, this.world.now);
    if (ms > 500) this.world.later(500, () => this.talk(ms - 500));
  }

  /** Data to `peer` every 100 ms, each answered: what WireGuard authenticates is known to both as a download's would. */
  converse(peer: Host, ms: number): void {
    const carry = (from: Host, to: Host, onArrival: () => void): void => {
      const { world } = from;
      from.paths.sent(0, world.now);
      const ways = [from.paths.best(0, world.now), from.paths.second(0, world.now)].filter((path) => path >= 0);
      for (const way of ways.map((path) => from.table.get(path)!)) {
        const isDirect = way.kind === "udp";
        if (isDirect && world.isUdpBlocked) continue;
        world.later(isDirect ? HOP_MS : RELAY_MS, () => {
          const source: Path = isDirect
            ? { kind: "udp", ...from.seenBy(way) }
            : { kind: "derp", region: way.region, nodeKey: toHex(from.nodeKey) };
          to.paths.authenticated(0, to.table.intern(source), world.now);
          onArrival();
        });
      }
    };
    carry(this, peer, () => carry(peer, this, () => {}));
    if (ms > 100) this.world.later(100, () => this.converse(peer, ms - 100));
  }

  /** Where datagrams of ours come from, to who is at `to`. */
  seenBy(to: AddressPort): AddressPort {
    const socket = parseAddressPort(this.socket)!;
    return this.nat?.out(socket, to) ?? socket;
  }

  kind(now: number): string {
    return this.table.get(this.paths.best(0, now))?.kind ?? "none";
  }
}

/** Two hosts that have asked STUN and know each other from the map. */
export function pair(a: Kind, b: Kind): { world: World; a: Host; b: Host } {
  const world = new World();
  const hosts = { world, a: new Host(world, 1, a), b: new Host(world, 2, b) };
  world.run(4000); // STUN
  hosts.a.know(hosts.b);
  hosts.b.know(hosts.a);
  return hosts;
}
