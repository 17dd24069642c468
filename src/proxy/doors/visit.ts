import type { IncomingMessage, ServerResponse } from "node:http";
import http2, { type ServerHttp2Stream } from "node:http2";
import { readAtMost } from "../../base/bounded-read.ts";
import type { Clock } from "../../base/clock.ts";
import { Fault } from "../../base/fault.ts";
import { htmlPageHeaders } from "../../base/html.ts";
import type { Caller } from "../../identity/caller.ts";
import type { HeaderPair } from "../../identity/headers.ts";
import { sendContinue, sendText, writeHead } from "../answers.ts";

/** One request that came to a door. */
export interface Visit {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** Whom the connection proves. */
  readonly caller: Caller;
  /** As the visitor's browser names this site. */
  readonly origin: string;
  readonly isTls: boolean;
  readonly isUpgrade: boolean;
  /** SHA-256 of the client certificate that the connection has shown to hold the key of, in hex. */
  readonly certificate: string | undefined;
  /** Path and query. */
  readonly target: string;
  /** Ends whatever comes of the request. */
  readonly cut: () => void;
}

const LARGEST_FORM_BYTES = 8192;
const FORM_MS = 15_000;

/** Does who asks want to read a page? Programs ask for `*` or for JSON. */
export function wantsPage({ request }: Visit): boolean {
  return (
    request.method !== "HEAD" && /(?:^|,)\s*(?:text\/html|application\/xhtml\+xml)\s*(?:[,;]|$)/i.test(accept(request))
  );
}

export function wantsJson({ request }: Visit): boolean {
  return /(?:^|,)\s*application\/(?:[\w.-]+\+)?json\s*(?:[,;]|$)/i.test(accept(request));
}

const accept = ({ headers }: IncomingMessage): string => headers.accept ?? "";

/** Was the form sent by a page of ours? Every browser says where an unsafe request comes from. */
export function isFromHere({ request, origin }: Visit): boolean {
  const { origin: said, "sec-fetch-site": site } = request.headers;
  if (said === undefined) return site === "same-origin";
  return URL.canParse(said) && new URL(said).origin === new URL(origin).origin && said !== "null";
}

/** Redirects that follow a form of ours may lead elsewhere: browsers hold the form's page to account for them. */
const FORM_ACTION = "'self' https:";

export function sendPage(visit: Visit, status: number, html: string, extra: readonly HeaderPair[] = []): void {
  const { request, response } = visit;
  const body = Buffer.from(html);
  endConnectionUnread(visit);
  const fields: HeaderPair[] = [...htmlPageHeaders(FORM_ACTION), ["Vary", "Accept"], ...extra];
  writeHead(request, response, status, [...fields, ["Content-Length", String(body.length)]]);
  response.end(request.method === "HEAD" ? undefined : body);
}

const PLAIN: readonly HeaderPair[] = [
  ["Cache-Control", "no-store"],
  ["X-Content-Type-Options", "nosniff"],
  ["Vary", "Accept"],
];

export function sendNote(visit: Visit, status: number, text: string, extra: readonly HeaderPair[] = []): void {
  endConnectionUnread(visit);
  sendText(visit.request, visit.response, status, `${text}\n`, [...PLAIN, ...extra]);
}

export function sendJson(visit: Visit, status: number, value: unknown, extra: readonly HeaderPair[] = []): void {
  const { request, response } = visit;
  const body = Buffer.from(`${JSON.stringify(value)}\n`);
  endConnectionUnread(visit);
  const fields: HeaderPair[] = [["Content-Type", "application/json"], ...PLAIN, ...extra];
  writeHead(request, response, status, [...fields, ["Content-Length", String(body.length)]]);
  response.end(request.method === "HEAD" ? undefined : body);
}

/** On to another page, which must not learn where one came from: a link's address is a secret. */
export function sendOn(visit: Visit, to: string, extra: readonly HeaderPair[] = []): void {
  const fields: HeaderPair[] = [
    ["Location", to],
    ["Cache-Control", "no-store"],
    ["Referrer-Policy", "no-referrer"],
  ];
  writeHead(visit.request, visit.response, 303, [...fields, ...extra, ["Content-Length", "0"]]);
  visit.response.end();
}

/** Who is not let in need not send a whole body first. */
function endConnectionUnread({ request, response }: Visit): void {
  if (request.complete) return;
  if (request.httpVersionMajor === 1) response.shouldKeepAlive = false;
  const { stream } = response as { readonly stream?: ServerHttp2Stream };
  // Behind the whole answer (RFC 9113 section 8.1): the sender would wait for room for ever.
  stream?.once("finish", () => {
    if (stream.state.remoteClose === 0) stream.close(http2.constants.NGHTTP2_NO_ERROR);
  });
}

/** @throws {Fault} DOOR_FORM */
export async function readForm({ request, response }: Visit, clock: Clock): Promise<URLSearchParams> {
  if (!/^application\/x-www-form-urlencoded\s*(?:;|$)/i.test(request.headers["content-type"] ?? "")) {
    throw new Fault("DOOR_FORM", "Cannot read the form: it is of another type, wanted one that a browser sends");
  }
  if (Number(request.headers["content-length"] ?? 0) > LARGEST_FORM_BYTES) throw tooLong();
  sendContinue(request, response);
  const late = clock.at(clock.now() + FORM_MS, () => void request.destroy());
  try {
    const read = await readAtMost(request, LARGEST_FORM_BYTES).catch((cause: unknown) => {
      throw new Fault("DOOR_FORM", "Cannot read the form: it did not come to its end in time", { cause });
    });
    if (read === undefined) throw tooLong();
    return new URLSearchParams(read.toString("utf8")); // browsers escape all of it, scripts do not
  } finally {
    late();
  }
}

function tooLong(): Fault {
  return new Fault("DOOR_FORM", `Cannot read the form: it is too long, wanted ${LARGEST_FORM_BYTES} bytes at most`);
}
