import { createPrivateKey, createPublicKey } from "node:crypto";
import { Fault } from "../base/fault.ts";
import type { Random } from "../base/random.ts";
import { type Core, NODE_KEY_EXPIRY_MS } from "./core.ts";
import type { NodeRecord } from "./records.ts";

export interface WireGuardMemberRequest {
  readonly name: string;
  readonly user: string | number;
  /** Ids of the nodes that carry it. */
  readonly gateways: readonly number[];
  /** Base64, as `wg pubkey` prints it: preferred, for then the private key never leaves the device. */
  readonly publicKey?: string;
  /** `host:port` of the first gateway where the device cannot learn it otherwise. */
  readonly endpoint?: string;
  readonly expiryMs?: number;
}

export interface WireGuardMember {
  readonly node: NodeRecord;
  /** For wg-quick. Holds the private key when we made it: shown once, kept nowhere. */
  readonly config: string;
}

const PKCS8_X25519 = Buffer.from("302e020100300506032b656e04220420", "hex");

function generateKey(random: Random): { readonly privateKey: string; readonly publicKey: Buffer } {
  const secret = Buffer.from(random(32));
  secret[0]! &= 248;
  secret[31] = (secret[31]! & 127) | 64;
  const key = createPrivateKey({ key: Buffer.concat([PKCS8_X25519, secret]), format: "der", type: "pkcs8" });
  const spki = createPublicKey(key).export({ format: "der", type: "spki" });
  return { privateKey: secret.toString("base64"), publicKey: spki.subarray(-32) };
}

function parseKey(text: string): Buffer {
  const bytes = /^[A-Za-z0-9+/]{43}=$/.test(text) ? Buffer.from(text, "base64") : undefined;
  if (bytes?.length === 32 && bytes.some((byte) => byte !== 0)) return bytes;
  throw new Fault(
    "COORDINATION_WIREGUARD_KEY",
    `Cannot use public key "${text.slice(0, 64)}": it is no WireGuard key, wanted what \`wg pubkey\` prints`,
  );
}

/** Adds a device that speaks plain WireGuard to some gateways and nothing to us. */
export function addWireGuardMember(core: Core, request: WireGuardMemberRequest, by: string): Promise<WireGuardMember> {
  const user = core.user(request.user);
  const made = request.publicKey === undefined ? generateKey(core.options.random) : undefined;
  const publicKey = made?.publicKey ?? parseKey(request.publicKey!);
  return core.exclusive(async () => {
    const gateways = [...new Set(request.gateways)];
    const carriers = gateways.map((id) => core.node(id));
    if (carriers.length === 0 || carriers.some((node) => node.gateways !== undefined)) {
      throw new Fault(
        "COORDINATION_WIREGUARD_GATEWAY",
        `Cannot add "${request.name}": no gateway is named, wanted nodes that run one`,
      );
    }
    const nodeKey = `nodekey:${publicKey.toString("hex")}`;
    if (core.ledger.nodeByKey(nodeKey) !== undefined) {
      throw new Fault(
        "COORDINATION_CONFLICT",
        `Cannot add "${request.name}": its key is a member already, wanted a key of its own`,
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
      name: core.name(request.name),
      nameFixed: true,
      ipv4,
      ipv6,
      created: wall,
      expires: wall + (request.expiryMs ?? core.options.nodeKeyExpiryMs ?? NODE_KEY_EXPIRY_MS),
      ephemeral: false,
      hostinfo: { Hostname: request.name },
      endpoints: [],
      homeDerp: 0,
      capability: 0,
      approvedRoutes: [],
      gateways,
    };
    const entry = core.entry(by, "wireguard.add", `node:${id}`, `${node.name} via ${gateways.join(", ")}`);
    await core.ledger.commit([change, ...changes, { put: "node", value: node }, entry]);
    core.arrived(node);
    return { node, config: quickConfig(node, carriers, made?.privateKey, request.endpoint) };
  });
}

export function removeWireGuardMember(core: Core, id: number, by: string): Promise<void> {
  return core.exclusive(async () => {
    const node = core.node(id);
    if (node.gateways === undefined) {
      throw new Fault(
        "COORDINATION_WIREGUARD_NONE",
        `Cannot remove node "${id}": it is no WireGuard-only member, wanted one`,
        {
          hint: "Use the deletion of nodes for all others.",
        },
      );
    }
    await core.delete(node, by, "wireguard.remove");
  });
}

function quickConfig(
  node: NodeRecord,
  carriers: readonly NodeRecord[],
  privateKey: string | undefined,
  endpoint: string | undefined,
): string {
  const lines = [
    "[Interface]",
    privateKey === undefined ? "# PrivateKey = <the device's own private key>" : `PrivateKey = ${privateKey}`,
    `Address = ${node.ipv4}/32, ${node.ipv6}/128`,
  ];
  carriers.forEach((carrier, index) => {
    const publicKey = Buffer.from(carrier.nodeKey.slice("nodekey:".length), "hex").toString("base64");
    const at = (index === 0 ? endpoint : undefined) ?? carrier.endpoints[0];
    // The first gateway carries the whole network, the others themselves: WireGuard sends each address one way.
    const own = `${carrier.ipv4}/32, ${carrier.ipv6}/128`;
    lines.push(
      "",
      "[Peer]",
      `# ${carrier.name}`,
      `PublicKey = ${publicKey}`,
      `AllowedIPs = ${index === 0 ? "100.64.0.0/10, fd7a:115c:a1e0::/48" : own}`,
      at === undefined ? "# Endpoint = <address and UDP port of the gateway>" : `Endpoint = ${at}`,
      "PersistentKeepalive = 25",
    );
  });
  return `${lines.join("\n")}\n`;
}
