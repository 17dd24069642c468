import { isUtf8 } from "node:buffer";
import type { IncomingMessage, ServerResponse } from "node:http";
import { constants, type ServerHttp2Stream } from "node:http2";
import type { Clock } from "../../base/clock.ts";
import type { Proof } from "../../base/conn.ts";
import type { HeaderPair } from "../../identity/headers.ts";
import { DOOR_PATHS } from "../doors/local-path.ts";
import type { Front } from "../options.ts";
import { unescaped } from "../path.ts";
import { redactBody } from "./body-redaction.ts";
import { redactFields, redactTarget } from "./redaction.ts";
import { REDACTED } from "./secret-shapes.ts";

const MOST_REQUESTS = 100;
const LARGEST_BODY_BYTES = 64 * 1024;
const MOST_BYTES = 16 * 1024 * 1024;

/** One request and its answer, without anything secret. */
export interface Recorded {
  readonly id: number;
  /** Unix ms. */
  readonly startedAt: number;
  /** Where it came in. */
  readonly place: RecordedPlace;
  /** How it came: through the mesh, through an ingress, or from nobody known. */
  readonly from: { readonly kind: Proof["kind"]; readonly address: string };
  readonly isUpgrade: boolean;
  /** The request of which this is a repetition. */
  readonly replayOf: number | undefined;
  readonly method: string;
  readonly target: string;
  readonly version: string;
  readonly fields: readonly HeaderPair[];
  readonly body: RecordedBody;
  /** Absent until it is answered. */
  readonly answer: RecordedAnswer | undefined;
}

export interface RecordedPlace {
  readonly port: number;
  readonly address: string;
  /** Of TLS. */
  readonly serverName: string | undefined;
  /** As the caller named it. */
  readonly host: string;
}

export interface RecordedBody {
  /** Its beginning; empty where it is no text. */
  readonly text: string;
  /** `text` is all of it, but for what is redacted. */
  readonly isWhole: boolean;
  readonly totalBytes: number;
}

export interface RecordedAnswer {
  /** 0 where the connection ended before there was one. */
  readonly status: number;
  readonly fields: readonly HeaderPair[];
  readonly body: RecordedBody;
  readonly tookMs: number;
  /** The connection ended first. */
  readonly isCut: boolean;
}

type Growing = { -readonly [K in keyof Recorded]: Recorded[K] };

interface Kept {
  readonly record: Growing;
  /** What is coming still. */
  readonly gathered: readonly Gathering[];
  /** Of bodies. */
  bytes: number;
  /** Called once it has its answer, or is forgotten. */
  readonly onOver: (() => void)[];
}

/** The last requests, in the order in which they came: so many of them, so many bytes, and nothing secret. */
export class Recorder {
  readonly #clock: Clock;
  readonly #secretFields: () => readonly string[];
  readonly #kept: Map<number, Kept> = new Map();
  readonly #replays: WeakMap<Proof, number> = new WeakMap();
  /** Off it keeps nothing and costs nothing. */
  isOn: boolean = true;
  #nextId = 1;
  #bytes = 0;

  /** `secretFields`: further names of fields that are secret here. */
  constructor(clock: Clock, secretFields: () => readonly string[] = () => []) {
    this.#clock = clock;
    this.#secretFields = secretFields;
  }

  /** The newest first. */
  list(): readonly Recorded[] {
    return [...this.#kept.values()].map(({ record }) => record).reverse();
  }

  /** Of bodies, also of those that are still coming. */
  get heldBytes(): number {
    return this.#bytes;
  }

  find(id: number): Recorded | undefined {
    return this.#kept.get(id)?.record;
  }

  /** Also what is under way: nothing more of it is kept. */
  clear(): void {
    for (const id of [...this.#kept.keys()]) this.#forget(id);
  }

  /** Settles once these have their answers: who sends one again is to see it whole. */
  async answered(isMeant: (record: Recorded) => boolean): Promise<void> {
    const open = [...this.#kept.values()].filter(({ record }) => record.answer === undefined && isMeant(record));
    await Promise.all(open.map(({ onOver }) => new Promise<void>((resolve) => void onOver.push(resolve))));
  }

  /** What comes in on a connection with this very proof repeats that request. */
  willReplay(proof: Proof, id: number): void {
    this.#replays.set(proof, id);
  }

  /** Looks on; changes nothing of the request or its answer. What visitors tell a door is not written down. */
  watch(
    { proof, port, serverName }: Front,
    request: IncomingMessage,
    response: ServerResponse,
    isUpgrade: boolean,
  ): void {
    const target = request.url ?? "/";
    if (!this.isOn) return;
    if (unescaped(unescaped(target)).toLowerCase().includes(DOOR_PATHS)) return;
    const startedAt = this.#clock.now();
    const secrets = this.#secretFields();
    const raw = request.rawHeaders.slice(); // the router takes some out
    const record: Growing = {
      id: this.#nextId++,
      startedAt: this.#clock.wall(),
      place: { port, address: proof.destination.address, serverName, host: hostOf(raw) },
      from: { kind: proof.kind, address: proof.kind === "ingress" ? proof.visitor.address : proof.source.address },
      isUpgrade,
      replayOf: this.#replays.get(proof),
      method: request.method ?? "GET",
      target: redactTarget(target),
      version: request.httpVersion,
      fields: redactFields(pairsOf(raw), secrets),
      body: { text: "", isWhole: true, totalBytes: 0 },
      answer: undefined,
    };
    const hold = (bytes: number): void => {
      kept.bytes += bytes;
      this.#bytes += bytes;
      this.#makeRoom();
    };
    const [sent, received] = [new Gathering(hold), new Gathering(hold)];
    const kept: Kept = { record, gathered: [sent, received], bytes: 0, onOver: [] };
    this.#kept.set(record.id, kept);
    tapRequest(request, received);
    const head = tapAnswer(response, sent);
    response.once("close", () => {
      if (!this.#kept.has(record.id)) return;
      const type = (fields: readonly HeaderPair[]): string =>
        fields.find(([name]) => name.toLowerCase() === "content-type")?.[1] ?? "";
      const { status, fields } = head();
      record.body = received.body(type(record.fields));
      const answered = redactFields(fields, secrets);
      record.answer = {
        status,
        fields: answered,
        body: sent.body(type(answered)),
        tookMs: this.#clock.now() - startedAt,
        isCut: isCut(response),
      };
      for (const gathering of kept.gathered) gathering.drop();
      hold(record.body.text.length + record.answer.body.text.length - kept.bytes);
      for (const done of kept.onOver.splice(0)) done();
    });
    this.#makeRoom();
  }

  /** The oldest first, also one that is under way: a thousand streams must not hold a thousand bodies. */
  #makeRoom(): void {
    for (const id of this.#kept.keys()) {
      if (this.#kept.size <= MOST_REQUESTS && this.#bytes <= MOST_BYTES) break;
      this.#forget(id);
    }
  }

  #forget(id: number): void {
    const kept = this.#kept.get(id);
    if (kept === undefined) return;
    this.#kept.delete(id);
    this.#bytes -= kept.bytes;
    for (const gathering of kept.gathered) gathering.drop();
    for (const done of kept.onOver.splice(0)) done();
  }
}

/** The beginning of a body. */
class Gathering {
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
    const isText = [0, 1, 2, 3].slice(0, isAll ? 1 : 4).some((lost) => isUtf8(bytes.subarray(0, bytes.length - lost)));
    const text = isText ? redactBody(bytes.toString("utf8"), type) : "";
    const isWhole = isAll && isText && text !== REDACTED;
    return { text, isWhole, totalBytes: this.#total };
  }
}

/** A listener would start the flow before its reader is there: what is emitted is seen on its way. */
function tapRequest(request: IncomingMessage, gathering: Gathering): void {
  const emit = request.emit.bind(request) as (...all: unknown[]) => boolean;
  request.emit = (...all: unknown[]): boolean => {
    if (all[0] === "data") gathering.add(all[1], "latin1");
    return emit(...all);
  };
}

function tapAnswer(response: ServerResponse, gathering: Gathering): () => { status: number; fields: HeaderPair[] } {
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
function isCut(response: ServerResponse): boolean {
  const { stream } = response as { readonly stream?: ServerHttp2Stream };
  if (stream === undefined) return !response.writableFinished;
  return !response.headersSent || stream.rstCode !== constants.NGHTTP2_NO_ERROR;
}

function entriesOf(fields: Readonly<Record<string, unknown>>): HeaderPair[] {
  return Object.entries(fields).flatMap(([name, value]) =>
    (Array.isArray(value) ? value : [value]).map((one): HeaderPair => [name, String(one)]),
  );
}

function pairsOf(raw: readonly string[]): HeaderPair[] {
  const pairs: HeaderPair[] = [];
  for (let i = 0; i < raw.length; i += 2) if (!raw[i]!.startsWith(":")) pairs.push([raw[i]!, raw[i + 1]!]);
  return pairs;
}

function hostOf(raw: readonly string[]): string {
  const at = raw.findIndex((name, i) => i % 2 === 0 && /^(?:host|:authority)$/i.test(name));
  return at < 0 ? "" : raw[at + 1]!;
}
