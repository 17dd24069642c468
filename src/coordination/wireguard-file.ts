import { SERVICE_ADDRESS } from "../wire/mesh-address.ts";
import type { WireGuardMember } from "./wireguard-members.ts";

/** The tunnels of a mesh carry no larger packets (data-plane.md, section 1). */
const MTU_BYTES = 1280;
/** The device is behind a NAT as likely as not, and its gateway cannot find it again by itself. */
const KEEPALIVE_S = 25;

/** The file for wg-quick(8) and the WireGuard apps. Without `privateKey`, the device's owner puts it in. */
export function wireGuardFile(member: WireGuardMember, privateKey?: string): string {
  const { node, baseDomain, carriers } = member;
  const lines = [
    "[Interface]",
    `# ${node.name}.${baseDomain}`,
    privateKey === undefined ? "# PrivateKey = (the one that belongs to the public key)" : `PrivateKey = ${privateKey}`,
    `Address = ${node.ipv4}/32, ${node.ipv6}/128`,
    `DNS = ${SERVICE_ADDRESS}, ${baseDomain}`,
    `MTU = ${MTU_BYTES}`,
  ];
  carriers.forEach(({ name, publicKey, endpoint, addresses: [ipv4, ipv6] }, index) => {
    // WireGuard sends each address one way: the first gateway answers for names.
    const service = index === 0 ? `, ${SERVICE_ADDRESS}/32` : "";
    lines.push(
      "",
      "[Peer]",
      `# ${name}.${baseDomain}`,
      `PublicKey = ${publicKey}`,
      `AllowedIPs = ${ipv4}/32, ${ipv6}/128${service}`,
      `Endpoint = ${endpoint}`,
      `PersistentKeepalive = ${KEEPALIVE_S}`,
    );
  });
  return `${lines.join("\n")}\n`;
}
