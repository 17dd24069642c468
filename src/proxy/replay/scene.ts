import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { systemClock } from "../../base/clock.ts";
import type { Proof } from "../../base/conn.ts";
import { connPair } from "../../base/conn-pair.ts";
import { asDuplex } from "../../base/duplex.ts";
import { Fault } from "../../base/fault.ts";
import { silentLog } from "../../base/log.ts";
import { MapCallers } from "../../identity/map-callers.ts";
import { capabilitiesOf } from "../../wire/capabilities.ts";
import type { NetworkMap } from "../../wire/network-map.ts";
import type { HttpHandler, ServeConfig } from "../../wire/serve-config.ts";
import type { CapMap, FilterRule, Node } from "../../wire/tailcfg.ts";
import { ReverseProxy } from "../proxy.ts";
import { KEEP_MS, Recorder } from "./recorder.ts";

/** One line of `proxy.jsonl.gz`. */
export interface Case {
  readonly id: string;
  readonly peer: string;
  readonly group: string;
  readonly port: number;
  readonly send: readonly string[];
  readonly quiet?: number;
  readonly backendGot: readonly string[];
  readonly clientGot: string;
  readonly end: string;
}

/** What happened, in the same form. */
export interface Outcome {
  readonly served: boolean;
  readonly backendGot: readonly string[];
  readonly clientGot: string;
  readonly end: "open" | "closed";
}

const SELF = "100.64.0.1";
const PEERS: Readonly<Record<string, { key: string; address: string }>> = {
  alice: { key: "aa".repeat(32), address: "100.64.0.2" },
  ci: { key: "cc".repeat(32), address: "100.64.0.3" },
};

function grant(source: string, capMap: CapMap): FilterRule {
  return { SrcIPs: [source], CapGrant: [{ Dsts: [`${SELF}/32`], CapMap: capMap }] };
}

const APP = "example.com/cap/app";
const USUAL: readonly FilterRule[] = [grant("100.64.0.2", { [APP]: [{ action: ["*"], resources: ["*"] }] })];
/** Group `grants` of the README of the captures. */
const GRANTS: readonly FilterRule[] = [
  ...USUAL,
  grant("100.64.0.2", { [APP]: [{ action: ["read"], note: "café 名 <b>&" }] }),
  grant("100.64.0.2", { "example.com/cap/other": [1, "two", null, { three: [3] }] }),
  grant("*", { "example.com/cap/all": [] }),
  grant("100.64.0.3", { [APP]: [{ action: ["deploy"] }] }),
];

function node(id: number, name: string, key: string, address: string, tags: readonly string[] = []): Node {
  const common = { ID: id, StableID: `n${id}`, Name: `${name}.tail.test.`, User: id, Key: `nodekey:${key}` };
  return { ...common, Addresses: [`${address}/32`], Tags: tags };
}

const MAP: NetworkMap = {
  self: node(1, "gw", "01".repeat(32), SELF),
  peers: new Map([
    [2, node(2, "alice", PEERS["alice"]!.key, PEERS["alice"]!.address)],
    [3, node(3, "ci", PEERS["ci"]!.key, PEERS["ci"]!.address, ["tag:ci"])],
  ]),
  users: new Map([
    [
      2,
      {
        ID: 2,
        LoginName: "alice@example.com",
        DisplayName: "Alíce Exämple",
        ProfilePicURL: "https://example.com/a.png",
      },
    ],
  ]),
  derpMap: { Regions: {} },
  dns: {},
  packetFilter: [],
  domain: "tail.test",
  health: [],
};

/** The folder behind the Path handlers, as the README describes it. */
export function createFolder(): { root: string; remove: () => void } {
  const root = mkdtempSync(path.join(os.tmpdir(), "sallyport-replay-"));
  const files = { file: "filebody\n", "dir/a.txt": "alpha\n", "dir/.hidden": "hidden\n", "dir/sub/b.txt": "beta\n" };
  mkdirSync(path.join(root, "dir/sub"), { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(path.join(root, name), text);
  const at = new Date(Date.UTC(2026, 10, 21, 11, 22, 43));
  for (const name of [...Object.keys(files), "dir/sub", "dir"]) utimesSync(path.join(root, name), at, at);
  return { root, remove: () => rmSync(root, { recursive: true, force: true }) };
}

/** Stock's captures name every scratch path `/scratch`; mounts with a final slash were the folder. */
function withFolder(config: ServeConfig, root: string): ServeConfig {
  const moved = ([point, handler]: [string, HttpHandler]): [string, HttpHandler] =>
    handler.Path === undefined
      ? [point, handler]
      : [point, { ...handler, Path: path.join(root, point.endsWith("/") ? "dir" : "file") }];
  const web = Object.entries(config.Web ?? {}).map(
    ([name, { Handlers }]) =>
      [name, { Handlers: Object.fromEntries(Object.entries(Handlers ?? {}).map(moved)) }] as const,
  );
  return { ...config, Web: Object.fromEntries(web) };
}

export async function play(
  one: Case,
  setup: ServeConfig,
  answers: Readonly<Record<string, string>>,
  folder: string,
  patience: number,
): Promise<Outcome> {
  const peer = PEERS[one.peer];
  if (peer === undefined)
    throw new Fault("REPLAY_PEER", `Cannot play "${one.id}": peer ${one.peer}, wanted alice or ci`);
  const rules = one.group === "grants" ? GRANTS : USUAL;
  const callers = new MapCallers((source, destination) => capabilitiesOf(rules, source, destination));
  callers.setMap(MAP);
  const recorder = await Recorder.listen(answers, patience);
  const config = withFolder(setup, folder);
  const proxy = new ReverseProxy({
    config: () => config,
    selfName: () => "gw.tail.test",
    callers,
    secureContext: async () => new Fault("REPLAY_NO_TLS", "Cannot serve TLS: the captures have none"),
    log: silentLog,
    clock: systemClock,
    // Port 3000 and the socket are the recorder; 3999 is a port that nobody listens on.
    dialBackend: (place) =>
      net.connect({
        host: "127.0.0.1",
        port: "port" in place && place.port !== 3000 ? 1 : recorder.port,
        allowHalfOpen: true,
      }),
  });
  const proof: Proof = {
    kind: "mesh",
    nodeKey: peer.key,
    source: { address: peer.address, port: 40_000 },
    destination: { address: SELF, port: one.port },
  };
  const [near, far] = connPair(proof);
  const client = asDuplex(near);
  let clientGot = "";
  let end: Outcome["end"] = "open";
  let last = performance.now();
  client.on("data", (chunk: Buffer) => {
    clientGot += chunk.toString("latin1");
    last = performance.now();
  });
  client.on("end", () => (end = "closed"));
  client.on("error", () => (end = "closed"));
  client.on("close", () => (end = "closed"));
  const served = proxy.serves(one.port);
  try {
    proxy.accept(far, one.port);
    for (const part of one.send) {
      if (!client.writable) break;
      client.write(Buffer.from(part, "latin1"));
      last = performance.now();
      await delay(60 * patience);
    }
    // The captures' recorder kept a connection for 1.2 s, from its start.
    const quietMs = patience * (one.quiet === undefined ? 120 : one.quiet > 1.2 ? KEEP_MS + 120 : KEEP_MS - 40);
    while (performance.now() - last < quietMs) await delay(10);
    return { served, backendGot: recorder.connections, clientGot, end };
  } finally {
    client.destroy();
    await proxy.close();
    recorder.close();
  }
}
