import { spawnSync } from "node:child_process";
import { availableParallelism, cpus, loadavg, release } from "node:os";
import { findPeer } from "../test/peers.ts";

const VERSIONS: readonly (readonly [peer: string, ...args: string[]])[] = [
  ["wireguard-go", "--version"],
  ["tailscaled", "--version"],
  ["nginx", "-v"],
  ["haproxy", "-v"],
  ["caddy", "version"],
];

/** What was measured on, in lines: a figure without it says little. A load above the cores spoils all of them. */
export function machine(): string {
  const load = loadavg()
    .map((value) => value.toFixed(1))
    .join(" ");
  const peers = VERSIONS.map(([name, ...args]) => {
    const binary = findPeer(name);
    if (binary === undefined) return `${name} missing`;
    const { stdout, stderr } = spawnSync(binary, args, { encoding: "utf8" });
    const version = /v?\d+\.\d+[\w.+-]*/.exec(stdout + stderr)?.[0];
    return `${name} ${version ?? "of unknown version"}`;
  });
  return [
    `${availableParallelism()} × ${cpus()[0]?.model.trim()}, Linux ${release()}, Node ${process.version}, load ${load}`,
    peers.join(", "),
  ].join("\n");
}
