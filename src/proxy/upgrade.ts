import { type IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { messageOf } from "../base/fault.ts";
import { sendError } from "./answers.ts";
import { answerFields } from "./fields.ts";
import { type Forwarding, relayAnswer, setFields } from "./forward.ts";

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
    if (response.shouldKeepAlive) done();
    else socket.end();
  });
  return response;
}

/** WS-2: nothing that the caller sent early reaches the backend before its 101. */
export function forwardUpgrade(work: Forwarding, socket: Duplex, early: Buffer): void {
  const { request, response, backend, pool, log } = work;
  const outgoing = pool.requestAlone(backend, work.path);
  setFields(outgoing, work);
  outgoing.setHeader("Connection", "Upgrade");
  outgoing.setHeader("Upgrade", "websocket");
  let isSettled = false;
  const onClientGone = (): void => void outgoing.destroy();
  socket.once("close", onClientGone);
  outgoing.on("upgrade", (answer, tunnel, head) => {
    isSettled = true;
    if (answer.headers.upgrade?.toLowerCase() !== "websocket" || answer.statusCode !== 101) {
      tunnel.destroy();
      return sendError(request, response, 502, "502 the backend switched to another protocol");
    }
    response.detachSocket(socket as Socket);
    const pairs = [
      ["Connection", "Upgrade"],
      ["Upgrade", "websocket"],
      ...answerFields(answer.rawHeaders, work.rewrite),
    ];
    const lines = pairs.map(([name, value]) => `${name}: ${value}\r\n`).join("");
    socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines}\r\n`, "latin1");
    if (head.length > 0) socket.write(head);
    if (early.length > 0) tunnel.write(early);
    joinStreams(socket, tunnel);
  });
  outgoing.on("response", (answer) => {
    isSettled = true;
    socket.off("close", onClientGone);
    if (early.length > 0) response.shouldKeepAlive = false; // what came early is no request
    relayAnswer(work, outgoing, answer);
  });
  outgoing.on("error", (error) => {
    if (isSettled || socket.destroyed) return;
    isSettled = true;
    log.warn("proxy.backend_failed", { host: backend.host, port: backend.port, error: messageOf(error) });
    sendError(request, response, 502, "502 the backend did not answer");
  });
  outgoing.end();
}

/** Two streams end to end: each direction ends on its own (WS-7), an error ends both (WS-5). */
export function joinStreams(one: Duplex, other: Duplex): void {
  const cut = (): void => {
    one.destroy();
    other.destroy();
  };
  one.on("error", cut);
  other.on("error", cut);
  one.on("close", () => void other.destroy());
  other.on("close", () => void one.destroy());
  one.pipe(other);
  other.pipe(one);
}
