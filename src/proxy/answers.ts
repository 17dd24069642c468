import { type IncomingMessage, type OutgoingHttpHeaders, type ServerResponse, STATUS_CODES } from "node:http";
import type { ServerHttp2Stream } from "node:http2";
import type { HeaderPair } from "../identity/headers.ts";

/** Nobody waits for the answer any more; that of node:http2 does not say so itself. */
export function isGone(response: ServerResponse): boolean {
  const { stream } = response as { readonly stream?: ServerHttp2Stream };
  return response.destroyed || stream?.closed === true || stream?.destroyed === true;
}

/**
 * Writes the head of an answer with exactly these fields, plus `Date` and what the connection's framing needs. A whole
 * answer ends with its head: in HTTP/2 that is one frame, which gRPC calls Trailers-Only and insists on.
 */
export function writeHead(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  pairs: readonly HeaderPair[],
  isWhole = false,
): void {
  if (request.httpVersionMajor === 2) {
    const fields: OutgoingHttpHeaders = Object.create(null);
    for (const [name, value] of pairs) {
      const lower = name.toLowerCase();
      const before = fields[lower];
      if (before === undefined) fields[lower] = value;
      else fields[lower] = [...(Array.isArray(before) ? before : [String(before)]), value];
    }
    if (!isWhole) return void response.writeHead(status, fields);
    response.statusCode = status;
    for (const name of Object.keys(fields)) response.setHeader(name, fields[name]!); // sent by `end`
    return;
  }
  const flat: string[] = [];
  for (const [name, value] of pairs) flat.push(name, value);
  response.removeHeader("connection"); // no field of Node's own making
  // A body that was announced by `Expect` and never asked for may come or not: nothing after it can be read.
  const { _expect_continue: isAnnounced, _sent100: isAsked } = response as Expecting;
  if (isAnnounced === true && isAsked !== true) response.shouldKeepAlive = false;
  if (!response.shouldKeepAlive && request.httpVersion === "1.1") flat.push("Connection", "close");
  if (response.shouldKeepAlive && request.httpVersion === "1.0") {
    // Without chunks only a length tells where the answer ends.
    const isMeasured = request.method === "HEAD" || status === 204 || status === 304 || pairs.some(isLength);
    if (isMeasured) flat.push("Connection", "keep-alive");
    else response.shouldKeepAlive = false;
  }
  response.writeHead(status, STATUS_CODES[status] ?? "Status", flat);
}

/** Asks for the body of who waits for that (RFC 9110 section 10.1.1). HTTP/1.0 does not know it. */
export function sendContinue(request: IncomingMessage, response: ServerResponse): void {
  if (request.headers.expect === undefined || request.httpVersion === "1.0") return;
  const { stream } = response as { stream?: ServerHttp2Stream };
  if (stream === undefined) response.writeContinue();
  else if (!stream.destroyed && !stream.closed && !stream.headersSent) stream.additionalHeaders({ ":status": 100 });
}

/** Than one `100-continue`, which Node finds anywhere in the value. */
export function expectsOther({ httpVersion, headers }: IncomingMessage): boolean {
  return httpVersion !== "1.0" && !/^(?:100-continue)?$/i.test(headers.expect ?? "");
}

export function refuseExpectation(request: IncomingMessage, response: ServerResponse): void {
  response.shouldKeepAlive = false;
  sendError(request, response, 417, "417 unknown expectation");
}

/** What node:http notes of a request with `Expect: 100-continue`. */
type Expecting = ServerResponse & { readonly _expect_continue?: boolean; readonly _sent100?: boolean };

const isLength = ([name]: HeaderPair): boolean => name.length === 14 && name.toLowerCase() === "content-length";

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
