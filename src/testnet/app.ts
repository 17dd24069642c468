import { createServer, type RequestListener, type Server } from "node:http";
import net from "node:net";
import type { Duplex } from "node:stream";
import type { AssertionVerifierOptions } from "../identity/assertion-verifier.ts";
import type { MeshNode, MeshNodeOptions } from "../mesh/node.ts";
import type { BackendPlace } from "../proxy/options.ts";
import type { ServeConfig, TcpPortHandler } from "../wire/serve-config.ts";
import type { Host, Internet } from "./internet.ts";

/** What is served: a request listener or server of `node:http`, that need not listen, or a port of 127.0.0.1. */
export type Backend = RequestListener | Server | number;

export interface ServeOptions {
  /** @default "app" */
  readonly hostname?: string;
  /** The user that the gateway belongs to. Without one it is tagged. */
  readonly user?: string;
  /** @default ["tag:app"] */
  readonly tags?: readonly string[];
  /** Capabilities of the policy that the backend is told of. @default none */
  readonly acceptAppCaps?: readonly string[];
  /** HTTPS on 443 beside HTTP on 80, with a certificate that `fetch` of the nodes trusts. @default false */
  readonly https?: boolean;
  /** Where the gateway stands. @default on the open internet */
  readonly host?: Host;
}

/** The gateway as the testnet needs it; `Gateway` of src/gateway. */
export interface OpenedGateway {
  readonly node: MeshNode;
  readonly name: string;
  readonly assertions: { readonly jwks: Jwks };
  readonly certificates: { authority(): Promise<string>; certificate(name: string): Promise<unknown> };
  declare(config: ServeConfig): void;
  close(): Promise<void>;
}

type Jwks = Extract<AssertionVerifierOptions["jwks"], { keys: unknown }>;

export type OpenGateway = (
  options: MeshNodeOptions & { readonly dialBackend: (place: BackendPlace) => Duplex },
) => Promise<OpenedGateway>;

/** Where the proxy finds a backend that is a function; a name that no resolver answers (RFC 6761). */
const BACKEND_HOST = "backend.invalid";

interface Conversation {
  readonly stream: Duplex & { readonly bytesRead: number; readonly bytesWritten: number };
  read: number;
  written: number;
  isAsked: boolean;
}

/** The backend's side of the gateway: opens connections to it, and knows when it is at work. */
export class BackendDoor {
  readonly target: string;
  readonly #internet: Internet;
  readonly #server: Server | undefined;
  readonly #open: Set<Conversation> = new Set();

  constructor(backend: Backend, internet: Internet) {
    this.#internet = internet;
    this.#server =
      typeof backend === "function" ? createServer(backend) : typeof backend === "number" ? undefined : backend;
    this.target = typeof backend === "number" ? `http://127.0.0.1:${backend}` : `http://${BACKEND_HOST}`;
  }

  readonly dial = (place: BackendPlace): Duplex => {
    const server = this.#server;
    const isOurs = server !== undefined && "host" in place && place.host === BACKEND_HOST;
    const stream = isOurs
      ? this.#internet.loopback((far) => void server.emit("connection", far))
      : net.connect({ ...place, noDelay: true });
    const conversation: Conversation = { stream, read: 0, written: 0, isAsked: false };
    this.#open.add(conversation);
    stream.once("close", () => void this.#open.delete(conversation));
    return stream;
  };

  /** Something was asked that is not answered yet. */
  isBusy(): boolean {
    let isAny = false;
    for (const one of this.#open) {
      const { bytesRead, bytesWritten } = one.stream;
      if (bytesWritten !== one.written) one.isAsked = true;
      if (bytesRead !== one.read) one.isAsked = false;
      one.read = bytesRead;
      one.written = bytesWritten;
      isAny ||= one.isAsked;
    }
    return isAny;
  }

  close(): void {
    for (const { stream } of this.#open) stream.destroy();
  }
}

/** A backend behind a gateway of its own. */
export class App {
  readonly name: string;
  /** `http://name/`. */
  readonly url: string;
  /** The keys that its signed assertions are checked with; their issuer is `https://name`. */
  readonly jwks: Jwks;
  readonly node: MeshNode;
  readonly host: Host;
  readonly #close: () => Promise<void>;

  constructor(gateway: OpenedGateway, host: Host, close: () => Promise<void>) {
    this.name = gateway.name;
    this.url = `http://${gateway.name}/`;
    this.jwks = gateway.assertions.jwks;
    this.node = gateway.node;
    this.host = host;
    this.#close = close;
  }

  get addresses(): readonly string[] {
    return this.node.addresses;
  }

  close(): Promise<void> {
    return this.#close();
  }
}

export function serveConfig(
  name: string,
  target: string,
  { acceptAppCaps = [], https = false }: ServeOptions,
): ServeConfig {
  const handler = { Proxy: target, ...(acceptAppCaps.length === 0 ? {} : { AcceptAppCaps: acceptAppCaps }) };
  const ports: [number, TcpPortHandler][] = https
    ? [
        [80, { HTTP: true }],
        [443, { HTTPS: true }],
      ]
    : [[80, { HTTP: true }]];
  return {
    TCP: Object.fromEntries(ports),
    Web: Object.fromEntries(ports.map(([port]) => [`${name}:${port}`, { Handlers: { "/": handler } }])),
  };
}
