import type { RequestInit, Response } from "undici";
import type { AddressPort } from "./base/address.ts";
import { directoryStore } from "./base/directory-store.ts";
import { asDuplex, type ConnDuplex } from "./base/duplex.ts";
import { Fault } from "./base/fault.ts";
import type { Log } from "./base/log.ts";
import { memoryStore } from "./base/store.ts";
import type { Caller } from "./identity/caller.ts";
import { MapCallers } from "./identity/map-callers.ts";
import { meshFetch } from "./mesh/fetch.ts";
import { MeshNode, type PeerStatus } from "./mesh/node.ts";
import { capabilitiesOf } from "./wire/capabilities.ts";
import type { CapMap } from "./wire/tailcfg.ts";

export interface CreateNodeOptions {
  /** URL of the coordination server. */
  readonly controlUrl: string;
  /** Without one, `onAuthUrl` is told what a person must open. */
  readonly authKey?: string;
  /** @default this machine's name */
  readonly hostname?: string;
  /** Folder for keys (0700). Absent: kept in memory, a new node each time. */
  readonly stateDir?: string;
  /** UDP port of the tunnel. @default any */
  readonly port?: number;
  readonly onAuthUrl?: (url: string) => void;
  readonly log?: Log;
  /** Ends the wait for the first network map. */
  readonly signal?: AbortSignal;
}

export interface MeshListener {
  readonly port: number;
  close(): void;
}

export interface Node {
  /** FQDN without the trailing dot. */
  readonly name: string;
  /** IPv4 first. */
  readonly addresses: readonly string[];
  /** Each connection is a stream fit for `tls`, `http` and `http2`; refused unless the policy admits it. */
  listen(port: number, accept: (stream: ConnDuplex) => void): MeshListener;
  /** `address` may be a name of the mesh. Throws a Fault: MESH_UNKNOWN_NAME, MESH_NO_PEER, TCPIP_REFUSED … */
  dial(target: AddressPort, options?: { readonly signal?: AbortSignal }): Promise<ConnDuplex>;
  /** `fetch` whose connections go over the mesh. */
  fetch(url: string | URL, init?: RequestInit): Promise<Response>;
  /** Who is on the other end of an accepted stream, and what the policy grants them here. */
  whois(stream: ConnDuplex): { readonly caller: Caller; readonly capabilities: CapMap };
  ping(name: string): Promise<{ readonly path: string; readonly latencyMs: number }>;
  status(): { readonly state: string; readonly peers: readonly PeerStatus[] };
  close(): Promise<void>;
}

/**
 * Joins a mesh and settles when the first network map is here.
 * @throws {Fault} CONTROL_REGISTER_REFUSED, MESH_NOT_JOINED, STATE_UNWRITABLE …
 */
export async function createNode(options: CreateNodeOptions): Promise<Node> {
  const { stateDir, signal, authKey, ...rest } = options;
  const store = stateDir === undefined ? memoryStore() : await directoryStore(stateDir);
  const refused = new AbortController();
  let why: Fault | undefined;
  const mesh = await MeshNode.open({
    ...rest,
    ...(authKey === undefined ? {} : { authKey: authKey.trim() }), // of a file, with its line end
    store,
    onRefused: (reason) => {
      const hint = "Check the auth key, or log in interactively.";
      why = new Fault("CONTROL_REGISTER_REFUSED", `Cannot join the mesh: the server says "${reason}"`, { hint });
      refused.abort();
    },
  });
  mesh.onState((state) => {
    if (state.kind === "backing-off") why ??= state.fault;
  });
  const node = nodeOf(mesh);
  try {
    await mesh.ready(AbortSignal.any([refused.signal, ...(signal === undefined ? [] : [signal])]));
  } catch (error) {
    await node.close();
    if (refused.signal.aborted) throw why;
    if (why === undefined || !(error instanceof Fault)) throw error;
    throw new Fault(error.code, `${error.message}: ${why.message}`, { cause: why });
  }
  return node;
}

/** The public face of a node that was opened; `ca`: PEM certificates that its `fetch` trusts instead of the system's. */
export function nodeOf(mesh: MeshNode, ca?: () => readonly string[]): Node {
  const capabilities = (source: string, destination: string): CapMap =>
    capabilitiesOf(mesh.map?.packetFilter ?? [], source, destination);
  const callers = new MapCallers(capabilities);
  mesh.onMap((map) => callers.setMap(map));
  const web = meshFetch({ dial: (target, how) => mesh.dial(target, how), ...(ca === undefined ? {} : { ca }) });
  return {
    get name() {
      return mesh.map?.self.Name.replace(/\.$/, "") ?? "";
    },
    get addresses() {
      return mesh.addresses;
    },
    listen(port, accept) {
      if (Number.isInteger(port) && port > 0 && port < 65_536)
        return mesh.listen(port, (conn) => accept(asDuplex(conn)));
      throw new Fault("MESH_BAD_PORT", `Cannot listen on TCP port ${port}: wanted 1 to 65535`);
    },
    dial: async (target, how) => asDuplex(await mesh.dial(target, how)),
    fetch: (url, init) => web.fetch(url, init),
    whois(stream) {
      const caller = callers.of(stream.proof, 0);
      if (caller instanceof Fault) throw caller;
      const isKnown = caller.kind === "user" || caller.kind === "tagged";
      return { caller, capabilities: isKnown ? capabilities(caller.address, stream.localAddress) : {} };
    },
    ping: (name) => mesh.ping(name),
    status: () => ({ state: mesh.state.kind, peers: mesh.peerStatus() }),
    async close() {
      await web.close();
      await mesh.close();
    },
  };
}
