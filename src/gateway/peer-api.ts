import { createServer, type IncomingMessage, type ServerResponse, STATUS_CODES } from "node:http";
import { parseAddressPort } from "../base/address.ts";
import type { Clock } from "../base/clock.ts";
import type { Conn } from "../base/conn.ts";
import { asDuplex } from "../base/duplex.ts";
import { Fault } from "../base/fault.ts";
import { PeekedConn, type PeekWatcher } from "../base/peeked-conn.ts";
import { mindSlowRequests } from "../base/slow-requests.ts";
import { type Awaited, type Place, WaitingLine } from "../base/waiting-line.ts";
import { INGRESS_PATH, type PeerApiHead, PeerApiHeadReader } from "../wire/ingress.ts";
import type { IngressDoor, Refusal } from "./funnel/ingress-door.ts";

const HEAD_BYTES = 16 * 1024;
/** A head, or a visitor's hello: both are at most half of it. */
const PEEK_BYTES = 128 * 1024;
const HEAD_MS = 10_000;
const MOST_CONNECTIONS = 256;
const MOST_HEADS = 1024;
/** Who says nothing a thousand times keeps no ingress out (FN-10). */
const MOST_HEADS_OF_NODE = 768;
const INGRESS_LINE = new RegExp(`^[A-Z]+ ${INGRESS_PATH}[ ?]`);
/** Longer than any first line that asks for the ingress. */
const LINE_BYTES = 64;
const HEAD_END = "\r\n\r\n";

export interface PeerApiOptions {
  readonly addresses: () => readonly string[];
  readonly ingress: IngressDoor;
  readonly clock: Clock;
}

/**
 * What other nodes may ask of this one over HTTP inside the tunnel (data-plane.md 6.2): the greeting, whose HEAD is the
 * `peerapi` ping, and the delivery of Funnel visitors. A caller that is no peer of the map never gets here: its packets
 * have no tunnel.
 */
export class PeerApi {
  readonly #options: PeerApiOptions;
  readonly #http = createServer({ maxHeaderSize: HEAD_BYTES, headersTimeout: HEAD_MS, requestTimeout: HEAD_MS });
  #open = 0;
  /** Those whose heads are not whole. */
  readonly #heads: WaitingLine;
  readonly #headReader: PeerApiHeadReader = new PeerApiHeadReader();
  readonly #hearer: Hearer = {
    isOther: (conn) => this.#serve(conn),
    isDelivery: (conn, text, isAlone) => {
      const head = text === undefined ? undefined : this.#headReader.read(text);
      const refusal = this.#deliver(conn, head, isAlone);
      if (refusal !== undefined) refuse(conn, refusal, this.#options.clock);
    },
  };

  constructor(options: PeerApiOptions) {
    this.#options = options;
    const bounds = { inAll: MOST_HEADS, ofOwner: MOST_HEADS_OF_NODE };
    this.#heads = new WaitingLine(bounds, { patience: { clock: options.clock, limitMs: HEAD_MS } });
    mindSlowRequests(this.#http);
    this.#http.on("request", (request, response) => this.#answer(request, response));
  }

  /** The first line says whether it is a visitor's delivery, whose connection is nobody's but the visitor's from then on. */
  accept(conn: Conn): void {
    const arrival = new Arrival(new PeekedConn(conn, PEEK_BYTES), this.#hearer);
    arrival.wait(this.#heads, conn.proof.kind === "mesh" ? conn.proof.nodeKey : "");
  }

  #deliver(conn: PeekedConn, head: PeerApiHead | undefined, isAlone: boolean): Refusal | undefined {
    if (conn.proof.kind !== "mesh" || head === undefined || head.path !== INGRESS_PATH) return MALFORMED;
    const { hosts, hostAddress } = head;
    if (hosts.length !== 1) return MALFORMED;
    if (head.isOfPage || !(hosts[0] === "peer" || this.#isOurs(hostAddress))) return FOREIGN;
    return this.#options.ingress.enter(conn, conn.proof, head, isAlone);
  }

  #serve(conn: Conn): void {
    const stream = asDuplex(conn);
    stream.on("error", () => stream.destroy());
    if (this.#open >= MOST_CONNECTIONS) {
      stream.destroy();
      return;
    }
    this.#open++;
    stream.once("close", () => {
      this.#open--;
    });
    this.#http.emit("connection", stream);
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    // One request a connection: a delivery behind another would not have it for itself, and who says nothing more would be
    // waited for without end. Node's `maxRequestsPerSocket` tells the end, and does not make it.
    response.shouldKeepAlive = false;
    // No browser has business here, not even by DNS rebinding (upstream `ipn/ipnlocal/peerapi.go`).
    response.setHeader("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'");
    response.setHeader("X-Frame-Options", "DENY");
    response.setHeader("X-Content-Type-Options", "nosniff");
    const { host, referer, origin } = request.headers;
    if (referer !== undefined || origin !== undefined || !(host === "peer" || this.#isOurs(addressIn(host)))) {
      response.writeHead(FOREIGN.status).end(`${FOREIGN.reason}\n`);
      return;
    }
    if (request.url !== "/") {
      response.writeHead(404).end("not found\n");
      return;
    }
    if (request.method !== "GET" && request.method !== "HEAD") {
      response.writeHead(405).end("bad method\n");
      return;
    }
    response.writeHead(200, { "Content-Type": "text/plain; charset=utf-8" }).end("This is a sallyport node.\n");
  }

  #isOurs(address: string | undefined): boolean {
    return address !== undefined && this.#options.addresses().includes(address);
  }

  close(): void {
    this.#http.closeAllConnections();
  }
}

function addressIn(host: string | undefined): string | undefined {
  return parseAddressPort(host ?? "")?.address;
}

interface Hearer {
  readonly isOther: (conn: PeekedConn) => void;
  /** With the head, which is forgotten; undefined: too long. `isAlone`: nothing came behind it. */
  readonly isDelivery: (conn: PeekedConn, head: string | undefined, isAlone: boolean) => void;
}

/** A connection whose request's head is not whole. */
class Arrival implements PeekWatcher, Awaited {
  readonly #conn: PeekedConn;
  readonly #hearer: Hearer;
  #place: Place | undefined;
  #text = "";

  constructor(conn: PeekedConn, hearer: Hearer) {
    this.#conn = conn;
    this.#hearer = hearer;
    conn.watcher = this;
  }

  wait(line: WaitingLine, who: string): void {
    this.#place = line.enter(who, this);
  }

  look(part: Buffer): void {
    if (this.#text !== "") return void this.#goOn(part);
    const end = part.indexOf(HEAD_END); // mostly it is whole, and what is behind it no text
    if (end < 0 || end > HEAD_BYTES) this.#goOn(part);
    else this.#decide(part.toString("latin1", 0, end), end, part.length);
  }

  #goOn(part: Buffer): void {
    const seen = this.#text.length + part.length;
    this.#text += part.toString("latin1", 0, HEAD_BYTES + HEAD_END.length);
    const text = this.#text;
    const end = text.indexOf(HEAD_END);
    const isLineHere = text.length >= LINE_BYTES || text.includes("\r\n");
    const isTooLong = text.length > HEAD_BYTES && (end < 0 || end > HEAD_BYTES);
    if (end >= 0 || isTooLong) this.#decide(text, isTooLong ? -1 : end, seen);
    else if (isLineHere && !INGRESS_LINE.test(text)) this.#pass();
  }

  /** `end` of the head in `text`; -1: it is too long. */
  #decide(text: string, end: number, seen: number): void {
    if (!INGRESS_LINE.test(text)) return void this.#pass();
    this.#settle();
    this.#conn.forget(end < 0 ? Infinity : end + HEAD_END.length);
    this.#hearer.isDelivery(this.#conn, end < 0 ? undefined : text.slice(0, end), seen === end + HEAD_END.length);
  }

  #pass(): void {
    this.#settle();
    this.#hearer.isOther(this.#conn);
  }

  gone(): void {
    this.giveUp();
  }

  giveUp(): void {
    this.#settle();
    this.#conn.abort(new Fault("PEERAPI_NO_REQUEST", "Cannot answer: no request came"));
  }

  #settle(): void {
    this.#place?.leave();
    this.#conn.watcher = undefined;
  }

  leadSent(): void {}

  closed(): void {}
}

const MALFORMED: Refusal = { status: 400, reason: "Bad Request" };
const FOREIGN: Refusal = { status: 403, reason: "invalid peerapi request" };
/** For the answer to arrive before the connection goes. */
const LINGER_MS = 1000;

function refuse(conn: PeekedConn, { status, reason }: Refusal, clock: Clock): void {
  const body = `${reason}\n`;
  conn.write(
    Buffer.from(
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nContent-Type: text/plain; charset=utf-8\r\n` +
        `X-Content-Type-Options: nosniff\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
    ),
  );
  conn.end();
  const over = new Fault("FUNNEL_REFUSED", `Cannot deliver: ${reason}`);
  clock.at(clock.now() + LINGER_MS, () => conn.abort(over));
}
