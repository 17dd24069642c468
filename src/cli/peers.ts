import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import type { IpnStatus, PeerStatus } from "../wire/ipn.ts";
import { CliExit } from "./io.ts";

/** The first label of the DNS name, or the host name where there is none. */
export function shortName(peer: PeerStatus): string {
  const label = peer.DNSName.split(".")[0] ?? "";
  return label === "" ? peer.HostName : label;
}

/** The node called `name`: short name (any case) or full name with its dot; peers before this node. */
export function findNode(
  status: IpnStatus,
  name: string,
): { readonly node: PeerStatus; readonly isSelf: boolean } | undefined {
  const wanted = name.toLowerCase();
  const matches = (node: PeerStatus): boolean => shortName(node).toLowerCase() === wanted || node.DNSName === name;
  const peer = Object.values(status.Peer ?? {}).find(matches);
  if (peer !== undefined) return { node: peer, isSelf: false };
  return matches(status.Self) ? { node: status.Self, isSelf: true } : undefined;
}

/** An address for what the user typed: an address, a node's name, or a name that the system knows. */
export async function addressOf(
  status: () => Promise<IpnStatus>,
  text: string,
): Promise<{ readonly address: string; readonly isSelf: boolean }> {
  if (isIP(text) !== 0) return { address: text, isSelf: false };
  const found = findNode(await status(), text);
  const first = found?.node.TailscaleIPs?.[0];
  if (found !== undefined && first !== undefined) return { address: first, isSelf: found.isSelf };
  try {
    return { address: (await lookup(text)).address, isSelf: false };
  } catch {
    throw new CliExit(`error looking up IP of "${text}": lookup ${text}: no such host`);
  }
}
