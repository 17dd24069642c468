import net from "node:net";
import { silentLog } from "../../src/base/log.ts";
import { memoryStore } from "../../src/base/store.ts";
import { MemoryCoordinationStore } from "../../src/coordination/store/memory-store.ts";
import { Gateway, type GatewayOptions } from "../../src/gateway/gateway.ts";
import type { MeshNodeOptions } from "../../src/mesh/node.ts";
import { Relay, type RelayOptions } from "../../src/server/relay.ts";
import { Server, type ServerOptions } from "../../src/server/server.ts";
import type { ServeConfig } from "../../src/wire/serve-config.ts";
import { listening } from "./listening.ts";

type Joining = Required<
  Pick<MeshNodeOptions, "controlUrl" | "localAddresses" | "log" | "store" | "hostname" | "authKey">
>;

/** A policy that lets everybody do everything; `web`: attributes of tag:web, as they stand in it. */
export const funnelPolicy = (
  web: string = '"attr": ["funnel"]',
  relay: string = '"sallyport.dev/ingress"',
): string => `{
  "tagOwners": { "tag:relay": [], "tag:web": [], "tag:db": [] },
  "acls": [{ "action": "accept", "src": ["*"], "dst": ["*:*"] }],
  "nodeAttrs": [
    { "target": ["tag:relay"], "attr": [${relay}] },
    { "target": ["tag:web"], ${web} },
  ],
}`;

/** One port of a name, straight to a backend here. */
export const publicTcp = (name: string, port: number, backend: number): ServeConfig => ({
  TCP: { [port]: { TCPForward: `127.0.0.1:${backend}` } },
  AllowFunnel: { [`${name}:${port}`]: true },
});

/** Does it bring visitors of this name to a gateway? */
export const brings = (relay: Relay, name: string, port: number = 443): boolean =>
  relay.names.find(name, port)?.peerApi !== undefined;

/** Our server, relays and gateways of one mesh on loopback; what was opened last is closed first. */
export class FunnelMesh {
  readonly server: Server;
  readonly #closers: (() => unknown)[] = [];

  private constructor(server: Server) {
    this.server = server;
    this.defer(() => server.close());
  }

  static async open(options: Partial<ServerOptions> = {}): Promise<FunnelMesh> {
    const stores = { store: new MemoryCoordinationStore(), state: memoryStore() };
    return new FunnelMesh(
      await Server.open({ ...stores, baseDomain: "tail.test", policy: funnelPolicy(), ...options }),
    );
  }

  defer(close: () => unknown): void {
    this.#closers.push(close);
  }

  async close(): Promise<void> {
    for (const close of this.#closers.splice(0).reverse()) await close();
  }

  /** What a node with this tag joins by. */
  async joining(tag: string, hostname: string = tag): Promise<Joining> {
    const { key } = await this.server.coordinator.createAuthKey({ tags: [`tag:${tag}`] }, "test");
    const { url: controlUrl } = this.server;
    const here = { localAddresses: () => ["127.0.0.1"], log: silentLog, store: memoryStore() };
    return { ...here, controlUrl, hostname, authKey: key };
  }

  /** Visitors come in at its first port, and mean 443. */
  async relay(options: Partial<RelayOptions> = {}): Promise<Relay> {
    const listeners = [{ address: "127.0.0.1", port: 0, publicPort: 443 }];
    const relay = await Relay.open({ ...(await this.joining("relay")), listeners, ...options });
    this.defer(() => relay.close());
    await relay.node.ready();
    return relay;
  }

  async gateway(options: Partial<GatewayOptions> = {}): Promise<Gateway> {
    const gateway = await Gateway.open({ ...(await this.joining("web")), allowsLoopbackVisitors: true, ...options });
    this.defer(() => gateway.close());
    await gateway.node.ready();
    return gateway;
  }

  /** Gives the port. */
  async listen(server: net.Server): Promise<number> {
    this.defer(() => server.close());
    return listening(server);
  }

  /** A backend that says what it hears; gives its port. */
  echo(): Promise<number> {
    return this.listen(net.createServer((socket) => void socket.on("error", () => undefined).pipe(socket)));
  }
}
