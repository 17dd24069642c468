import { isUtf8 } from "node:buffer";
import type { IncomingMessage, ServerResponse } from "node:http";
import { constants, type ServerHttp2Stream } from "node:http2";
import type { HeaderPair } from "../../identity/headers.ts";
import { redactBody } from "./body-redaction.ts";
import type { RecordedBody } from "./recorder.ts";
import { REDACTED } from "./secret-shapes.ts";

const LARGEST_BODY_BYTES = 64 * 1024;

/** The beginning of a body. */
export class Gathering {
  readonly #onKept: (bytes: number) => void;
  #parts: Buffer[] = [];
  #kept = 0;
  #total = 0;
  #isOver = false;

  /** Called with how much more is kept. */
  constructor(onKept: (bytes: number) => void) {
    this.#onKept = onKept;
  }

  add(part: unknown, encoding?: unknown): void {
    if (this.#isOver || (typeof part !== "string" && !(part instanceof Uint8Array))) return;
    const known = typeof encoding === "string" && Buffer.isEncoding(encoding) ? encoding : "utf8";
    const bytes = typeof part === "string" ? Buffer.from(part, known) : part;
    this.#total += bytes.length;
    const room = LARGEST_BODY_BYTES - this.#kept;
    if (room <= 0) return;
    const kept = Buffer.from(bytes.subarray(0, room)); // a copy: the rest of the slab is not ours to hold
    this.#kept += kept.length;
    this.#parts.push(kept);
    this.#onKept(kept.length);
  }

  /** Nobody will ask for it any more. */
  drop(): void {
    this.#isOver = true;
    this.#parts = [];
  }

  body(type: string): RecordedBody {
    const bytes = Buffer.concat(this.#parts);
    const isAll = this.#kept === this.#total;
    // Where it was cut, its last character may be, too. Of an image or a packed body replacement characters tell nothing.
    // In UTF-16 every other byte of plain text is 0, and no name of a secret would be found in it.
    const isText =
      !bytes.includes(0) &&
      [0, 1, 2, 3].slice(0, isAll ? 1 : 4).some((lost) => isUtf8(bytes.subarray(0, bytes.length - lost)));
    const text = isText ? redactBody(bytes.toString("utf8"), type) : "";
    const isWhole = isAll && isText && text !== REDACTED;
    return { text, isWhole, totalBytes: this.#total };
  }
}

/** A listener would start the flow before its reader is there: what is emitted is seen on its way. */
export function tapRequest(request: IncomingMessage, gathering: Gathering): void {
  const emit = request.emit.bind(request) as (...all: unknown[]) => boolean;
  request.emit = (...all: unknown[]): boolean => {
    if (all[0] === "data") gathering.add(all[1], "latin1");
    return emit(...all);
  };
}

export function tapAnswer(
  response: ServerResponse,
  gathering: Gathering,
): () => { status: number; fields: HeaderPair[] } {
  let seen: HeaderPair[] | undefined;
  const writeHead = response.writeHead.bind(response) as (...all: unknown[]) => ServerResponse;
  response.writeHead = (...all: unknown[]): ServerResponse => {
    const fields = all.at(-1);
    if (Array.isArray(fields)) seen = pairsOf(fields.map(String));
    else if (typeof fields === "object" && fields !== null)
      seen = entriesOf(fields as Readonly<Record<string, unknown>>);
    return writeHead(...all);
  };
  let isEnding = false; // by HTTP/2 Node's `end` writes its part with `write`
  const write = response.write.bind(response) as (...all: unknown[]) => boolean;
  response.write = (...all: unknown[]): boolean => {
    if (!isEnding) gathering.add(all[0], all[1]);
    return write(...all);
  };
  const end = response.end.bind(response) as (...all: unknown[]) => ServerResponse;
  response.end = (...all: unknown[]): ServerResponse => {
    gathering.add(all[0], all[1]);
    isEnding = true;
    return end(...all);
  };
  return () => ({
    status: response.headersSent ? response.statusCode : 0,
    fields: seen ?? entriesOf(response.getHeaders()),
  });
}

/** Node's answers by HTTP/2 call themselves finished with whatever ends their stream. */
export function isCut(response: ServerResponse): boolean {
  const { stream } = response as { readonly stream?: ServerHttp2Stream };
  if (stream === undefined) return !response.writableFinished;
  return !response.headersSent || stream.rstCode !== constants.NGHTTP2_NO_ERROR;
}

function entriesOf(fields: Readonly<Record<string, unknown>>): HeaderPair[] {
  return Object.entries(fields).flatMap(([name, value]) =>
    (Array.isArray(value) ? value : [value]).map((one): HeaderPair => [name, String(one)]),
  );
}

export function pairsOf(raw: readonly string[]): HeaderPair[] {
  const pairs: HeaderPair[] = [];
  for (let i = 0; i < raw.length; i += 2) if (!raw[i]!.startsWith(":")) pairs.push([raw[i]!, raw[i + 1]!]);
  return pairs;
}

export function hostOf(raw: readonly string[]): string {
  const at = raw.findIndex((name, i) => i % 2 === 0 && /^(?:host|:authority)$/i.test(name));
  return at < 0 ? "" : raw[at + 1]!;
}
