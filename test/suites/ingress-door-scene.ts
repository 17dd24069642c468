import { once } from "node:events";
import net from "node:net";
import tls from "node:tls";
import { expect, onTestFinished } from "vitest";
import { FakeClock } from "../../src/base/clock.ts";
import type { Proof } from "../../src/base/conn.ts";
import { connPair } from "../../src/base/conn-pair.ts";
import { asDuplex, type ConnDuplex } from "../../src/base/duplex.ts";
import { silentLog } from "../../src/base/log.ts";
import { IngressDoor, type IngressDoorOptions } from "../../src/gateway/funnel/ingress-door.ts";
import { PeerApi } from "../../src/gateway/peer-api.ts";
import { MapCallers } from "../../src/identity/map-callers.ts";
import { ReverseProxy } from "../../src/proxy/proxy.ts";
import { capabilitiesOf } from "../../src/wire/capabilities.ts";
import type { ServeConfig } from "../../src/wire/serve-config.ts";
import type { FilterRule, Node } from "../../src/wire/tailcfg.ts";
import { listening } from "./listening.ts";
import { mapNode, networkMap } from "./network-map.ts";
import { certificateOf } from "./proxy-scene.ts";

const WAIT = { timeout: 20_000, interval: 2 };
export const NAME = "box.tail.test";
export const SECRET = "secret.tail.test";
const key = (digit: string): string => digit.repeat(64);
export const RELAY: string = key("9");
export const PEER: string = key("2");

const node = (ID: number, hex: string, address: string, more: Partial<Node> = {}): Node =>
  mapNode(ID, { Key: `nodekey:${hex}`, Addresses: [`${address}/32`], AllowedIPs: [`${address}/32`], ...more });

const GRANT: FilterRule = {
  SrcIPs: ["100.64.0.9"],
  CapGrant: [{ Dsts: ["100.64.0.5/32"], CapMap: { "https://tailscale.com/cap/ingress": null } }],
} as FilterRule;

export interface IngressDoorScene {
  config: ServeConfig;
  filter: readonly FilterRule[];
  readonly clock: FakeClock;
  /** As the map has it. */
  readonly relay: { Online?: boolean; Expired?: boolean };
  readonly door: IngressDoor;
  readonly proxy: ReverseProxy;
  /** A connection to our peerapi from the peer with that key, at that address. */
  connect(nodeKey?: string, address?: string): ConnDuplex;
  /** A visitor who was let in by the relay's request. */
  enter(text: string): Promise<ConnDuplex>;
  /** What the backend was sent, by connection. */
  readonly backend: { readonly port: number; readonly heard: string[]; readonly sockets: net.Socket[] };
}

/** A gateway of the mesh with its relay and another peer. */
export async function openIngressDoor(more: Partial<IngressDoorOptions> = {}): Promise<IngressDoorScene> {
  const backend: IngressDoorScene["backend"] = await openBackend();
  const clock = new FakeClock();
  const peers = [node(9, RELAY, "100.64.0.9", { Tags: ["tag:relay"] }), node(2, PEER, "100.64.0.2")];
  const map = networkMap(peers, {
    self: node(5, key("5"), "100.64.0.5"),
    users: new Map([[1, { ID: 1, LoginName: "alice@example.com", DisplayName: "Alice" }]]),
  });
  const callers = new MapCallers((source, destination) => capabilitiesOf(made.filter, source, destination));
  callers.setMap(map);
  const made = { config: openConfig(backend.port), filter: [GRANT] as readonly FilterRule[] };
  const proxy = new ReverseProxy({
    config: () => made.config,
    selfName: () => NAME,
    selfAddresses: () => ["100.64.0.5"],
    callers,
    secureContext: async (name) => tls.createSecureContext(await certificateOf(name)),
    log: silentLog,
    clock,
  });
  onTestFinished(() => proxy.close());
  const door = new IngressDoor({
    config: () => made.config,
    ownName: () => "box.tail.test",
    packetFilter: () => made.filter,
    peerByAddress: (address) => peers.find(({ Addresses }) => Addresses.includes(`${address}/32`)),
    accept: (conn, port) => proxy.accept(conn, port),
    clock,
    log: silentLog,
    ...more,
  });
  const api = new PeerApi({ addresses: () => ["100.64.0.5"], ingress: door, clock });
  onTestFinished(() => api.close());
  const connect = (nodeKey: string = RELAY, address: string = "100.64.0.9"): ConnDuplex => {
    const destination = { address: "100.64.0.5", port: 39291 };
    const proof: Proof = { kind: "mesh", nodeKey, source: { address, port: 40_000 }, destination };
    const [near, far] = connPair(proof);
    api.accept(far);
    const client = asDuplex(near);
    client.on("error", () => void client.destroy());
    onTestFinished(() => void client.destroy());
    return client;
  };
  const enter = async (text: string): Promise<ConnDuplex> => {
    const client = connect();
    client.write(text);
    let head = "";
    while (head.length < ACCEPTED.length) {
      const part = client.read(ACCEPTED.length - head.length) as Buffer | null;
      if (part === null) await once(client, "readable");
      else head += part.toString("latin1");
    }
    expect(head).toBe(ACCEPTED);
    return client;
  };
  return Object.assign(made, { enter, clock, relay: peers[0]!, door, proxy, connect, backend });
}

async function openBackend(): Promise<IngressDoorScene["backend"]> {
  const heard: string[] = [];
  const sockets: net.Socket[] = [];
  const server = net.createServer((socket) => {
    const index = sockets.push(socket) - 1;
    heard[index] = "";
    socket.on("error", () => undefined);
    socket.on("data", (chunk) => {
      heard[index] += chunk.toString("latin1");
      if (heard[index]!.startsWith("GET ") && heard[index]!.endsWith("\r\n\r\n")) {
        socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
      }
    });
  });
  const port = await listening(server);
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port, heard, sockets };
}

/** Public: 443 of NAME, raw 8443, ended TLS on 10000. Not public: SECRET on 443, port 22. */
function openConfig(backend: number): ServeConfig {
  const Handlers = { "/": { Proxy: `http://127.0.0.1:${backend}` } };
  return {
    TCP: {
      ...{ 443: { HTTPS: true }, 80: { HTTP: true }, 22: { TCPForward: `127.0.0.1:${backend}` } },
      8443: { TCPForward: `127.0.0.1:${backend}`, ProxyProtocol: 1 },
      10000: { TCPForward: `127.0.0.1:${backend}`, TerminateTLS: NAME, ProxyProtocol: 1 },
    },
    Web: { [`${NAME}:443`]: { Handlers }, [`${SECRET}:443`]: { Handlers }, [`${NAME}:80`]: { Handlers } },
    AllowFunnel: {
      ...{ [`${NAME}:443`]: true, [`${NAME}:8443`]: true, [`${NAME}:10000`]: true, [`${NAME}:80`]: true },
      ...{ [`${NAME}:22`]: false, [`${NAME}:9`]: true },
    },
  };
}

export const FIELDS: readonly string[] = [
  "Host: 100.64.0.5:39291",
  "Tailscale-Ingress-Src: 203.0.113.9:51514",
  `Tailscale-Ingress-Target: ${NAME}:443`,
  "Content-Length: 0",
];
export const EARLY = "Sallyport-Ingress-Early: ?1";
export const request = (fields: readonly string[] = FIELDS, line = "POST /v0/ingress HTTP/1.1"): string =>
  [line, ...fields, "", ""].join("\r\n");
export const withField = (name: string, value: string | undefined): string[] => [
  ...FIELDS.filter((field) => !field.startsWith(`${name}:`)),
  ...(value === undefined ? [] : [`${name}: ${value}`]),
];
export const forTarget = (target: string, source = "203.0.113.9:51514"): string =>
  request([
    "Host: 100.64.0.5:39291",
    `Tailscale-Ingress-Src: ${source}`,
    `Tailscale-Ingress-Target: ${target}`,
    "Content-Length: 0",
  ]);

/** All that comes until the end, or a cut. */
export async function answerTo(client: ConnDuplex, text: string): Promise<string> {
  let heard = "";
  client.on("data", (chunk: Buffer) => {
    heard += chunk.toString("latin1");
  });
  client.write(text);
  await expect
    .poll(() => client.readableEnded || client.destroyed || heard.startsWith("HTTP/1.1 101"), WAIT)
    .toBe(true);
  return heard;
}

export const ACCEPTED = "HTTP/1.1 101 Switching Protocols\r\n\r\n";

export async function visitorTls(
  client: ConnDuplex,
  servername: string,
  alpn: string[] = ["http/1.1"],
): Promise<tls.TLSSocket> {
  const secure = tls.connect({ socket: client, servername, ALPNProtocols: alpn, rejectUnauthorized: false });
  await once(secure, "secureConnect");
  return secure;
}

export async function get(secure: tls.TLSSocket, fields: readonly string[]): Promise<string> {
  secure.write(["GET / HTTP/1.1", ...fields, "", ""].join("\r\n"));
  let heard = "";
  secure.on("data", (chunk: Buffer) => {
    heard += chunk.toString("latin1");
  });
  await expect.poll(() => heard, WAIT).toMatch(/\r\n\r\n/);
  return heard;
}

/** In all that reached the backend nobody is anybody. */
export function heardNoIdentity({ backend }: IngressDoorScene): void {
  expect(backend.heard.join("")).not.toMatch(/tailscale-user|tailscale-app|sallyport-guest/i);
}
