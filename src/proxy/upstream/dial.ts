import net from "node:net";
import type { Duplex } from "node:stream";
import tls from "node:tls";
import type { Clock } from "../../base/clock.ts";
import { Fault } from "../../base/fault.ts";
import type { Backend } from "../backend.ts";
import type { BackendPlace } from "../options.ts";

export interface BackendDialOptions {
  readonly clock: Clock;
  /** Opens a connection to a backend; the default is `net.connect`. */
  readonly dial?: ((place: BackendPlace) => Duplex | undefined) | undefined;
  /** Certificates, PEM, that may sign a backend's beside the system's. */
  readonly roots?: readonly string[] | undefined;
}

/** As long as upstream gives a TLS handshake, and a TCP forward's dial. */
export const DIAL_MS = 10_000;
const KEEPALIVE_MS = 30_000;

/** Connections to backends, each with a limit on how long it may take to be there. */
export class BackendDialer {
  readonly #options: BackendDialOptions;
  #secure: tls.SecureContext | undefined;

  constructor(options: BackendDialOptions) {
    this.#options = options;
  }

  /**
   * A TCP or unix connection that may still be connecting; destroyed when the limit passes first. Half-open ones are for
   * tunnels, whose directions end on their own.
   */
  open(place: BackendPlace, allowHalfOpen = false): Duplex {
    const socket = this.#options.dial?.(place) ?? dialDirect(place, allowHalfOpen);
    if ((socket as { connecting?: boolean }).connecting === true) this.#limit(socket, "connect");
    return socket;
  }

  /** A TLS connection to the backend; certificates are verified unless it says otherwise. */
  openTls(backend: Backend, protocols: readonly string[], allowHalfOpen = false): tls.TLSSocket {
    const { host } = backend;
    const secure = tls.connect({
      socket: this.open(placeOf(backend), allowHalfOpen),
      host,
      servername: net.isIP(host) === 0 ? host : "",
      rejectUnauthorized: !backend.isInsecure,
      ALPNProtocols: [...protocols],
      secureContext: this.#secureContext(),
    });
    this.#limit(secure, "secureConnect");
    return secure;
  }

  #secureContext(): tls.SecureContext {
    // What Node brings and what the administrator of this machine trusts, as upstream does.
    this.#secure ??= tls.createSecureContext({
      ca: [...tls.getCACertificates("default"), ...tls.getCACertificates("system"), ...(this.#options.roots ?? [])],
    });
    return this.#secure;
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

function dialDirect(place: BackendPlace, allowHalfOpen: boolean): Duplex {
  return net.connect({
    ...place,
    noDelay: true,
    allowHalfOpen,
    keepAlive: true,
    keepAliveInitialDelay: KEEPALIVE_MS,
  });
}
