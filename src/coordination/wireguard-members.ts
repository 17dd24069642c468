import { parseAddressPort } from "../base/address.ts";
import { Fault } from "../base/fault.ts";
import { type Core, NODE_KEY_EXPIRY_MS } from "./core.ts";
import type { NodeRecord } from "./records.ts";

export interface WireGuardMemberRequest {
  readonly name: string;
  readonly user: string | number;
  /** Nodes that carry it: ids, names or addresses. */
  readonly gateways: readonly (number | string)[];
  /** Base64, as `wg pubkey` prints it. The private key never comes here. */
  readonly publicKey: string;
  /** `host:port` by gateway, where it reports none that the device can reach. */
  readonly endpoints?: Readonly<Record<string, string>>;
  readonly expiryMs?: number;
}

/** One gateway, as the device must know it. */
export interface WireGuardCarrier {
  readonly name: string;
  /** Base64. */
  readonly publicKey: string;
  /** `host:port`. */
  readonly endpoint: string;
  readonly addresses: readonly string[];
}

export interface WireGuardMember {
  readonly node: NodeRecord;
  readonly baseDomain: string;
  readonly carriers: readonly WireGuardCarrier[];
}

const KEY = /^[A-Za-z0-9+/]{43}=$/;
const LONGEST_EXPIRY_MS = 10 * 365 * 86_400_000;

/** Adds a device that speaks plain WireGuard to some gateways and nothing to us. */
export function addWireGuardMember(core: Core, request: WireGuardMemberRequest, by: string): Promise<WireGuardMember> {
  const { name, expiryMs } = request;
  const user = core.user(request.user);
  const nodeKey = nodeKeyOf(request.publicKey);
  if (expiryMs !== undefined && !(expiryMs > 0 && expiryMs <= LONGEST_EXPIRY_MS)) {
    throw new Fault("COORDINATION_ARGUMENT", `Cannot add "${name}" for ${expiryMs} ms: wanted up to ten years`);
  }
  return core.exclusive(async () => {
    const gateways = gatewaysOf(core, request);
    const carriers = gateways.map((gateway) => carrierOf(gateway, endpointGiven(core, request, gateway)));
    if (core.ledger.nodeByKey(nodeKey) !== undefined) {
      throw new Fault(
        "COORDINATION_CONFLICT",
        `Cannot add "${name}": its key is a member already, wanted a key of its own`,
      );
    }
    const { id, change } = core.nextId("nextNode");
    const { ipv4, ipv6, changes } = core.addresses();
    const { wall } = core;
    const node: NodeRecord = {
      id,
      machineKey: "",
      nodeKey,
      userId: user.id,
      tags: [],
      name: core.name(name),
      nameFixed: true,
      ipv4,
      ipv6,
      created: wall,
      expires: wall + (expiryMs ?? core.options.nodeKeyExpiryMs ?? NODE_KEY_EXPIRY_MS),
      ephemeral: false,
      hostinfo: { Hostname: name.slice(0, 64) },
      endpoints: [],
      homeDerp: 0,
      capability: 0,
      approvedRoutes: [],
      gateways: gateways.map((gateway) => gateway.id),
    };
    const via = gateways.map((gateway) => gateway.name).join(", ");
    const entry = core.entry(by, "wireguard.add", `node:${id}`, `${node.name} of ${user.login} via ${via}`);
    await core.ledger.commit([change, ...changes, { put: "node", value: node }, entry]);
    core.arrived(node);
    return { node, baseDomain: core.options.baseDomain, carriers };
  });
}

export function removeWireGuardMember(core: Core, which: number | string, by: string): Promise<void> {
  return core.exclusive(async () => {
    const node = core.node(which);
    if (node.gateways === undefined) {
      throw new Fault(
        "COORDINATION_WIREGUARD_NONE",
        `Cannot remove node "${which}": it is no WireGuard-only member, wanted one`,
        { hint: "`sallyport server nodes delete` is for all others." },
      );
    }
    await core.delete(node, by, "wireguard.remove");
  });
}

function nodeKeyOf(text: string): string {
  const bytes = KEY.test(text) ? Buffer.from(text, "base64") : undefined;
  if (bytes?.length === 32 && bytes.some((byte) => byte !== 0)) return `nodekey:${bytes.toString("hex")}`;
  throw new Fault(
    "COORDINATION_WIREGUARD_KEY",
    `Cannot use public key "${text.slice(0, 64)}": it is no WireGuard key, wanted what \`wg pubkey\` prints`,
  );
}

function gatewaysOf(core: Core, { name, gateways }: WireGuardMemberRequest): readonly NodeRecord[] {
  const found = new Map(gateways.map((which) => core.node(which)).map((node) => [node.id, node]));
  const carriers = [...found.values()];
  if (carriers.length > 0 && carriers.every((node) => node.gateways === undefined)) return carriers;
  throw new Fault(
    "COORDINATION_WIREGUARD_GATEWAY",
    `Cannot add "${name}": ${carriers.length === 0 ? "no gateway is named" : "a WireGuard-only member carries nobody"}, wanted nodes that run one`,
  );
}

function endpointGiven(
  core: Core,
  { endpoints = {} }: WireGuardMemberRequest,
  gateway: NodeRecord,
): string | undefined {
  const given = Object.entries(endpoints).find(([which]) => core.node(which).id === gateway.id)?.[1];
  if (given === undefined || isEndpoint(given)) return given;
  throw new Fault(
    "COORDINATION_ARGUMENT",
    `Cannot use endpoint "${given.slice(0, 100)}" for ${gateway.name}: found no host and port, wanted HOST:PORT`,
  );
}

function isEndpoint(text: string): boolean {
  const host = /^(?=.{1,253}:)[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?:([1-9]\d{0,4})$/.exec(text);
  return host === null ? (parseAddressPort(text)?.port ?? 0) > 0 : Number(host[2]) < 65_536;
}

function carrierOf(gateway: NodeRecord, endpoint: string | undefined): WireGuardCarrier {
  const reachable = endpoint ?? mostReachable(gateway.endpoints);
  if (reachable === undefined) {
    throw new Fault(
      "COORDINATION_WIREGUARD_ENDPOINT",
      `Cannot lead a device to "${gateway.name}": it has reported no address of its UDP port, wanted one`,
      { hint: `Start it with a fixed --port, or say where it is: --endpoint ${gateway.name}=HOST:PORT` },
    );
  }
  return {
    name: gateway.name,
    publicKey: Buffer.from(gateway.nodeKey.slice("nodekey:".length), "hex").toString("base64"),
    endpoint: reachable,
    addresses: [gateway.ipv4, gateway.ipv6],
  };
}

/** The device tries one address only: a public one is more likely to be reached from anywhere. */
function mostReachable(endpoints: readonly string[]): string | undefined {
  const rank = (endpoint: string): number => {
    const address = parseAddressPort(endpoint)?.address ?? "";
    if (/^(127\.|::1$)/.test(address)) return 4;
    if (address.includes(":")) return /^f[cd]/i.test(address) ? 3 : 1;
    return /^(10|192\.168|169\.254|172\.(1[6-9]|2\d|3[01])|100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7]))\./.test(address)
      ? 2
      : 0;
  };
  return endpoints.toSorted((a, b) => rank(a) - rank(b))[0];
}
