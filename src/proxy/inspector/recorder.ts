import type { IncomingMessage, ServerResponse } from "node:http";
import type { Clock } from "../../base/clock.ts";
import type { Proof } from "../../base/conn.ts";
import type { HeaderPair } from "../../identity/headers.ts";
import { DOOR_PATHS } from "../doors/local-path.ts";
import type { Front } from "../options.ts";
import { unescaped } from "../path.ts";
import { redactFields, redactTarget } from "./redaction.ts";
import { Gathering, hostOf, isCut, pairsOf, tapAnswer, tapRequest } from "./taps.ts";

const MOST_REQUESTS = 100;
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
