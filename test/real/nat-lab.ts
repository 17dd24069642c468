import { createSpace, type Space } from "./namespace.ts";

/** RFC 4787's behaviours under their usual names; and a network that lets no UDP out. */
export type Nat = "full cone" | "port-restricted" | "symmetric" | "no UDP";
export const NATS: readonly Nat[] = ["full cone", "port-restricted", "symmetric", "no UDP"];

/** Where hole punching can work: RFC 4787, section 5; a symmetric NAT needs an end that lets everybody in. */
export function canPunch(a: Nat, b: Nat): boolean {
  if (a === "no UDP" || b === "no UDP") return false;
  if (a === "full cone" || b === "full cone") return true;
  return a !== "symmetric" && b !== "symmetric";
}

/** The UDP port that a full cone forwards: its rules are static, so its node must use this one. */
export const NODE_PORT = "41641";

/** A machine behind a router of its own. */
export interface NatHost extends Space {
  readonly nat: Nat;
  /** The router's outer address. */
  readonly publicAddress: string;
  /** From now on the router lets no UDP through. */
  blockUdp(): void;
  healUdp(): void;
}

/**
 * Routers on one segment with private networks behind them, none of which another can reach by itself. Its addresses are
 * private too: of a public one, or where the URL names no port, stock clients try HTTPS first when they come again.
 */
export interface Internet extends Space {
  readonly address: string;
  addHost(nat: Nat): NatHost;
}

export function createInternet(): Internet {
  const core = createSpace();
  const hosts: NatHost[] = [];
  core.run("ip", "link", "add", "segment", "type", "bridge");
  core.run("ip", "addr", "add", "10.77.0.1/24", "dev", "segment");
  core.run("ip", "link", "set", "segment", "up");
  return {
    ...core,
    address: "10.77.0.1",
    addHost(nat) {
      const host = createHost(core, nat, hosts.length + 1);
      hosts.push(host);
      return host;
    },
    close() {
      for (const host of hosts) host.close();
      core.close();
    },
  };
}

function createHost(core: Space, nat: Nat, number: number): NatHost {
  const [router, host] = [createSpace(), createSpace()];
  const publicAddress = `10.77.0.${100 + number}`;
  const [gateway, inside] = [`192.168.${number}.1`, `192.168.${number}.2`];
  core.run("ip", "link", "add", `to${number}`, "type", "veth", "peer", "name", "wan", "netns", router.name);
  core.run("ip", "link", "set", `to${number}`, "master", "segment", "up");
  router.run("ip", "addr", "add", `${publicAddress}/24`, "dev", "wan");
  router.run("ip", "link", "set", "wan", "up");
  router.run("ip", "link", "add", "lan", "type", "veth", "peer", "name", "eth0", "netns", host.name);
  router.run("ip", "addr", "add", `${gateway}/24`, "dev", "lan");
  router.run("ip", "link", "set", "lan", "up");
  router.run("sysctl", "-qw", "net.ipv4.ip_forward=1");
  host.run("ip", "addr", "add", `${inside}/24`, "dev", "eth0");
  host.run("ip", "link", "set", "eth0", "up");
  host.run("ip", "route", "add", "default", "via", gateway);
  const udp = { "full cone": `snat to ${publicAddress}:${NODE_PORT}`, symmetric: "masquerade random" };
  const mapped = nat === "full cone" || nat === "symmetric" ? udp[nat] : "masquerade";
  const forwarded = `iif "wan" udp dport ${NODE_PORT} dnat to ${inside}:${NODE_PORT}`;
  router.run(
    "nft",
    `table ip nat {
      chain in { type nat hook prerouting priority dstnat; ${nat === "full cone" ? forwarded : ""}; }
      chain out { type nat hook postrouting priority srcnat;
        oif "wan" udp sport ${NODE_PORT} ${mapped}; oif "wan" ${mapped === udp.symmetric ? mapped : "masquerade"}; }
    }
    table ip filter {
      chain input { type filter hook input priority filter;
        # Else a stranger's packet would claim the mapping that ours needs a moment later.
        iif "wan" meta l4proto udp drop; }
      chain forward { type filter hook forward priority filter; ${nat === "no UDP" ? "meta l4proto udp drop" : ""}; }
      chain fault { type filter hook forward priority filter; }
    }`,
  );
  return {
    ...host,
    nat,
    publicAddress,
    blockUdp: () => void router.run("nft", "add rule ip filter fault meta l4proto udp drop"),
    healUdp: () => void router.run("nft", "flush chain ip filter fault"),
    close() {
      host.close();
      router.close();
    },
  };
}
