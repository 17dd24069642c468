import http from "node:http";
import net from "node:net";
import type { Duplex } from "node:stream";
import tls from "node:tls";
import type { Backend } from "./backend.ts";
import type { BackendPlace } from "./options.ts";

const MOST_IDLE = 256; // over all backends and callers
const IDLE_PER_CALLER = 8;
const IDLE_MS = 90_000;

interface PooledOptions extends http.ClientRequestArgs {
  readonly poolKey?: string;
  readonly backend?: Backend;
}

/**
 * Kept-alive backend connections. A connection is only ever used for one caller: should a backend and we ever disagree
 * on where a request ends, nobody gets somebody else's answer (reliability matrix B).
 */
export class BackendPool extends http.Agent {
  readonly #dial: (place: BackendPlace) => Duplex;
  readonly #idle: Set<Duplex> = new Set();
  readonly #known: WeakSet<Duplex> = new WeakSet();

  constructor(dial: (place: BackendPlace) => Duplex = dialDirect) {
    super({ keepAlive: true, maxFreeSockets: IDLE_PER_CALLER, timeout: IDLE_MS, scheduling: "lifo" });
    this.#dial = dial;
  }

  /** A request with no fields of Node's own making. */
  request(backend: Backend, poolKey: string, method: string, path: string): http.ClientRequest {
    const options: PooledOptions = { agent: this, backend, poolKey, method, path, setHost: false, host: backend.host };
    const request = http.request(options);
    request.removeHeader("connection");
    return request;
  }

  /** A connection that is used once, for a tunnel. */
  requestAlone(backend: Backend, path: string): http.ClientRequest {
    const createConnection = (): Duplex => this.connect(backend);
    return http.request({ createConnection, method: "GET", path, setHost: false, host: backend.host });
  }

  override getName(options?: object): string {
    const { backend, poolKey } = options as PooledOptions;
    const place = backend?.socketPath ?? `${backend?.host} ${backend?.port}`;
    return `${backend?.scheme} ${backend?.isInsecure} ${place} ${poolKey}`;
  }

  override createConnection(options: http.ClientRequestArgs): Duplex {
    return this.connect((options as PooledOptions).backend!);
  }

  connect(backend: Backend): Duplex {
    const { socketPath, host, port } = backend;
    const socket = this.#dial(socketPath === undefined ? { host, port } : { path: socketPath });
    if (backend.scheme === "http") return socket;
    const servername = net.isIP(host) === 0 ? host : "";
    return tls.connect({
      socket,
      servername,
      host,
      rejectUnauthorized: !backend.isInsecure,
      ALPNProtocols: ["http/1.1"],
    });
  }

  // Bytes on an idle connection belong to no request (H1-21).
  readonly #onStray = function onStray(this: Duplex): void {
    this.destroy();
  };

  override keepSocketAlive(socket: Duplex): boolean {
    if (this.#idle.size >= MOST_IDLE || socket.destroyed || socket.readableLength > 0) return false;
    if (!(super.keepSocketAlive as unknown as (socket: Duplex) => boolean).call(this, socket)) return false;
    this.#idle.add(socket);
    socket.on("data", this.#onStray);
    if (!this.#known.has(socket)) socket.once("close", () => void this.#idle.delete(socket));
    this.#known.add(socket);
    return true;
  }

  override reuseSocket(socket: Duplex, request: http.ClientRequest): void {
    this.#idle.delete(socket);
    socket.off("data", this.#onStray);
    super.reuseSocket(socket, request);
  }
}

function dialDirect(place: BackendPlace): Duplex {
  return net.connect({ ...place, noDelay: true });
}
