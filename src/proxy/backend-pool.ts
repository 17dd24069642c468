import type tls from "node:tls";
import type { Clock } from "../base/clock.ts";
import { Fault, messageOf } from "../base/fault.ts";
import type { Caller } from "../identity/caller.ts";
import type { Backend } from "./backend.ts";
import { type BackendDialer, placeOf } from "./upstream/dial.ts";
import type { AnswerSink, Asked } from "./upstream/exchange.ts";
import { Http1Connection } from "./upstream/http1-connection.ts";
import { Http2Connection } from "./upstream/http2-connection.ts";
import { IdleConnections } from "./upstream/idle-connections.ts";
import { OpenConnections } from "./upstream/open-connections.ts";
import { TurnWrites } from "./upstream/turn-writes.ts";

/** Over all backends and callers. */
export interface PoolLimits {
  readonly open: number;
  readonly idle: number;
  readonly idleMs: number;
}

export const POOL_LIMITS: PoolLimits = { open: 16_384, idle: 1024, idleMs: 90_000 };

export interface AskOptions {
  /** On a new connection in any case. */
  readonly isFresh?: boolean;
  /** HTTP/2 without TLS, with prior knowledge (RFC 9113 section 3.3). */
  readonly isH2c?: boolean;
  /** By a caller who may ask much at a time and take nothing of the answers, as HTTP/2's streams let him. */
  readonly isShared?: boolean;
}

/** A caller's connections by TLS that may cost memory to save CPU, where one of his could ask for many (H2-10). */
const WIDE_CONNECTIONS = 4;

/**
 * Kept-alive backend connections. A connection is only ever used for one caller: should a backend and we ever disagree
 * on where a request ends, nobody gets somebody else's answer (reliability matrix B).
 */
export class BackendPool {
  readonly #clock: Clock;
  readonly #dialer: BackendDialer;
  readonly #limits: PoolLimits;
  readonly #idle: IdleConnections;
  readonly #writes: TurnWrites = new TurnWrites();
  readonly #open: OpenConnections;
  readonly #http2: Map<string, Http2Connection[]> = new Map();
  /** Who waits for a TLS handshake that will tell which HTTP the backend speaks. */
  readonly #waiting: Map<string, (() => void)[]> = new Map();
  /** Backends that chose HTTP/2 when they were last asked. */
  readonly #choseHttp2: Set<string> = new Set();

  constructor(dialer: BackendDialer, clock: Clock, limits: PoolLimits = POOL_LIMITS) {
    this.#clock = clock;
    this.#dialer = dialer;
    this.#limits = limits;
    this.#open = new OpenConnections(limits.open);
    this.#idle = new IdleConnections(clock, limits.idle, limits.idleMs);
  }

  get idleCount(): number {
    return this.#idle.size;
  }

  get openCount(): number {
    return this.#open.size;
  }

  /** Asks the backend on a connection of this caller, or on a new one. */
  ask(backend: Backend, callerKey: string, asked: Asked, sink: AnswerSink, options: AskOptions = {}): void {
    const { isFresh = false, isH2c = false } = options;
    const key = keyOf(backend, isH2c, callerKey);
    const shared = isFresh ? undefined : this.#http2.get(key)?.find(({ hasRoom }) => hasRoom);
    if (shared !== undefined) return void shared.ask(asked, sink);
    const kept = isFresh || isH2c ? undefined : this.#idle.take(key);
    if (kept !== undefined) return void kept.ask(asked, sink);
    if (!this.#open.hasRoomFor(callerKey)) return void sink.failed(tooMany(this.#open.size), false);
    if (isH2c) this.#joinHttp2(this.#dialer.open(placeOf(backend)), "http", key, callerKey).ask(asked, sink);
    else if (backend.scheme === "http")
      this.#joinHttp1(this.#dialer.open(placeOf(backend)), key, callerKey).ask(asked, sink);
    else this.#negotiate(backend, callerKey, key, asked, sink, options);
  }

  /** Asks on an HTTP/1.1 connection of its own, which may become a tunnel. */
  askAlone(backend: Backend, callerKey: string, asked: Asked, sink: AnswerSink): void {
    if (!this.#open.hasRoomFor(callerKey)) return void sink.failed(tooMany(this.#open.size), false);
    const isPlain = backend.scheme === "http";
    const socket = isPlain
      ? this.#dialer.open(placeOf(backend), { allowHalfOpen: true })
      : this.#dialer.openTls(backend, ["http/1.1"], { allowHalfOpen: true });
    this.#joinHttp1(socket, keyOf(backend, false, "alone"), callerKey).ask(asked, sink, true);
  }

  #joinHttp1(socket: ReturnType<BackendDialer["open"]>, key: string, callerKey: string): Http1Connection {
    const connection = new Http1Connection(socket, key, {
      writes: this.#writes,
      released: () => this.#idle.add(connection),
      closed: () => {
        leave();
        this.#idle.remove(connection);
      },
    });
    const leave = this.#open.add(connection, callerKey);
    return connection;
  }

  #joinHttp2(
    socket: ReturnType<BackendDialer["open"]>,
    scheme: string,
    key: string,
    callerKey: string,
  ): Http2Connection {
    const connection = new Http2Connection(socket, scheme, this.#clock, this.#limits.idleMs, () => {
      leave();
      const others = (this.#http2.get(key) ?? []).filter((other) => other !== connection);
      if (others.length > 0) this.#http2.set(key, others);
      else this.#http2.delete(key);
    });
    const leave = this.#open.add(connection, callerKey);
    this.#http2.set(key, [...(this.#http2.get(key) ?? []), connection]);
    return connection;
  }

  /** HTTP/2 where the backend chooses it (RFC 7301), and then one connection for all who wait. */
  #negotiate(
    backend: Backend,
    callerKey: string,
    key: string,
    asked: Asked,
    sink: AnswerSink,
    options: AskOptions,
  ): void {
    const waiting = this.#waiting.get(key);
    if (waiting !== undefined && this.#choseHttp2.has(key)) {
      waiting.push(() => this.ask(backend, callerKey, asked, sink, { ...options, isFresh: false }));
      return;
    }
    const isNarrow = options.isShared === true && this.#open.heldBy(callerKey) >= WIDE_CONNECTIONS;
    const secure = this.#dialer.openTls(backend, ["h2", "http/1.1"], { isNarrow });
    if (options.isFresh !== true && waiting === undefined) this.#waiting.set(key, []);
    const leave = this.#open.add(secure, callerKey);
    let cause: unknown;
    const onError = (error: Error): void => {
      cause = error;
    };
    const settle = (): void => {
      leave();
      secure.off("error", onError);
      secure.off("close", onClose);
      const others = this.#waiting.get(key);
      this.#waiting.delete(key);
      for (const other of others ?? []) other();
    };
    const onClose = (): void => {
      this.#choseHttp2.delete(key);
      sink.failed(asFault(cause), false);
      settle();
    };
    secure.on("error", onError);
    secure.once("close", onClose);
    secure.once("secureConnect", () => {
      this.#choose(secure, key, callerKey).ask(asked, sink);
      settle();
    });
  }

  #choose(secure: tls.TLSSocket, key: string, callerKey: string): Http1Connection | Http2Connection {
    if (secure.alpnProtocol !== "h2") {
      this.#choseHttp2.delete(key);
      return this.#joinHttp1(secure, key, callerKey);
    }
    if (this.#choseHttp2.size >= this.#limits.open) this.#choseHttp2.clear();
    this.#choseHttp2.add(key);
    return this.#joinHttp2(secure, "https", key, callerKey);
  }

  destroy(): void {
    this.#idle.close();
    this.#open.destroy();
  }
}

function keyOf({ scheme, isInsecure, socketPath, host, port }: Backend, isH2c: boolean, callerKey: string): string {
  const how = isH2c ? "h2c" : isInsecure ? "https+insecure" : scheme;
  return `${how} ${socketPath ?? `${host} ${port}`} ${callerKey}`;
}

function tooMany(open: number): Fault {
  return new Fault(
    "PROXY_BACKENDS_BUSY",
    `Cannot open another backend connection for this caller: ${open} are open for all`,
  );
}

function asFault(cause: unknown): Fault {
  if (cause instanceof Fault) return cause;
  const found = cause === undefined ? "it closed the connection" : messageOf(cause);
  return new Fault("PROXY_BACKEND_TLS", `Cannot connect to the backend by TLS: ${found}`, { cause });
}

/** Connections to a backend are never shared between callers. */
export function poolKeyOf(caller: Caller): string {
  switch (caller.kind) {
    case "user":
    case "tagged":
      return `node ${caller.nodeKey}`;
    case "routed":
      return `routed ${caller.via} ${caller.address}`;
    case "guest":
      return `guest ${caller.address} ${caller.issuer} ${caller.subject}`;
    case "anonymous":
    case "probe":
      return `${caller.kind} ${caller.address}`;
  }
}
