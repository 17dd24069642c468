import net from "node:net";
import { memoryStore, type Store } from "../../src/base/store.ts";
import type { Gateway, GatewayOptions } from "../../src/gateway/gateway.ts";
import type { Relay, RelayOptions } from "../../src/server/relay.ts";
import type { ServeConfig } from "../../src/wire/serve-config.ts";
import { makeHello } from "./client-hellos.ts";
import { brings, FunnelMesh, funnelPolicy } from "./funnel-mesh.ts";
import { listening } from "./listening.ts";
import { type Typed, typedFunnel } from "./typed-command.ts";

export const PORT = 8443;
export const NAME = "web.tail.test";
export const HELLO: Buffer = makeHello({ name: NAME });
const SOON_MS = 60_000;
/** A visitor who was not answered in this time was not let in. */
const PATIENCE_MS = 2000;
/** So many visitors in a row are turned away before we believe it. */
const REFUSALS = 5;

/** A disk that can break: `before` each write. */
export interface Disk extends Store {
  before: (name: string) => unknown;
}

function breakableDisk(): Disk {
  const inner = memoryStore();
  return {
    before: () => undefined,
    get: inner.get,
    delete: inner.delete,
    async set(name, value) {
      await this.before(name);
      await inner.set(name, value);
    },
  };
}

/** A stranger. */
export interface Visit {
  readonly socket: net.Socket;
  readonly isOver: () => boolean;
  /** In hex. */
  readonly heard: () => string;
}

/** What came of `sallyport funnel … off`, in ms from its start. */
export interface SwitchedOff {
  readonly command: Typed;
  /** Infinity: it waits for what never comes. */
  readonly commandMs: number;
  /** The last visitor, and the last connection at the backend, are gone. */
  readonly cutMs: number;
  /** When the last new visitor was answered; 0: nobody was. */
  readonly letInMs: number;
}

export async function until(what: string, isSo: () => boolean): Promise<void> {
  const giveUp = performance.now() + SOON_MS;
  while (!isSo()) {
    if (performance.now() > giveUp) throw new Error(`Not within ${SOON_MS} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export interface OffSceneOptions {
  readonly gateway?: Partial<GatewayOptions>;
  readonly relay?: Partial<RelayOptions>;
}

/** Server, relay and a gateway with a public port, in one process on loopback; its backend says what it hears. */
export class OffScene {
  readonly mesh: FunnelMesh;
  readonly relay: Relay;
  readonly gateway: Gateway;
  readonly disk: Disk;
  readonly backend: number;
  /** Connections at the backend. */
  readonly callers: Set<net.Socket>;

  private constructor(parts: Pick<OffScene, "mesh" | "relay" | "gateway" | "disk" | "backend" | "callers">) {
    this.mesh = parts.mesh;
    this.relay = parts.relay;
    this.gateway = parts.gateway;
    this.disk = parts.disk;
    this.backend = parts.backend;
    this.callers = parts.callers;
  }

  static async open(options: OffSceneOptions = {}): Promise<OffScene> {
    const mesh = await FunnelMesh.open({ policy: offPolicy('"funnel", "https"') });
    const callers = new Set<net.Socket>();
    const server = net.createServer((socket) => {
      callers.add(socket);
      socket.on("error", () => undefined).once("close", () => callers.delete(socket));
      socket.on("data", (chunk: Buffer) => socket.write(chunk));
    });
    mesh.defer(() => {
      server.close();
      for (const socket of callers) socket.destroy();
    });
    const backend = await listening(server);
    const listeners = [{ address: "127.0.0.1", port: 0, publicPort: PORT }];
    const relay = await mesh.relay({ listeners, ...options.relay });
    const disk = breakableDisk();
    const gateway = await mesh.gateway({ store: disk, ...options.gateway });
    return new OffScene({ mesh, relay, gateway, disk, backend, callers });
  }

  close(): Promise<void> {
    return this.mesh.close();
  }

  /** `more`: what the configuration says beside what is to be taken back. It may be refused for it, and counts all the same. */
  async publish(more: Partial<ServeConfig> = {}): Promise<void> {
    const config: ServeConfig = {
      ...more,
      TCP: { ...more.TCP, [PORT]: { TCPForward: `127.0.0.1:${this.backend}` } },
      AllowFunnel: { ...more.AllowFunnel, [`${NAME}:${PORT}`]: true },
    };
    await this.gateway.setServeConfig(config).catch(() => undefined);
    await until("the name is public", () => brings(this.relay, NAME, PORT));
  }

  visit(): Visit {
    const socket = net.connect(this.relay.ports[0]!, "127.0.0.1");
    this.mesh.defer(() => void socket.destroy());
    let heard = "";
    let isOver = false;
    socket.on("error", () => undefined);
    socket.once("close", () => {
      isOver = true;
    });
    socket.on("data", (chunk: Buffer) => {
      heard += chunk.toString("hex");
    });
    socket.write(HELLO);
    return { socket, isOver: () => isOver, heard: () => heard };
  }

  /** Somebody who is here, and was answered. */
  async guest(): Promise<Visit> {
    const wanted = HELLO.toString("hex");
    for (;;) {
      const one = this.visit();
      await until("a visitor is answered", () => one.heard() === wanted || one.isOver());
      if (one.heard() === wanted) return one; // else the relay has not heard yet that the name is public
    }
  }

  /** Is a new visitor answered now? */
  async #isLetIn(): Promise<boolean> {
    const socket = net.connect(this.relay.ports[0]!, "127.0.0.1");
    const { promise, resolve } = Promise.withResolvers<boolean>();
    let heard = 0;
    socket.on("error", () => undefined).once("close", () => resolve(false));
    socket.on("data", ({ length }: Buffer) => {
      heard += length;
      if (heard >= HELLO.length) resolve(true);
    });
    socket.setTimeout(PATIENCE_MS, () => void socket.destroy());
    socket.write(HELLO);
    const isIn = await promise;
    socket.destroy();
    return isIn;
  }

  /** `sallyport funnel … off`, with these visitors here and others who try to come. `isEndless`: the command is not waited for. */
  async switchOff(open: readonly Visit[], isEndless: boolean): Promise<SwitchedOff> {
    const start = performance.now();
    const since = (): number => performance.now() - start;
    let command: Typed = { code: -1, stdout: "", stderr: "" };
    let commandMs = Infinity;
    const typed = typedFunnel(this.gateway, [`--tcp=${PORT}`, "off"]).then((ended) => {
      command = ended;
      commandMs = since();
    });
    for (const { socket } of open) socket.resume();
    const cut = until("all are cut", () => this.callers.size === 0 && open.every((one) => one.isOver())).then(since);
    let letInMs = 0;
    for (let refusals = 0; refusals < REFUSALS || (!isEndless && commandMs === Infinity); ) {
      const isIn = await this.#isLetIn();
      refusals = isIn ? 0 : refusals + 1;
      if (isIn) letInMs = since();
    }
    const cutMs = await cut;
    if (!isEndless) await typed;
    return { command, commandMs, cutMs, letInMs };
  }
}

/** `attributes` of the gateway, as they stand in the policy. */
export const offPolicy = (attributes: string): string => funnelPolicy(`"attr": [${attributes}]`);
