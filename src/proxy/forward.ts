import type { ClientRequest, IncomingMessage, ServerResponse } from "node:http";
import { messageOf } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import type { HeaderPair } from "../identity/headers.ts";
import { sendError, writeHead } from "./answers.ts";
import type { Backend } from "./backend.ts";
import type { BackendPool } from "./backend-pool.ts";
import { answerFields, requestFields, trailerFields } from "./fields.ts";
import type { Checked } from "./request-checks.ts";

export interface Forwarding {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly checked: Checked;
  readonly backend: Backend;
  /** With the query. */
  readonly path: string;
  readonly identity: readonly HeaderPair[];
  readonly pool: BackendPool;
  readonly poolKey: string;
  readonly log: Log;
  readonly rewrite: (name: string, value: string) => string;
}

const MOST_INFORMATIONAL = 20;
const LENGTH_WANTED: ReadonlySet<string> = new Set(["POST", "PUT", "PATCH"]);
const RETRIED: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS"]);

/** Sends one request to the backend and its answer back, as it comes. */
export function forward(work: Forwarding): void {
  attempt(work, true);
}

/** Writes the fields anew from their parsed parts; the framing is ours. */
export function setFields(
  outgoing: ClientRequest,
  work: Pick<Forwarding, "request" | "checked" | "backend" | "identity">,
): void {
  const { request, checked, backend, identity } = work;
  outgoing.setHeader("Host", backend.socketPath === undefined ? checked.host : "localhost");
  for (const [name, values] of requestFields(request.rawHeaders, checked.isChunked).values()) {
    outgoing.setHeader(name, values.length === 1 ? values[0]! : values);
  }
  for (const [name, value] of identity) outgoing.setHeader(name, value);
}

function attempt(work: Forwarding, mayRetry: boolean): void {
  const { request, response, checked, backend, pool, log } = work;
  const outgoing = pool.request(backend, work.poolKey, request.method ?? "GET", work.path);
  setFields(outgoing, work);
  const hasBody =
    checked.isChunked ||
    (checked.length ?? 0) > 0 ||
    (request.httpVersionMajor === 2 &&
      !request.readableEnded &&
      checked.length === undefined &&
      request.headers["content-length"] === undefined &&
      !isEndedStream(request));
  if (checked.length !== undefined && checked.length > 0) outgoing.setHeader("Content-Length", checked.length);
  else if (hasBody) outgoing.setHeader("Transfer-Encoding", "chunked");
  else {
    outgoing.useChunkedEncodingByDefault = false;
    if (LENGTH_WANTED.has(request.method ?? "") || checked.length === 0) outgoing.setHeader("Content-Length", 0);
  }

  let answered = false;
  let informational = 0;
  const onClientGone = (): void => {
    if (!response.writableFinished) outgoing.destroy();
  };
  response.once("close", onClientGone);

  outgoing.on("information", (info) => {
    if (++informational > MOST_INFORMATIONAL) return void outgoing.destroy(new Error("too many informational answers"));
    if (info.statusCode === 100 || request.httpVersion === "1.0" || response.headersSent) return;
    sendInformation(
      response,
      info.statusCode,
      answerFields(info.rawHeaders, (_, value) => value),
    );
  });
  outgoing.on("response", (answer) => {
    answered = true;
    relayAnswer(work, outgoing, answer);
  });
  outgoing.on("upgrade", (_answer, socket) => {
    // A 101 that nobody asked for.
    socket.destroy();
    if (!answered) sendError(request, response, 502, "502 the backend switched protocols unasked");
    answered = true;
  });
  outgoing.on("error", (error) => {
    if (answered) return void request.resume(); // the answer tells; the rest of the body has nowhere to go
    response.off("close", onClientGone);
    if (response.destroyed || request.destroyed) return;
    const isStale = outgoing.reusedSocket && !hasBody && RETRIED.has(request.method ?? "");
    if (mayRetry && isStale && informational === 0) return attempt(work, false);
    answered = true;
    log.warn("proxy.backend_failed", { host: backend.host, port: backend.port, error: messageOf(error) });
    if (hasBody && !request.complete) response.shouldKeepAlive = false;
    sendError(request, response, 502, `502 the backend did not answer: ${causeOf(error)}`);
  });

  if (hasBody) relayBody(request, outgoing);
  else outgoing.end();
}

function isEndedStream(request: IncomingMessage): boolean {
  const stream = (request as unknown as { stream?: { endAfterHeaders?: boolean } }).stream;
  return stream?.endAfterHeaders === true;
}

function relayBody(request: IncomingMessage, outgoing: ClientRequest): void {
  request.on("data", (chunk: Buffer) => {
    if (!outgoing.write(chunk)) request.pause();
  });
  outgoing.on("drain", () => void request.resume());
  request.on("end", () => void outgoing.end()); // without trailers: ID-6
  request.on("aborted", () => void outgoing.destroy());
  request.on("error", () => void outgoing.destroy());
}

function sendInformation(response: ServerResponse, status: number, pairs: readonly HeaderPair[]): void {
  if (response.req?.httpVersionMajor === 2) return;
  // Node 24 has no writeInformation; its own writeEarlyHints knows nothing but Link.
  if (typeof response.writeInformation === "function") response.writeInformation(status, pairs.flat());
  else if (status === 102) response.writeProcessing();
}

/** For people: without addresses of the inside. */
function causeOf(error: Error): string {
  switch ((error as NodeJS.ErrnoException).code) {
    case "ECONNREFUSED":
      return "connection refused";
    case "ENOENT":
      return "no such socket";
    case "ETIMEDOUT":
    case "EHOSTUNREACH":
    case "ENETUNREACH":
      return "unreachable";
    case "ECONNRESET":
      return "connection reset";
    default:
      return "not a valid answer";
  }
}

/** The head, the body with back-pressure, the trailers. A body that ends early ends visibly early (H1-22). */
export function relayAnswer(
  work: Pick<Forwarding, "request" | "response" | "rewrite">,
  outgoing: ClientRequest,
  answer: IncomingMessage,
): void {
  const { request, response } = work;
  if (response.headersSent || response.destroyed) return void answer.destroy();
  const status = answer.statusCode ?? 502;
  const isOpenEnded = answer.headers["content-length"] === undefined;
  // An announcement without trailers to follow would be a lie, and Node refuses to write it.
  const hasTrailers =
    isOpenEnded && request.httpVersion !== "1.0" && request.method !== "HEAD" && status !== 204 && status !== 304;
  const pairs = answerFields(answer.rawHeaders, work.rewrite).filter(
    ([name]) => hasTrailers || name.toLowerCase() !== "trailer",
  );
  try {
    writeHead(request, response, status, pairs);
  } catch {
    // A field or status that Node's parser reads and its writer refuses: not a valid answer.
    outgoing.destroy();
    return void sendError(request, response, 502, "502 the backend did not answer: not a valid answer");
  }
  if (isOpenEnded && request.httpVersionMajor !== 2) response.flushHeaders();
  answer.on("data", (chunk: Buffer) => {
    if (!response.write(chunk)) answer.pause();
  });
  response.on("drain", () => void answer.resume());
  answer.on("end", () => {
    if (!answer.complete) return void response.destroy();
    if (answer.rawTrailers.length > 0 && hasTrailers) {
      response.addTrailers(trailerFields(answer.rawTrailers).map(([name, value]) => [name, value] as [string, string]));
    }
    response.end();
  });
  answer.on("error", () => {
    outgoing.destroy();
    (response.socket ?? response).destroy();
  });
}
