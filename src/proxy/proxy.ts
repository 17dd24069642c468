import { createHash } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import type { Conn, Proof } from "../base/conn.ts";
import { asDuplex, type ConnDuplex } from "../base/duplex.ts";
import { Fault } from "../base/fault.ts";
import { LinkedList } from "../base/linked-list.ts";
import { type LineBounds, WaitingLine } from "../base/waiting-line.ts";
import type { TcpPortHandler } from "../wire/serve-config.ts";
import { sendError } from "./answers.ts";
import { BackendPool } from "./backend-pool.ts";
import { callerKey } from "./caller-key.ts";
import { Http1Front } from "./http1/http1-front.ts";
import { Flooders } from "./http2/flooders.ts";
import { Http2Front, PORTION_BYTES } from "./http2/http2-front.ts";
import {
  DEFAULT_LIMITS,
  type Front,
  type ProxyLimits,
  type ProxyOptions,
  PUBLIC_LIMITS,
  type SaidLimits,
} from "./options.ts";
import { onRevoked } from "./revocation.ts";
import { Router, type Upgrade } from "./router.ts";
import { findSite, findTcp, foldHost } from "./serve-lookup.ts";
import { TcpForwarder } from "./tcp-forward.ts";
import { TlsFront } from "./tls/tls-front.ts";
import { BackendDialer } from "./upstream/dial.ts";

/** Serves the ports of a serve configuration: TLS end, route, identify, forward. Ports that it does not serve are refused. */
export class ReverseProxy {
  readonly #options: ProxyOptions;
  readonly #pool: BackendPool;
  readonly #tcp: TcpForwarder;
  readonly #tls: TlsFront;
  readonly #router: Router;
  /**
   * Connections on plain ports: there is no handshake that would bound them, and each takes memory of ours for as long as its
   * caller keeps to the deadlines.
   */
  readonly #crowd: WaitingLine;
  readonly #http1: Http1Front;
  readonly #publicHttp1: Http1Front;
  readonly #http2: Http2Front;
  readonly #publicHttp2: Http2Front;
  readonly #flooders: Flooders;
  readonly #open: LinkedList<Duplex> = new LinkedList();
  /** Of requests under way. */
  readonly #answers: LinkedList<ServerResponse> = new LinkedList();
  #limits: ProxyLimits;
  #publicLimits: ProxyLimits;
  #said: SaidLimits = NO_LIMITS;
  #onQuiet: () => void = () => {};
  #isClosed = false;

  constructor(options: ProxyOptions) {
    this.#options = options;
    const limits = { ...DEFAULT_LIMITS, ...options.limits };
    const publicLimits = { ...DEFAULT_LIMITS, ...PUBLIC_LIMITS, ...options.limits, ...options.publicLimits };
    this.#limits = limits;
    this.#publicLimits = publicLimits;
    const limitsOf = (front: Front): ProxyLimits => (isMesh(front) ? this.#limits : this.#publicLimits);
    const { clock, dialBackend: dial, backendRoots: roots, isOwnListener } = options;
    const dialer = new BackendDialer({ clock, dial, roots, isOwnListener });
    this.#pool = new BackendPool(dialer, clock);
    this.#tcp = new TcpForwarder(dialer, options.log);
    this.#tls = new TlsFront(options, limits);
    this.#router = new Router(options, limitsOf, this.#pool);
    this.#crowd = new WaitingLine(crowdBounds(limits), { crowded: () => options.count?.("connections_crowded") });
    this.#http1 = new Http1Front(limits, options.clock, this.#crowd, this.#handle);
    this.#publicHttp1 = new Http1Front(publicLimits, options.clock, this.#crowd, this.#handle);
    this.#flooders = new Flooders(clock);
    const onFlood = ({ proof }: Front): void => this.#flooders.add(callerKey(proof));
    this.#http2 = new Http2Front(limits, options, this.#handle, onFlood);
    this.#publicHttp2 = new Http2Front(publicLimits, options, this.#handle, onFlood);
  }

  /** Is this port served? Else the stack must reset the connection. */
  serves(port: number, destination?: string): boolean {
    if (this.#isClosed) return false;
    return this.#tcpHandler(port, destination) !== undefined;
  }

  /** To be called when doors, rules or configuration have changed: what is under way goes by them, too. */
  review(): void {
    this.#router.review();
  }

  /**
   * What the operator says of sizes and crowds by now, in place of what he said before. Heads are read by it from the next connection
   * on, all else from the next request.
   */
  limit(said: SaidLimits = NO_LIMITS): void {
    if (said === this.#said) return;
    this.#said = said;
    const { visitors, ...everybody } = said;
    const { limits, publicLimits } = this.#options;
    this.#limits = { ...DEFAULT_LIMITS, ...limits, ...everybody };
    this.#publicLimits = { ...DEFAULT_LIMITS, ...PUBLIC_LIMITS, ...limits, ...publicLimits, ...everybody, ...visitors };
    this.#crowd.bounds = crowdBounds(this.#limits);
    for (const front of [this.#tls, this.#http1, this.#http2]) front.limit(this.#limits);
    for (const front of [this.#publicHttp1, this.#publicHttp2]) front.limit(this.#publicLimits);
  }

  /** TLS handshakes under way. */
  get handshakes(): number {
    return this.#tls.pending;
  }

  #serviceOf(destination: string | undefined): Front["service"] {
    return destination === undefined ? undefined : this.#options.serviceOf?.(destination);
  }

  #tcpHandler(port: number, destination: string | undefined): TcpPortHandler | undefined {
    return findTcp(this.#options.config(), port, this.#serviceOf(destination)?.service);
  }

  /** A connection that was accepted on that port. */
  accept(conn: Conn, port: number): void {
    const handler = this.#isClosed ? undefined : this.#tcpHandler(port, conn.proof.destination.address);
    if (handler === undefined) {
      return void conn.abort(
        new Fault("PROXY_PORT_NOT_SERVED", `Cannot accept on port "${port}": nothing is served there`),
      );
    }
    const service = this.#serviceOf(conn.proof.destination.address);
    const revoked = this.#options.callers.revoked(conn.proof);
    if (revoked.aborted) return void conn.abort(revoked.reason as Fault);
    if (handler.TCPForward !== undefined && handler.TCPForward !== "" && !handler.TerminateTLS) {
      return void this.#tcp.forward(conn, handler, revoked);
    }
    const stream = asDuplex(conn);
    this.#watch(stream, revoked);
    stream.on("error", (error) => this.#options.log.debug("proxy.connection_failed", { error: error.message }));
    if (handler.TerminateTLS) return void this.#terminate(stream, handler, conn.proof);
    const unsent = (): number => conn.unsent ?? 0;
    const front: Front = { proof: conn.proof, port, serverName: undefined, service, unsent };
    if (handler.HTTPS === true) return void this.#serveTls(stream, front);
    if (handler.HTTP === true) return void this.#serveHttp1(stream, front);
    stream.destroy();
  }

  #watch(stream: Duplex, revoked: AbortSignal): void {
    const leave = onRevoked(revoked, () => void stream.destroy(revoked.reason as Error));
    const place = this.#open.add(stream);
    stream.once("close", () => {
      leave();
      this.#open.remove(place);
    });
  }

  #terminate(stream: Duplex, handler: TcpPortHandler, proof: Proof): void {
    const name = handler.TerminateTLS ?? "";
    this.#tls.accept(stream, proof, {
      // Other names than the one that was configured get no certificate (TL-2).
      known: (asked) => (foldHost(asked) === foldHost(name) ? name : undefined),
      protocols: [],
      accept: (secure) => this.#tcp.forwardStream(secure, handler, proof),
    });
  }

  #serveTls(stream: ConnDuplex, front: Front): void {
    const config = this.#options.config();
    stream.portionBytes = PORTION_BYTES;
    this.#tls.accept(stream, front.proof, {
      known: (asked) => {
        const name = foldHost(front.service?.name ?? asked);
        if (foldHost(asked) !== name) return undefined;
        return findSite(config, name, front.port, front.service?.service) === undefined ? undefined : name;
      },
      protocols: this.#flooders.has(callerKey(front.proof)) ? ["http/1.1"] : ["h2", "http/1.1"],
      wantsCertificate: (name) => this.#router.wantsCertificate({ ...front, serverName: name }, name),
      accept: (secure, serverName) => {
        // As tls.Server does at this point; node:http2 waits for it.
        Object.assign(secure, { secureConnecting: false });
        const secured = { ...front, serverName, clientCertificate: clientCertificateOf(secure) };
        if (secure.alpnProtocol === "h2") this.#serveHttp2(secure, stream, secured);
        else {
          stream.portionBytes = Number.POSITIVE_INFINITY;
          this.#serveHttp1(secure, secured);
        }
      },
    });
  }

  #serveHttp2(secure: TLSSocket, wire: ConnDuplex, front: Front): void {
    (isMesh(front) ? this.#http2 : this.#publicHttp2).serve(secure, wire, front);
  }

  #serveHttp1(stream: Duplex, front: Front): void {
    (isMesh(front) ? this.#http1 : this.#publicHttp1).serve(stream, front);
  }

  readonly #handle = (front: Front, request: IncomingMessage, response: ServerResponse, upgrade?: Upgrade): void => {
    const { answered, clock, recorder } = this.#options;
    const startedAt = clock.now();
    recorder?.watch(front, request, response, upgrade !== undefined);
    const place = this.#answers.add(response);
    if (this.#isClosed) response.shouldKeepAlive = false;
    response.once("close", () => {
      this.#answers.remove(place);
      answered?.(response.statusCode, (clock.now() - startedAt) / 1000);
      if (this.#answers.size === 0) this.#onQuiet();
    });
    this.#router.handle(front, request, response, upgrade).catch((error: unknown) => {
      this.#options.log.error("proxy.request_failed", { error: String(error) });
      sendError(request, response, 500, "500 internal error");
    });
  };

  /**
   * Takes no more connections, and settles once every request that is under way was answered, or after `limitMs` (PR-6).
   * Kept-alive connections are told to end: by `Connection: close`, or HTTP/2's GOAWAY.
   */
  async drain(limitMs: number): Promise<void> {
    this.#isClosed = true;
    for (const response of this.#answers.toArray()) if (!response.headersSent) response.shouldKeepAlive = false;
    this.#http2.drain();
    this.#publicHttp2.drain();
    if (this.#answers.size === 0) return;
    const { clock } = this.#options;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onQuiet = resolve;
    const cancel = clock.at(clock.now() + limitMs, resolve);
    await promise;
    cancel();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const closed = new Fault("PROXY_CLOSED", "Cannot go on with the connection: the proxy is closed");
    for (const open of this.#open.toArray()) open.destroy(closed);
    this.#pool.destroy();
    this.#tcp.close();
    this.#http1.close();
    this.#publicHttp1.close();
    this.#http2.close();
    this.#publicHttp2.close();
  }
}

const NO_LIMITS: SaidLimits = {};

const crowdBounds = (limits: ProxyLimits): LineBounds => ({
  inAll: limits.connections,
  ofOwner: limits.connectionsPerCaller,
});

const isMesh = ({ proof }: Front): boolean => proof.kind === "mesh";

function clientCertificateOf(secure: TLSSocket): string | undefined {
  const shown = secure.getPeerX509Certificate();
  return shown && createHash("sha256").update(shown.raw).digest("hex");
}
