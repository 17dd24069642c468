import { writeFileSync } from "node:fs";
import { memoryStore } from "../../src/base/store.ts";
import { MemoryCoordinationStore } from "../../src/coordination/store/memory-store.ts";
import { Server, type ServerOptions } from "../../src/server/server.ts";
import { type ReachablePebble, startReachablePebble } from "./reachable-pebble.ts";
import { StockMesh } from "./stock-mesh.ts";

/** The machines of a `StockMesh` around our server, in this process and at its `url`, instead of Headscale. */
export class ServerMesh extends StockMesh {
  #server: Server | undefined;
  readonly #closers: (() => unknown)[] = [];

  get server(): Server {
    if (this.#server === undefined) throw new Error("the server is not open yet");
    return this.#server;
  }

  /** The bridge, and the server, which knows Alice and Bob. */
  async openServer(options: Partial<ServerOptions> = {}): Promise<Server> {
    this.openBridge();
    const stores = { store: new MemoryCoordinationStore(), state: memoryStore() };
    const where = { address: this.address, port: 8080, baseDomain: "tail.test" };
    const server = await Server.open({ ...stores, ...where, ...options });
    this.#server = server;
    this.defer(() => server.close());
    for (const login of ["alice@example.com", "bob@example.com"]) {
      await server.coordinator.createUser({ login }, "test");
    }
    return server;
  }

  /**
   * The same for nodes below tail.mesh.example, with a CA that asks the server's public zone, as the world would by the
   * NS record of the parent zone. What the CA issues ends at `root.pem` in the scratch folder.
   */
  async openServerAndCa(options: Partial<ServerOptions>): Promise<ReachablePebble> {
    const { address, scratch } = this;
    const publicZone = { zone: "mesh.example", nameServer: "ns1.mesh.example", address, port: 0 };
    const server = await this.openServer({ baseDomain: "tail.mesh.example", publicZone, ...options });
    const dnsServer = `${address}:${server.publicZone!.port}`;
    const pebble = await startReachablePebble({ folder: `${scratch}/pebble`, address, dnsServer });
    this.defer(() => pebble.stop());
    writeFileSync(`${scratch}/root.pem`, await pebble.issuedRoot());
    return pebble;
  }

  /** A key of a user's, by his login, or of a tag. */
  async keyFor(owner: string, reusable: boolean = false): Promise<string> {
    const of = owner.startsWith("tag:") ? { tags: [owner] } : { user: owner };
    return (await this.server.coordinator.createAuthKey({ ...of, reusable }, "test")).key;
  }

  /** What ends with the mesh: what came last first, after its machines and before its server. */
  defer(close: () => unknown): void {
    this.#closers.push(close);
  }

  override async close(): Promise<void> {
    super.close();
    for (const close of this.#closers.splice(0).reverse()) await close();
  }
}
