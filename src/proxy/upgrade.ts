import { type IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { answerFields } from "./fields.ts";
import { Relay } from "./forward.ts";
import { askedOf, type Forwarding } from "./forwarding.ts";
import { joinStreams } from "./tunnel.ts";
import type { AnswerHead } from "./upstream/answer-parser.ts";
import type { Asked } from "./upstream/exchange.ts";

/** WS-1: the one protocol we switch to; any other offer is ignored, as RFC 9110 section 7.8 allows. */
export function isWebSocket(request: IncomingMessage): boolean {
  const { headers, method, httpVersion } = request;
  const hasBody = headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;
  return (
    method === "GET" &&
    httpVersion === "1.1" &&
    !hasBody &&
    headers.upgrade?.toLowerCase() === "websocket" &&
    headers["sec-websocket-version"] === "13" &&
    /^[A-Za-z0-9+/]{22}==$/.test(headers["sec-websocket-key"] ?? "")
  );
}

/** An answer on a connection that Node has handed over with an upgrade; `done` gives the connection back. */
export function responseOn(request: IncomingMessage, socket: Duplex, done: () => void): ServerResponse {
  const response = new ServerResponse(request);
  response.assignSocket(socket as Socket);
  response.on("finish", () => {
    response.detachSocket(socket as Socket);
    response.emit("close"); // as Node's own server does: who waits for the end of an answer is not told otherwise
    if (response.shouldKeepAlive) done();
    else socket.end();
  });
  return response;
}

/** WS-2: nothing that the caller sent early reaches the backend before its 101. */
export function forwardUpgrade(work: Forwarding, socket: Duplex, early: Buffer): void {
  const asked = askedOf(work, [
    ["Connection", "Upgrade"],
    ["Upgrade", work.request.headers.upgrade ?? "websocket"],
  ]);
  work.pool.askAlone(work.backend, work.poolKey, asked, new UpgradeRelay(work, asked, socket, early));
}

class UpgradeRelay extends Relay {
  readonly #socket: Duplex;
  readonly #early: Buffer;

  constructor(work: Forwarding, asked: Asked, socket: Duplex, early: Buffer) {
    super(work, asked);
    this.#socket = socket;
    this.#early = early;
  }

  override head(head: AnswerHead): void {
    this.#dropEarly();
    super.head(head);
  }

  protected override refuse(status: number, text: string): void {
    this.#dropEarly();
    super.refuse(status, text);
  }

  /** What came before the answer, with the offer or behind it, is no request (RFC 9931). */
  #dropEarly(): void {
    if (this.#early.length > 0 || this.#socket.readableLength > 0) this.work.response.shouldKeepAlive = false;
  }

  override switched(head: AnswerHead, tunnel: Duplex, rest: Buffer): void {
    const { response, rewrite } = this.work;
    const socket = this.#socket;
    const fields = answerFields(head.fields, rewrite);
    if (!switchesToWebSocket(head.fields)) {
      tunnel.destroy();
      return void this.refuse(502, "502 the backend switched to another protocol");
    }
    this.handOver();
    response.detachSocket(socket as Socket);
    const pairs = [["Connection", "Upgrade"], ["Upgrade", "websocket"], ...fields];
    const lines = pairs.map(([name, value]) => `${name}: ${value}\r\n`).join("");
    socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines}\r\n`, "latin1");
    if (rest.length > 0) socket.write(rest);
    if (this.#early.length > 0) tunnel.write(this.#early);
    joinStreams(socket, tunnel);
  }
}

/** Exactly the protocol that was asked for (WS-3). */
function switchesToWebSocket(fields: readonly string[]): boolean {
  const offers = fields.filter((_, i) => i % 2 === 1 && fields[i - 1]!.toLowerCase() === "upgrade");
  return offers.length === 1 && offers[0]!.toLowerCase() === "websocket";
}
