import { createHash } from "node:crypto";
import { FakeClock } from "../base/clock.ts";
import { Fault } from "../base/fault.ts";
import { type Log, silentLog } from "../base/log.ts";
import { type Random, seededRandom } from "../base/random.ts";
import { memoryStore } from "../base/store.ts";
import type { Coordinator } from "../coordination/coordinator.ts";
import { compilePolicy } from "../coordination/policy/policy.ts";
import { MeshNode, type MeshNodeOptions } from "../mesh/node.ts";
import { App, type Backend, BackendDoor, type OpenGateway, type ServeOptions, serveConfig } from "./app.ts";
import { Host, type HostOptions, Internet } from "./internet.ts";
import type { LibraryNode, NodeOptions, TestNode, TestnetOptions, TestUser } from "./members.ts";
import { CONTROL_URL, DERP, MeshServer, SERVER_ADDRESS } from "./mesh-server.ts";
import { Pace } from "./pace.ts";

/** What stands on the same floor or above it, and is therefore given. */
export interface Surroundings {
  readonly openGateway: OpenGateway;
  readonly nodeOf: (mesh: MeshNode, ca: () => readonly string[]) => LibraryNode;
}

const BY = "testnet";
const SPREAD_MS = 1000;

/** Server, internet and clock of one mesh in memory; nodes and apps are added to it. */
export class Testnet {
  readonly clock: FakeClock;
  readonly internet: Internet;
  readonly #surroundings: Surroundings;
  readonly #seed: number;
  readonly #named: Map<string, number> = new Map();
  readonly #log: Log;
  readonly #server: MeshServer;
  readonly #pace: Pace;
  readonly #doors: Set<BackendDoor> = new Set();
  readonly #members: Set<{ close(): Promise<void> }> = new Set();
  readonly #authorities: string[] = [];

  private constructor(options: TestnetOptions, surroundings: Surroundings) {
    const { seed = 1, startTime = Date.now(), log = silentLog, baseDomain = "tail.test" } = options;
    this.#surroundings = surroundings;
    this.#seed = seed;
    this.#log = log;
    this.clock = new FakeClock(startTime);
    this.internet = new Internet(this.clock, seed);
    const { clock, internet } = this;
    this.#pace = new Pace({
      clock,
      events: () => internet.events,
      nextArrival: () => internet.nextArrival,
      isOutsideBusy: () => [...this.#doors].some((door) => door.isBusy()),
    });
    internet.onSend = () => this.#pace.poke();
    this.#server = new MeshServer({
      internet,
      clock,
      random: this.#randomOf("server"),
      log: log.with("server"),
      baseDomain,
    });
  }

  static async open(options: TestnetOptions, surroundings: Surroundings): Promise<Testnet> {
    const net = new Testnet(options, surroundings);
    try {
      await net.startServer();
      for (const user of options.users ?? []) await net.addUser(user);
      if (options.policy !== undefined) await net.setPolicy(options.policy);
    } catch (error) {
      await net.close();
      throw error;
    }
    return net;
  }

  /** The coordination server, for everything that an administrator does. */
  get coordinator(): Coordinator {
    const { coordinator } = this.#server;
    if (coordinator !== undefined) return coordinator;
    throw new Fault("TESTNET_SERVER_STOPPED", "Cannot ask the server: found it stopped", {
      hint: "Call startServer().",
    });
  }

  async addUser(user: string | TestUser): Promise<void> {
    const { login, name, picture } = typeof user === "string" ? { login: user } : user;
    const shown = { ...(name === undefined ? {} : { displayName: name }) };
    await this.coordinator.createUser(
      { login, ...shown, ...(picture === undefined ? {} : { profilePicture: picture }) },
      BY,
    );
  }

  /** With all nodes of that user; settles when the others know it. */
  async removeUser(login: string): Promise<void> {
    await this.coordinator.deleteUser(login, BY);
    await this.#spread();
  }

  /**
   * Settles when the nodes know it.
   * @throws {Fault} POLICY_*, with line and column; then nothing changes
   */
  async setPolicy(policy: string | object): Promise<void> {
    const source = typeof policy === "string" ? policy : JSON.stringify(policy, undefined, 2);
    const users = this.coordinator.users().map(({ login }) => login);
    const engine = compilePolicy(source, { users, nodes: this.coordinator.policyNodes() });
    await this.coordinator.setPolicy(engine, source, BY);
    await this.#spread();
  }

  /** A node of a user, or a tagged one; settles when it has joined. */
  async node(options: NodeOptions): Promise<TestNode> {
    const { user, tags } = options;
    const hostname = options.hostname ?? user?.split("@")[0] ?? tags?.[0]?.slice("tag:".length) ?? "node";
    const host = this.#host(options.host);
    const settings = await this.#settings(hostname, { user, tags }, host);
    const mesh = await MeshNode.open({ ...settings, ...(options.store === undefined ? {} : { store: options.store }) });
    const inner = this.#surroundings.nodeOf(mesh, () => this.#authorities);
    this.#members.add(inner);
    await this.#joined(mesh);
    const waited = <T>(promise: Promise<T>): Promise<T> => this.#pace.until(promise);
    return {
      get name() {
        return inner.name;
      },
      get addresses() {
        return inner.addresses;
      },
      host,
      mesh,
      listen: (port, accept) => inner.listen(port, accept),
      dial: (target) => waited(inner.dial(target)),
      fetch: (url, init) => waited(inner.fetch(url, init)),
      whois: (stream) => inner.whois(stream),
      ping: (name) => waited(inner.ping(name)),
      status: () => inner.status(),
      close: () => this.#leave(inner),
    };
  }

  /** Puts a gateway with real identity headers before `backend`; settles when it has joined. */
  async serve(backend: Backend, options: ServeOptions = {}): Promise<App> {
    const { hostname = "app", user, tags = ["tag:app"] } = options;
    const host = this.#host(options.host);
    const door = new BackendDoor(backend, this.internet);
    const settings = await this.#settings(hostname, user === undefined ? { tags } : { user }, host);
    const gateway = await this.#surroundings.openGateway({ ...settings, dialBackend: door.dial });
    const member = {
      close: async () => {
        this.#doors.delete(door);
        door.close();
        await gateway.close();
      },
    };
    this.#members.add(member);
    this.#doors.add(door);
    await this.#joined(gateway.node);
    gateway.declare(serveConfig(gateway.name, door.target, options));
    if (options.https === true) {
      await gateway.certificates.certificate(gateway.name); // now: it takes real time, and the first request none
      this.#authorities.push(await gateway.certificates.authority());
    }
    return new App(gateway, host, () => this.#leave(member));
  }

  /** Of each member its own: who draws first must not decide what the others get. */
  #randomOf(name: string): Random {
    const count = (this.#named.get(name) ?? 0) + 1;
    this.#named.set(name, count);
    const digest = createHash("sha256").update(`${this.#seed} ${name} ${count}`).digest();
    return seededRandom(digest.readUInt32LE());
  }

  #host(host: Host | HostOptions | undefined): Host {
    return host instanceof Host ? host : this.internet.host(host);
  }

  async #settings(
    hostname: string,
    owner: { readonly user?: string | undefined; readonly tags?: readonly string[] | undefined },
    host: Host,
  ): Promise<MeshNodeOptions> {
    const { user, tags } = owner;
    if (user !== undefined && !this.coordinator.users().some(({ login }) => login === user)) await this.addUser(user);
    const { key } = await this.coordinator.createAuthKey(
      { ...(user === undefined ? {} : { user }), ...(tags === undefined ? {} : { tags }), reusable: true },
      BY,
    );
    return {
      controlUrl: CONTROL_URL,
      authKey: key,
      hostname,
      store: memoryStore(),
      log: this.#log.with(hostname),
      clock: this.clock,
      random: this.#randomOf(hostname),
      connect: (_url, signal) => host.connect({ address: SERVER_ADDRESS, port: 80 }, signal),
      connectDerp: (_region, signal) => host.connect(DERP, signal),
      openUdp: async (table) => host.openUdp(table, () => this.clock.now()),
      localAddresses: () => [host.address],
    };
  }

  /** Settles when the node knows the mesh and the mesh the node. */
  async #joined(mesh: MeshNode): Promise<void> {
    await this.#pace.until(mesh.ready());
    await this.#spread();
  }

  /** A change reaches every connected node within a second. */
  async #spread(): Promise<void> {
    if (this.#members.size > 0) await this.#pace.advance(SPREAD_MS);
  }

  async #leave(member: { close(): Promise<void> }): Promise<void> {
    this.#members.delete(member);
    await member.close();
  }

  /** Moves time on; settles when everything of that time has happened. */
  advance(ms: number): Promise<void> {
    return this.#pace.advance(ms);
  }

  /** Waits for something of this mesh while time moves as fast as it can. */
  until<T>(promise: Promise<T>): Promise<T> {
    return this.#pace.until(promise);
  }

  /** The server's process ends: no coordination, no relay. What it knows is kept. */
  stopServer(): Promise<void> {
    return this.#server.stop();
  }

  async startServer(): Promise<void> {
    await this.#server.start();
  }

  async close(): Promise<void> {
    for (const member of this.#members) await member.close();
    this.#members.clear();
    await this.#server.stop();
    await this.#pace.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
