import http from "node:http";
import net from "node:net";
import { vi } from "vitest";
import { memoryStore } from "../../src/base/store.ts";
import type { Gateway } from "../../src/gateway/gateway.ts";
import type { Relay } from "../../src/server/relay.ts";
import { ChaosSide, partOf, type SidePlan } from "./chaos-side.ts";
import { makeHello } from "./client-hellos.ts";
import { CountingClock } from "./counting-clock.ts";
import { FunnelMesh, funnelPolicy } from "./funnel-mesh.ts";
import { MortalNode } from "./mortal-node.ts";

export const NAME = "web.tail.test";
export const HELLO: Buffer = makeHello({ name: NAME });
const WAIT = { timeout: 30_000, interval: 10 };
const WEB = '"attr": ["funnel", "https"]';
/** How many visitors fit; more than ever come at once. */
export const ROOM = 40;
const LIMITS = { helloMs: 700, visitorOpen: ROOM, visitorPending: ROOM, nameOpen: ROOM };
/** Both know nothing of the other's death for so long. */
const KEEPALIVE = { idleMs: 1000, intervalMs: 300, probes: 5 };

/** Ports as visitors mean them: bytes as they come, bytes out of TLS, a website, and HTTP that is only sent on. */
export const DOORS = { raw: 443, inner: 10_000, web: 8443, plain: 80 } as const;

/** A visit as the backend needs it. */
export interface Expected {
  readonly number: number;
  readonly back: SidePlan;
  guest?: ChaosSide;
  /** The backend said all of it. */
  isPageWhole?: boolean;
}

/** The first line of every conversation. */
export const lineOf = (number: number): string => `visit ${String(number).padStart(8, "0")}\n`;
const LINE_BYTES = lineOf(0).length;

interface Incarnation<T> {
  readonly is: T;
  readonly clock: CountingClock;
  readonly mortal: MortalNode;
}

/** A mesh with one relay and one gateway, that can be hurt in every way. */
export class ChaosWorld {
  readonly mesh: FunnelMesh;
  readonly expected: Map<number, Expected> = new Map();
  readonly #stores = { relay: memoryStore(), gateway: memoryStore() };
  readonly #sockets: Set<net.Socket> = new Set();
  readonly #dead: CountingClock[] = [];
  readonly #backends: Record<"raw" | "inner" | "web", number> = { raw: 0, inner: 0, web: 0 };
  #isBackendDead = false;
  #relay!: Incarnation<Relay>;
  #gateway!: Incarnation<Gateway>;

  private constructor(mesh: FunnelMesh) {
    this.mesh = mesh;
  }

  static async open(): Promise<ChaosWorld> {
    const world = new ChaosWorld(await FunnelMesh.open({ policy: funnelPolicy(WEB) }));
    await world.#openBackends();
    await world.#startRelay();
    await world.#startGateway();
    await world.setPublic(true);
    return world;
  }

  close(): Promise<void> {
    return this.mesh.close();
  }

  portOf(door: keyof typeof DOORS): number {
    return this.#relay.is.ports[Object.keys(DOORS).indexOf(door)]!;
  }

  async #startRelay(): Promise<void> {
    const clock = new CountingClock();
    const mortal = new MortalNode();
    const listeners = Object.values(DOORS).map((publicPort) => ({
      ...{ address: "127.0.0.1", port: 0, publicPort, isPlain: publicPort === DOORS.plain },
    }));
    const store = this.#stores.relay;
    const options = { listeners, store, clock, limits: LIMITS, keepalive: KEEPALIVE, ...mortal };
    this.#relay = { is: await this.mesh.relay(options), clock, mortal };
  }

  async #startGateway(): Promise<void> {
    const clock = new CountingClock();
    const mortal = new MortalNode();
    const store = this.#stores.gateway;
    const options = { store, clock, keepalive: KEEPALIVE, ...mortal };
    this.#gateway = { is: await this.mesh.gateway(options), clock, mortal };
  }

  async #openBackends(): Promise<void> {
    const taken = (socket: net.Socket): void => {
      this.#sockets.add(socket);
      socket.on("error", () => void socket.destroy()).once("close", () => this.#sockets.delete(socket));
      if (this.#isBackendDead) socket.resetAndDestroy();
    };
    const tcp = (skipped: number): net.Server =>
      net.createServer({ allowHalfOpen: true }, (socket) => {
        taken(socket);
        this.#takeLine(socket, skipped);
      });
    const web = http.createServer((request, response) => this.#page(request, response));
    web.keepAliveTimeout = 100; // kept connections are not the visitors'
    web.on("connection", taken);
    web.on("upgrade", (request: http.IncomingMessage, socket: net.Socket, head: Buffer) => {
      const visit = this.expected.get(Number(request.url?.split("/")[2]));
      if (visit === undefined) return void socket.destroy();
      socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chaos\r\n\r\n");
      this.#converse(visit, socket, head);
    });
    this.#backends.raw = await this.mesh.listen(tcp(HELLO.length));
    this.#backends.inner = await this.mesh.listen(tcp(0));
    this.#backends.web = await this.mesh.listen(web);
  }

  #takeLine(socket: net.Socket, skipped: number): void {
    let head = Buffer.alloc(0);
    const onData = (chunk: Buffer): void => {
      head = Buffer.concat([head, chunk]);
      if (head.length < skipped + LINE_BYTES) return;
      socket.off("data", onData).off("end", onEnd).pause();
      const visit = this.expected.get(Number(head.toString("latin1", skipped, skipped + LINE_BYTES).slice(6)));
      if (visit === undefined) socket.destroy();
      else this.#converse(visit, socket, head.subarray(skipped + LINE_BYTES));
    };
    const onEnd = (): void => void socket.destroy();
    socket.on("data", onData).once("end", onEnd);
  }

  #converse(visit: Expected, socket: net.Socket, first: Buffer): void {
    visit.guest = new ChaosSide(socket, socket, visit.back, 2 * visit.number + 1, 2 * visit.number);
    visit.guest.start(first);
  }

  #page(request: http.IncomingMessage, response: http.ServerResponse): void {
    const visit = this.expected.get(Number(request.url?.split("/")[2]));
    if (visit === undefined) return void response.writeHead(404).end();
    const { bytes, ending } = visit.back;
    const isMeasured = visit.number % 2 === 0;
    response.writeHead(200, isMeasured ? { "Content-Length": bytes } : {});
    const most = 32 * 1024;
    let at = 0;
    const say = (error?: Error | null): void => {
      if (error != null || response.destroyed) return;
      if (ending === "reset" && at >= bytes / 2) return void request.socket.resetAndDestroy();
      const length = Math.min(most, bytes - at);
      at += length;
      if (isMeasured && at === bytes) visit.isPageWhole = true;
      if (length > 0) return void response.write(partOf(2 * visit.number + 1, at - length, length), say);
      visit.isPageWhole = true;
      response.end();
    };
    say();
  }

  // ——— what may happen ———

  /** The switch of the name. */
  async setPublic(isOn: boolean): Promise<void> {
    const { raw, inner, web } = this.#backends;
    const gateway = this.#gateway.is;
    await gateway.setServeConfig({
      TCP: {
        [DOORS.raw]: { TCPForward: `127.0.0.1:${raw}` },
        [DOORS.inner]: { TCPForward: `127.0.0.1:${inner}`, TerminateTLS: NAME },
        [DOORS.web]: { HTTPS: true },
      },
      Web: { [`${NAME}:${DOORS.web}`]: { Handlers: { "/": { Proxy: `http://127.0.0.1:${web}` } } } },
      AllowFunnel: isOn
        ? Object.fromEntries([DOORS.raw, DOORS.inner, DOORS.web].map((port) => [`${NAME}:${port}`, true]))
        : {},
    });
    await this.#settled(isOn);
  }

  async #settled(isOn: boolean): Promise<void> {
    await vi.waitUntil(() => (this.#relay.is.names.find(NAME, DOORS.web)?.peerApi !== undefined) === isOn, WAIT);
  }

  readonly blows: Readonly<Record<string, () => Promise<void>>> = {
    "the name goes off and on": async () => {
      await this.setPublic(false);
      await this.setPublic(true);
    },
    "the relay loses its map entry": async () => {
      await this.mesh.server.setPolicy(funnelPolicy('"attr": []'), "test");
      await this.#settled(false);
      await this.mesh.server.setPolicy(funnelPolicy(WEB), "test");
      await this.#settled(true);
    },
    "the relay is no ingress any more, for a while": async () => {
      await this.mesh.server.setPolicy(funnelPolicy(WEB, ""), "test");
      await this.#settled(false);
      await this.mesh.server.setPolicy(funnelPolicy(WEB), "test");
      await this.#settled(true);
    },
    "the gateway is restarted": () => this.#restart(this.#gateway, () => this.#startGateway(), false),
    "the gateway is killed": () => this.#restart(this.#gateway, () => this.#startGateway(), true),
    "the relay is restarted": () => this.#restart(this.#relay, () => this.#startRelay(), false),
    "the relay is killed": () => this.#restart(this.#relay, () => this.#startRelay(), true),
    "the backends die": async () => {
      this.#isBackendDead = true;
      for (const socket of this.#sockets) socket.resetAndDestroy();
      await new Promise((resolve) => setTimeout(resolve, 50));
      this.#isBackendDead = false;
    },
  };

  async #restart(was: Incarnation<Gateway | Relay>, start: () => Promise<void>, isKilled: boolean): Promise<void> {
    if (isKilled) was.mortal.die();
    await was.is.close();
    this.#dead.push(was.clock);
    await start();
    await this.#settled(true);
  }

  // ——— what must be left: nothing ———

  /** Everything that counts somebody who is here. */
  async left(): Promise<Record<string, number>> {
    const relay = this.#relay.is;
    const gateway = this.#gateway.is;
    const stack = ({ node }: Relay | Gateway): number => {
      const { connections = 0, timeWait = 0 } = node.counters["netstack"]!;
      return connections - timeWait;
    };
    const metrics = await gateway.metrics.text();
    return {
      "open at the relay": relay.ingress.open,
      "pending at the relay": relay.ingress.pending,
      "visits at the gateway": Number(/^sallyport_funnel_visitors (\d+)$/m.exec(metrics)?.[1]),
      "connections of the relay's stack": stack(relay),
      "connections of the gateway's stack": stack(gateway),
      "handshakes of TLS": gateway.proxy.handshakes,
      "sockets of the backends": this.#sockets.size,
      "alarms of who is closed": this.#dead.reduce((sum, { pending }) => sum + pending, 0),
    };
  }

  /** Alarms of those who are here; they have some of their own. */
  get alarms(): number {
    return this.#relay.clock.pending + this.#gateway.clock.pending;
  }
}
