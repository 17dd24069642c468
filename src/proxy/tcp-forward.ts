import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Conn, ConnSink, Proof } from "../base/conn.ts";
import { Fault } from "../base/fault.ts";
import { LinkedList } from "../base/linked-list.ts";
import type { Log } from "../base/log.ts";
import { writeView } from "../base/view-write.ts";
import type { TcpPortHandler } from "../wire/serve-config.ts";
import type { BackendPlace } from "./options.ts";
import { proxyHeader } from "./proxy-protocol.ts";
import { onRevoked } from "./revocation.ts";
import { joinStreams, reset } from "./tunnel.ts";
import type { BackendDialer } from "./upstream/dial.ts";

/** As much as may be on its way to a backend that does not read. */
const WINDOW_BYTES = 256 * 1024;

/** `host:port`, `[v6]:port` or `unix:path` of a TCPForward value. */
export function forwardPlace(value: string): BackendPlace | undefined {
  if (value.startsWith("unix:")) return { path: value.slice(5) };
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(value);
  const port = Number(match?.[3]);
  return match === null || port === 0 || port > 65535 ? undefined : { host: (match[1] ?? match[2])!, port };
}

/** Connections of TCP ports, byte for byte to their backends. */
export class TcpForwarder {
  readonly #dialer: BackendDialer;
  readonly #log: Log;
  readonly #open: LinkedList<Duplex> = new LinkedList();

  constructor(dialer: BackendDialer, log: Log) {
    this.#dialer = dialer;
    this.#log = log;
  }

  /** A connection as it came, until `revoked`. */
  forward(conn: Conn, handler: TcpPortHandler, revoked: AbortSignal): void {
    const socket = this.#connect(handler, conn.proof);
    if (socket instanceof Fault) return void conn.abort(socket);
    const leave = onRevoked(revoked, () => {
      conn.abort(revoked.reason as Fault);
      reset(socket);
    });
    socket.once("close", leave);
    relay(conn, socket);
  }

  /** What came out of a TLS connection that ended here. */
  forwardStream(stream: Duplex, handler: TcpPortHandler, proof: Proof): void {
    const socket = this.#connect(handler, proof);
    if (socket instanceof Fault) return void stream.destroy(socket);
    joinStreams(stream, socket);
  }

  close(): void {
    for (const socket of this.#open.toArray()) reset(socket); // what breaks off here must not look complete there
  }

  /** The backend's side, with the PROXY header before all else where one is asked for. */
  #connect(handler: TcpPortHandler, proof: Proof): Duplex | Fault {
    const target = handler.TCPForward ?? "";
    const place = forwardPlace(target);
    if (place === undefined) {
      return new Fault("PROXY_BAD_TARGET", `Cannot forward to "${target}": no backend, wanted host:port`);
    }
    const version = handler.ProxyProtocol ?? 0;
    const header = version === 0 || !("port" in place) ? undefined : proxyHeader(version, proof, place.port);
    if (version !== 0 && header === undefined) {
      // Never without the header that was asked for: the backend would take bytes of the caller for it.
      return new Fault("PROXY_BAD_TARGET", `Cannot forward to "${target}": PROXY protocol ${version} goes to TCP only`);
    }
    const socket = this.#dialer.open(place, { allowHalfOpen: true });
    const link = this.#open.add(socket);
    socket.once("close", () => this.#open.remove(link));
    socket.on("error", (error) => this.#log.warn("proxy.forward_failed", { target, error: error.message }));
    if (header !== undefined) socket.write(header);
    return socket;
  }
}

/** Bytes both ways between a connection of the stack and a backend, each direction ending on its own. */
export function relay(conn: Conn, socket: Duplex): void {
  const forwarding = new Forwarding(conn, socket);
  (socket as ForwardingSocket)[FORWARDING] = forwarding;
  conn.attach(forwarding);
  // The caller may send when the backend is there, and as fast as that reads.
  if ((socket as Socket).connecting === true) socket.once("connect", onConnect);
  else forwarding.begin();
  socket.on("drain", onDrain);
  socket.on("data", onData);
  socket.on("end", onEnd);
  socket.on("close", onClose);
}

const FORWARDING = Symbol("forwarding");

interface ForwardingSocket extends Duplex {
  [FORWARDING]?: Forwarding | undefined;
}

class Forwarding implements ConnSink {
  readonly #conn: Conn;
  readonly #socket: Duplex;
  /** Written to a backend that has not taken it. */
  #owed = 0;
  #isOver = false;

  constructor(conn: Conn, socket: Duplex) {
    this.#conn = conn;
    this.#socket = socket;
  }

  begin(): void {
    this.#conn.credit(WINDOW_BYTES);
  }

  // ——— what the caller says ———

  data(view: Uint8Array): void {
    if (writeView(this.#socket, view)) this.#conn.credit(view.length);
    else this.#owed += view.length;
  }

  end(): void {
    this.#socket.end();
  }

  drain(): void {
    this.#socket.resume();
  }

  abort(): void {
    this.#isOver = true;
    reset(this.#socket);
  }

  // ——— what the backend says ———

  said(chunk: Buffer): void {
    if (!this.#conn.write(chunk)) this.#socket.pause();
  }

  finished(): void {
    this.#conn.end();
  }

  drained(): void {
    const bytes = this.#owed;
    this.#owed = 0;
    if (bytes > 0) this.#conn.credit(bytes);
  }

  gone(): void {
    const { readableEnded, writableFinished } = this.#socket;
    if (this.#isOver || (readableEnded && writableFinished)) return;
    this.#isOver = true;
    this.#conn.abort(new Fault("PROXY_FORWARD_CLOSED", "Cannot forward the connection: the backend closed it"));
  }
}

function onConnect(this: ForwardingSocket): void {
  this[FORWARDING]?.begin();
}

function onDrain(this: ForwardingSocket): void {
  this[FORWARDING]?.drained();
}

function onData(this: ForwardingSocket, chunk: Buffer): void {
  this[FORWARDING]?.said(chunk);
}

function onEnd(this: ForwardingSocket): void {
  this[FORWARDING]?.finished();
}

/**
 * Node's sockets that are gone keep one another alive until the next full collection, and with them whatever they refer to:
 * where they come and go by the thousand a second, that makes old in V8's sense all there ever was of a connection.
 */
function onClose(this: ForwardingSocket): void {
  this[FORWARDING]?.gone();
  this[FORWARDING] = undefined;
}
