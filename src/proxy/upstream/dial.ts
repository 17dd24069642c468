import dns from "node:dns";
import net from "node:net";
import { Duplex } from "node:stream";
import tls from "node:tls";
import { noBackendAt } from "../../base/backend-places.ts";
import type { Clock } from "../../base/clock.ts";
import { Fault } from "../../base/fault.ts";
import type { Backend } from "../backend.ts";
import type { BackendPlace } from "../options.ts";
import { connectFrugally } from "./frugal-connect.ts";
import { NarrowSocket } from "./narrow-socket.ts";
import { TlsSessions } from "./tls-sessions.ts";

export interface BackendDialOptions {
  readonly clock: Clock;
  /** Opens a connection to a backend; the default is `net.connect`. */
  readonly dial?: ((place: BackendPlace) => Duplex | undefined) | undefined;
  /** Does something of ours listen there? That is no backend (RT-7). */
  readonly isOwnListener?: ((address: string, port: number) => boolean) | undefined;
  /** Certificates, PEM, that may sign a backend's beside the system's. */
  readonly roots?: readonly string[] | undefined;
}

/** As long as upstream gives a TLS handshake, and a TCP forward's dial. */
export const DIAL_MS = 10_000;
const KEEPALIVE_MS = 30_000;
/**
 * Nobody records what stays on this machine, to read it once a quantum computer is there: the first offer, which most
 * take, leaves out the part of the key against that (a fifth of a resumed handshake).
 */
const LOOPBACK_GROUPS = "X25519:X25519MLKEM768:P-256:P-384:P-521:X448";

/** How a connection is to be. */
export interface DialShape {
  /** For tunnels, whose directions end on their own. */
  readonly allowHalfOpen?: boolean;
  /** Little may wait in it when nobody takes what comes: for TLS alone, and for more CPU. */
  readonly isNarrow?: boolean;
}

/** Connections to backends, each with a limit on how long it may take to be there. */
export class BackendDialer {
  readonly #options: BackendDialOptions;
  readonly #sessions: TlsSessions;
  readonly #contexts: Map<string, tls.SecureContext> = new Map();

  constructor(options: BackendDialOptions) {
    this.#options = options;
    this.#sessions = new TlsSessions(options.clock);
  }

  /** A TCP or unix connection that may still be connecting; destroyed when the limit passes first. */
  open(place: BackendPlace, shape: Pick<DialShape, "allowHalfOpen"> = {}): Duplex {
    const socket = this.#dial(place, shape);
    if ((socket as { connecting?: boolean }).connecting === true) this.#limit(socket, "connect");
    return socket;
  }

  /** A TLS connection to the backend; certificates are verified unless it says otherwise. */
  openTls(backend: Backend, protocols: readonly string[], shape: DialShape = {}): tls.TLSSocket {
    const { host, port, isInsecure } = backend;
    const key = JSON.stringify([host, port, isInsecure, protocols]);
    const session = this.#sessions.of(key);
    const options: tls.ConnectionOptions & { highWaterMark: number } = {
      socket: this.#dial(placeOf(backend), shape),
      host,
      servername: net.isIP(host) === 0 ? host : "",
      rejectUnauthorized: !isInsecure,
      ALPNProtocols: [...protocols],
      secureContext: this.#secureContext(host),
      ...(session === undefined ? {} : { session }),
      highWaterMark: 0, // nothing is read beyond what a paused answer brought with it (H2-10); flowing ones do not ask
    };
    const secure = tls.connect(options);
    this.#sessions.follow(secure, key);
    this.#limit(secure, "secureConnect");
    return secure;
  }

  #reasonAgainst(address: string, port: number): string | undefined {
    if (this.#options.isOwnListener?.(address, port) === true) return "this gateway listens there itself";
    return noBackendAt(address);
  }

  #dial(place: BackendPlace, shape: DialShape): Duplex {
    const reason = "host" in place ? this.#reasonAgainst(place.host, place.port) : undefined;
    if ("host" in place && reason !== undefined) return refusedStream(noBackend(place.host, reason));
    return this.#options.dial?.(place) ?? this.#dialDirect(place, shape);
  }

  #dialDirect(place: BackendPlace, { allowHalfOpen = false, isNarrow = false }: DialShape): Duplex {
    const options: net.NetConnectOpts = {
      ...place,
      lookup: lookupBackend((address) => this.#reasonAgainst(address, "port" in place ? place.port : 0)),
      noDelay: true,
      allowHalfOpen,
      keepAlive: true,
      keepAliveInitialDelay: KEEPALIVE_MS,
    };
    return isNarrow ? new NarrowSocket(options) : connectFrugally(options);
  }

  #secureContext(host: string): tls.SecureContext {
    const groups = isLoopback(host) ? LOOPBACK_GROUPS : "auto";
    let context = this.#contexts.get(groups);
    if (context === undefined) {
      // What Node brings and what the administrator of this machine trusts, as upstream does. Most are in both.
      const roots = [tls.getCACertificates("default"), tls.getCACertificates("system"), this.#options.roots ?? []];
      context = tls.createSecureContext({ ca: [...new Set(roots.flat())], ecdhCurve: groups });
      this.#contexts.set(groups, context);
    }
    return context;
  }

  #limit(socket: Duplex, event: string): void {
    const { clock } = this.#options;
    const cancel = clock.at(clock.now() + DIAL_MS, () => {
      socket.destroy(new Fault("PROXY_BACKEND_SLOW", "Cannot connect to the backend: it did not answer in time"));
    });
    socket.once(event, cancel);
    socket.once("close", cancel);
  }
}

export function placeOf({ socketPath, host, port }: Backend): BackendPlace {
  return socketPath === undefined ? { host, port } : { path: socketPath };
}

/** Of what a URL may name; `localhost` is no other machine (RFC 6761 section 6.3). */
const isLoopback = (host: string): boolean =>
  net.isIPv4(host) ? host.startsWith("127.") : host === "::1" || host === "localhost";

/** A name is asked about where it leads at this moment, not where it led when it was configured (RT-8). */
const lookupBackend =
  (reasonAgainst: (address: string) => string | undefined): net.LookupFunction =>
  (host, options, done) => {
    dns.lookup(host, { ...options, all: true }, (error, found) => {
      if (error !== null) return done(error, "");
      const usable = found.filter(({ address }) => reasonAgainst(address) === undefined);
      const [first] = usable;
      if (first === undefined) return done(noBackend(host, found.map(({ address }) => address).join(", ")), "");
      if (options.all === true) done(null, usable);
      else done(null, first.address, first.family);
    });
  };

function noBackend(host: string, reason: string): Fault {
  return new Fault("PROXY_BAD_TARGET", `Cannot connect to "${host}": no backend is there (${reason})`);
}

/** A connection that failed before it began. */
export function refusedStream(fault: Fault): Duplex {
  return new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() }).destroy(fault);
}
