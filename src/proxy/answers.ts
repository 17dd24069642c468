import { type IncomingMessage, type OutgoingHttpHeaders, type ServerResponse, STATUS_CODES } from "node:http";
import type { HeaderPair } from "../identity/headers.ts";

/** Writes the head of an answer with exactly these fields, plus `Date` and what the connection's framing needs. */
export function writeHead(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  pairs: readonly HeaderPair[],
): void {
  if (request.httpVersionMajor === 2) {
    const fields: OutgoingHttpHeaders = Object.create(null);
    for (const [name, value] of pairs) {
      const lower = name.toLowerCase();
      const before = fields[lower];
      if (before === undefined) fields[lower] = value;
      else fields[lower] = [...(Array.isArray(before) ? before : [String(before)]), value];
    }
    response.writeHead(status, fields);
    return;
  }
  const flat = pairs.flat();
  response.removeHeader("connection"); // no field of Node's own making
  if (!response.shouldKeepAlive && request.httpVersion === "1.1") flat.push("Connection", "close");
  if (response.shouldKeepAlive && request.httpVersion === "1.0") flat.push("Connection", "keep-alive");
  response.writeHead(status, STATUS_CODES[status] ?? "Status", flat);
}

export function sendText(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  text: string,
  extra: readonly HeaderPair[] = [],
): void {
  const body = Buffer.from(text);
  writeHead(request, response, status, [
    ["Content-Type", "text/plain; charset=utf-8"],
    ...extra,
    ["Content-Length", String(body.length)],
  ]);
  response.end(request.method === "HEAD" ? undefined : body);
}

/** A page of ours, for people: what failed, in one line. */
export function sendError(request: IncomingMessage, response: ServerResponse, status: number, text: string): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  // Whatever follows a refused request on this connection cannot be trusted to be a request.
  if (status === 400 || status === 413 || status === 414 || status === 431 || status === 501)
    response.shouldKeepAlive = false;
  sendText(request, response, status, `${text}\n`, [["X-Content-Type-Options", "nosniff"]]);
}
