import { afterEach, expect } from "vitest";
import { FakeClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { seededRandom } from "../../src/base/random.ts";
import type { MapSink } from "../../src/coordination/control-handler.ts";
import { Coordinator, type NodeView } from "../../src/coordination/coordinator.ts";
import type { PolicyEngine } from "../../src/coordination/policy-engine.ts";
import { MemoryCoordinationStore } from "../../src/coordination/store/memory-store.ts";
import type { WireGuardMemberRequest } from "../../src/coordination/wireguard-members.ts";
import { applyMapResponse } from "../../src/wire/map-apply.ts";
import type { NetworkMap } from "../../src/wire/network-map.ts";
import type { MapRequest, MapResponse, Node, RegisterRequest, RegisterResponse } from "../../src/wire/tailcfg.ts";

export const hex = (seed: number): string => seed.toString(16).padStart(64, "0");
export const nodeKey = (seed: number): string => `nodekey:${hex(seed)}`;
export const mkey = (seed: number): string => `mkey:${hex(seed)}`;
export const never: AbortSignal = new AbortController().signal;

/** Everybody may reach everybody. */
export const open: PolicyEngine = {
  filterFor: () => [{ SrcIPs: ["*"], DstPorts: [{ IP: "*", Ports: { First: 0, Last: 65535 } }] }],
  visibleTo: (_node, all) => new Set(all.map(({ id }) => id)),
  routesFor: (_viewer, router) => router.routes,
  sshFor: () => undefined,
  attributesFor: () => ({ https: null }),
  mayTag: (user, tag) => user === "ada@example.com" && tag === "tag:web",
  autoApproves: (_node, route) => route === "10.9.0.0/16",
  autoApprovesService: () => false,
  mayNodeSet: () => false,
  servicesFor: (_viewer, host) => Object.keys(host.services ?? {}),
  poolsFor: () => [],
};
export const ownOnly: PolicyEngine = {
  ...open,
  filterFor: () => [],
  visibleTo: (node, all) =>
    new Set(all.filter(({ user }) => user !== undefined && user === node.user).map(({ id }) => id)),
};

export class Recorder implements MapSink {
  readonly messages: MapResponse[] = [];
  readonly #abort = new AbortController();
  readonly closed: AbortSignal = this.#abort.signal;
  ended = false;
  full = false;

  onSend: () => void = () => undefined;

  send(response: MapResponse): boolean {
    if (this.ended || this.full) return false;
    this.onSend();
    this.messages.push(structuredClone(response));
    return true;
  }

  end(): void {
    this.ended = true;
  }

  hangUp(): void {
    this.#abort.abort();
  }

  /** Messages since the last call. */
  take(): MapResponse[] {
    return this.messages.splice(0);
  }
}

export const wireGuardRequest = (
  name: string,
  user: string | number,
  gateways: readonly (string | number)[],
): WireGuardMemberRequest => ({
  name,
  user,
  gateways,
  publicKey: Buffer.from(hex(0xabc), "hex").toString("base64"),
  endpoints: Object.fromEntries(gateways.map((gateway) => [gateway, "192.0.2.9:51820"])),
});

const opened: Coordinator[] = [];
afterEach(async () => {
  for (const coordinator of opened.splice(0)) await coordinator.close();
});

export interface RigOptions {
  readonly policy?: PolicyEngine;
  readonly addressPoolSize?: number;
  readonly store?: MemoryCoordinationStore;
  readonly setTxt?: (name: string, value: string) => Promise<void>;
  readonly onKeyRetired?: (nodeKey: string) => void;
  readonly clock?: FakeClock;
  readonly relayAddresses?: readonly string[];
  readonly ownNames?: readonly string[];
  /** The store has them already. */
  readonly hasUsers?: boolean;
}

export interface Rig {
  readonly clock: FakeClock;
  readonly coordinator: Coordinator;
  /** Lets everything happen that is due within `ms`. */
  settle(ms?: number): Promise<void>;
  /** One registration by node `seed`. */
  ask(seed: number, request?: Partial<RegisterRequest>, machine?: number): Promise<RegisterResponse>;
  /** Node `seed` joins by a key of `user`. */
  join(seed: number, user: string, request?: Partial<RegisterRequest>): Promise<NodeView>;
  /** Opens a map stream. */
  poll(seed: number, machine?: number): Promise<Recorder & { readonly done: Promise<void> }>;
  lite(seed: number, request: Partial<MapRequest>, machine?: number): Promise<void>;
  /** What node `seed` knows after all that it was sent, whenever that is asked. */
  follow(seed: number): Promise<() => Promise<NetworkMap>>;
}

/** A coordinator on a clock of its own, with two users, and nodes that are numbered. */
export async function start(options: RigOptions = {}): Promise<Rig> {
  const clock = options.clock ?? new FakeClock();
  const coordinator = await Coordinator.open({
    store: options.store ?? new MemoryCoordinationStore(),
    clock,
    random: seededRandom(7),
    log: silentLog,
    serverUrl: "https://control.example",
    baseDomain: "tail.test",
    derpMap: () => ({ Regions: {} }),
    policy: options.policy ?? open,
    ...(options.onKeyRetired === undefined ? {} : { onKeyRetired: options.onKeyRetired }),
    ...(options.ownNames === undefined ? {} : { ownNames: options.ownNames }),
    ...(options.relayAddresses === undefined ? {} : { relayAddresses: options.relayAddresses }),
    ...(options.setTxt === undefined ? {} : { setTxt: options.setTxt }),
    ...(options.addressPoolSize === undefined ? {} : { addressPoolSize: options.addressPoolSize }),
  });
  opened.push(coordinator);
  if (options.hasUsers !== true) {
    await coordinator.createUser({ login: "ada@example.com", displayName: "Ada" }, "root");
    await coordinator.createUser({ login: "bob@example.com", displayName: "Bob" }, "root");
  }
  const settle = async (ms = 0) => {
    for (let i = 0; i < 20; i++) await Promise.resolve();
    clock.advance(ms);
    for (let i = 0; i < 20; i++) await Promise.resolve();
  };
  const ask = (seed: number, request: Partial<RegisterRequest> = {}, machine = seed): Promise<RegisterResponse> =>
    coordinator.register(
      mkey(machine),
      { Version: 142, NodeKey: nodeKey(seed), Hostinfo: { Hostname: `host-${seed}` }, ...request },
      never,
    );
  const join = async (seed: number, user: string, request: Partial<RegisterRequest> = {}) => {
    const { key } = await coordinator.createAuthKey({ user, reusable: true }, "root");
    expect(await ask(seed, { Auth: { AuthKey: key }, ...request })).toMatchObject({
      MachineAuthorized: true,
      Error: "",
    });
    return coordinator.nodes().find((node) => node.nodeKey === nodeKey(seed))!;
  };
  const poll = async (seed: number, machine = seed) => {
    const sink = new Recorder();
    const done = coordinator.map(
      mkey(machine),
      { Version: 142, NodeKey: nodeKey(seed), Stream: true, KeepAlive: true },
      sink,
    );
    await settle(300);
    return Object.assign(sink, { done });
  };
  const lite = (seed: number, request: Partial<MapRequest>, machine = seed) =>
    coordinator.map(
      mkey(machine),
      { Version: 142, NodeKey: nodeKey(seed), OmitPeers: true, ...request },
      new Recorder(),
    );
  const follow = async (seed: number) => {
    const stream = await poll(seed);
    let map: NetworkMap | undefined;
    return async () => {
      await settle(300);
      for (const message of stream.take()) map = applyMapResponse(map, message, "2026-01-01T00:00:00Z");
      return map!;
    };
  };
  return { clock, coordinator, settle, ask, join, poll, lite, follow };
}

export const peersOf = (messages: readonly MapResponse[]): Node[] =>
  messages.flatMap((message) => [...(message.Peers ?? []), ...(message.PeersChanged ?? [])]);
