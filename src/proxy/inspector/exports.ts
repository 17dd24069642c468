import { STATUS_CODES } from "node:http";
import type { HeaderPair } from "../../identity/headers.ts";
import type { Recorded, RecordedBody } from "./recorder.ts";
import { REDACTED } from "./secret-shapes.ts";

/** As whoever asked named it. */
export function addressOf({ place, target }: Pick<Recorded, "place" | "target">): string {
  const path = target.startsWith("/") ? target : `/${/^https?:\/\/[^/?#]*\/?(.*)$/is.exec(target)?.[1] ?? ""}`;
  return `${place.serverName === undefined ? "http" : "https"}://${place.host}${path}`;
}

/** HTTP Archive 1.2. What was redacted is said to be. */
export function harOf(records: readonly Recorded[]): object {
  return {
    log: {
      version: "1.2",
      creator: { name: "sallyport", version: "1" },
      entries: [...records].reverse().map(harEntry),
    },
  };
}

function harEntry(record: Recorded): object {
  const { method, version, fields, body, answer, startedAt, target } = record;
  const tookMs = answer?.tookMs ?? 0;
  const query = target.includes("?") ? target.slice(target.indexOf("?") + 1) : "";
  return {
    startedDateTime: new Date(startedAt).toISOString(),
    time: tookMs,
    request: {
      method,
      url: addressOf(record),
      httpVersion: `HTTP/${version}`,
      cookies: [],
      headers: nameValues(fields),
      queryString: nameValues([...new URLSearchParams(query)]),
      ...(body.totalBytes === 0 ? {} : { postData: { mimeType: typeOf(fields), text: body.text, ...lackOf(body) } }),
      headersSize: -1,
      bodySize: body.totalBytes,
    },
    response: {
      status: answer?.status ?? 0,
      statusText: STATUS_CODES[answer?.status ?? 0] ?? "",
      httpVersion: `HTTP/${version}`,
      cookies: [],
      headers: nameValues(answer?.fields ?? []),
      content: contentOf(answer?.body, typeOf(answer?.fields ?? [])),
      redirectURL: answer?.fields.find(([name]) => name.toLowerCase() === "location")?.[1] ?? "",
      headersSize: -1,
      bodySize: answer?.body.totalBytes ?? -1,
    },
    cache: {},
    timings: { send: 0, wait: tookMs, receive: 0 },
  };
}

const nameValues = (pairs: readonly HeaderPair[]): object[] => pairs.map(([name, value]) => ({ name, value }));

function contentOf(body: RecordedBody | undefined, mimeType: string): object {
  const { totalBytes = 0, text = "" } = body ?? {};
  return { size: totalBytes, mimeType, ...(text === "" && totalBytes > 0 ? {} : { text }), ...lackOf(body) };
}

function lackOf(body: RecordedBody | undefined): { readonly comment?: string } {
  if (body === undefined || body.isWhole) return {};
  return { comment: body.text === "" ? "not kept: it is no text" : "not whole: too long, or redacted" };
}

export function typeOf(fields: readonly HeaderPair[]): string {
  return fields.find(([name]) => name.toLowerCase() === "content-type")?.[1] ?? "";
}

/** Written anew by whoever sends the request. */
const FRAMING: ReadonlySet<string> = new Set([
  "host",
  "connection",
  "content-length",
  "transfer-encoding",
  "keep-alive",
  "upgrade",
  "te",
  "trailer",
  "expect",
  "http2-settings",
  "proxy-connection",
]);

/** The fields that a repetition can be sent with: what was redacted is left out. */
export function repeatable(fields: readonly HeaderPair[]): readonly HeaderPair[] {
  return fields.filter(([name, value]) => !FRAMING.has(name.toLowerCase()) && value !== REDACTED);
}

/** For a POSIX shell. */
export function curlOf(record: Recorded): string {
  const { method, fields, body } = record;
  const words = ["curl", "--globoff", "--path-as-is"];
  if (method === "HEAD") words.push("--head");
  else if (method !== "GET" || body.totalBytes > 0) words.push("--request", quoted(method));
  for (const [name, value] of repeatable(fields))
    words.push("--header", quoted(value === "" ? `${name};` : `${name}: ${value}`));
  if (!record.target.startsWith("/")) words.push("--request-target", quoted(record.target)); // `*`, or a whole address
  const isSaid = method !== "HEAD" && body.isWhole && !body.text.includes("\0");
  if (body.totalBytes > 0 && isSaid) {
    if (typeOf(fields) === "") words.push("--header", "Content-Type:"); // curl would call it a form
    words.push("--data-raw", quoted(body.text));
  }
  const lacking =
    isSaid || body.totalBytes === 0
      ? ""
      : ` # without its body of ${body.totalBytes} bytes, which was not kept whole or is no text`;
  return `${[...words, "--", quoted(addressOf(record))].join(" ")}${lacking}`;
}

/** Nothing in it means anything to the shell. A NUL cannot be given to a program. */
export function quoted(text: string): string {
  const plain = text.replaceAll("\0", "");
  return /^[\w@%+=:,./-]+$/.test(plain) ? plain : `'${plain.replaceAll("'", "'\\''")}'`;
}
