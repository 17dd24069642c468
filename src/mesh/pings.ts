import { request } from "node:http";
import { formatAddressPort, parseAddress } from "../base/address.ts";
import type { Clock } from "../base/clock.ts";
import { asDuplex } from "../base/duplex.ts";
import { Fault } from "../base/fault.ts";
import type { Node } from "../wire/tailcfg.ts";
import type { DataPlane } from "./data-plane.ts";

const AGAIN_MS = 1000;
const DEFAULT_TIMEOUT_MS = 5000;

/** As upstream names them on the wire (`tailcfg.PingType`). */
export type PingKind = "disco" | "TSMP" | "ICMP" | "peerapi";

export interface PingOptions {
  /** @default "disco": between the nodes' sockets. TSMP: through the tunnel. ICMP: the peer's IP stack. */
  readonly kind?: PingKind;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

export interface PingReport {
  /** `ip:port` or `derp <region>`: the way that the answer to a disco ping took; the present one for the others. */
  readonly path: string;
  readonly latencyMs: number;
  readonly peerApiPort?: number;
  readonly peerApiUrl?: string;
}

type Answer = Omit<PingReport, "path"> & { readonly path?: string };

/** Pings a peer in any of the four ways; what gets lost is sent again each second. */
export async function ping(
  plane: DataPlane,
  clock: Clock,
  target: { readonly name: string; readonly address: string },
  options: PingOptions = {},
): Promise<PingReport> {
  const { kind = "disco", timeoutMs = DEFAULT_TIMEOUT_MS, signal } = options;
  const peer = plane.peerFor(target.address);
  const node = plane.nodeAt(target.address);
  const cannot = (code: string, why: string) => new Fault(code, `Cannot ping "${target.name}": ${why}`);
  if (peer < 0 || node === undefined) throw cannot("MESH_NO_PEER", "it is no peer of this mesh");
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const end = clock.now() + timeoutMs;
  const abandoned = new AbortController();
  let cancel = () => {};
  const attempt = () => {
    const now = clock.now();
    if (now >= end) {
      reject(cannot("MESH_PING_TIMEOUT", "no answer in time"));
      return;
    }
    send(plane, kind, { peer, node, address: target.address }, end - now, abandoned.signal, resolve, reject);
    plane.wake();
    if (kind !== "peerapi")
      cancel = clock.at(Math.min(end, now + AGAIN_MS), attempt); // TCP repeats by itself
    else cancel = clock.at(end, attempt);
  };
  const abort = () => reject(cannot("MESH_PING_TIMEOUT", "given up"));
  signal?.addEventListener("abort", abort, { once: true });
  try {
    attempt();
    const answer = await promise;
    return { path: plane.describePath(plane.paths.best(peer, clock.now())), ...answer };
  } finally {
    cancel();
    abandoned.abort();
    signal?.removeEventListener("abort", abort);
  }
}

function send(
  plane: DataPlane,
  kind: PingKind,
  { peer, node, address }: { readonly peer: number; readonly node: Node; readonly address: string },
  leftMs: number,
  signal: AbortSignal,
  resolve: (answer: Answer) => void,
  reject: (error: unknown) => void,
): void {
  const now = plane.now();
  const bytes = parseAddress(address)!;
  switch (kind) {
    case "disco":
      plane.paths.ping(peer, now, ({ path, latencyMs }) => resolve({ path: plane.describePath(path), latencyMs }));
      return;
    case "TSMP": {
      const isSent = plane.tsmp.ping(bytes, peer, now, (latencyMs, port) =>
        resolve({ latencyMs, ...(port === 0 ? {} : { peerApiPort: port }) }),
      );
      if (!isSent) reject(new Fault("MESH_NO_ADDRESS", `Cannot ping "${address}": we have no address of that family`));
      return;
    }
    case "ICMP":
      plane.netstack.ping(bytes, { timeoutMs: leftMs }).then(
        (latencyMs) => resolve({ latencyMs }),
        () => {}, // the next attempt may have more luck
      );
      return;
    case "peerapi":
      askPeerApi(plane, node, address, signal).then(resolve, reject);
  }
}

/** The greeting of the peer's HTTP service in the tunnel (data-plane.md 6). */
async function askPeerApi(plane: DataPlane, node: Node, address: string, signal: AbortSignal): Promise<Answer> {
  const proto = address.includes(":") ? "peerapi6" : "peerapi4";
  const port = node.Hostinfo?.Services?.find((service) => service.Proto === proto)?.Port;
  if (port === undefined) throw new Fault("MESH_NO_PEERAPI", `Cannot ping "${address}": the node offers no peerapi`);
  const host = formatAddressPort({ address, port });
  const startedAt = plane.now();
  const stream = asDuplex(await plane.netstack.dialTcp({ address, port }, { signal }));
  try {
    const status = await new Promise<number>((resolve, reject) => {
      const head = request({
        method: "HEAD",
        path: "/",
        headers: { Host: host },
        createConnection: () => stream,
        signal,
      });
      head.on("response", (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      });
      head.on("error", reject);
      head.end();
    });
    if (status !== 200) throw new Fault("MESH_PEERAPI", `Cannot ping "${address}": found status ${status}, wanted 200`);
    return { latencyMs: plane.now() - startedAt, peerApiPort: port, peerApiUrl: `http://${host}` };
  } finally {
    stream.destroy();
  }
}
