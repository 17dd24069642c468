import type { Clock } from "../base/clock.ts";
import type { Random } from "../base/random.ts";
import type { MapResponse } from "../wire/tailcfg.ts";

const WITHIN_MS = 30_000;
const MOST_WAITING = 1024;
export const ANSWER_PATH = "/machine/c2n/";

export interface QuestionsOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** False: the node has no stream. */
  readonly send: (nodeId: number, message: MapResponse) => boolean;
}

interface Waiting {
  readonly nodeId: number;
  readonly done: (answer: string | undefined) => void;
}

/**
 * Questions to nodes ("c2n", control-protocol §9.1): an HTTP request in a message of the map stream, whose answer the
 * node posts inside its channel. One at a time for each node; a later one takes its place.
 */
export class NodeQuestions {
  readonly #options: QuestionsOptions;
  /** By the token in the address of the answer. */
  readonly #waiting: Map<string, Waiting> = new Map();

  constructor(options: QuestionsOptions) {
    this.#options = options;
  }

  /** The body of the answer to `GET path`; undefined where there is none, or none that says 200. */
  ask(nodeId: number, path: string): Promise<string | undefined> {
    for (const other of this.#waiting.values()) if (other.nodeId === nodeId) other.done(undefined);
    if (this.#waiting.size >= MOST_WAITING) return Promise.resolve(undefined);
    const { clock, random, send } = this.#options;
    const token = Buffer.from(random(24)).toString("hex");
    const { promise, resolve } = Promise.withResolvers<string | undefined>();
    const done = (answer: string | undefined): void => {
      stop();
      this.#waiting.delete(token);
      resolve(answer);
    };
    const stop = clock.at(clock.now() + WITHIN_MS, () => done(undefined));
    this.#waiting.set(token, { nodeId, done });
    const Payload = Buffer.from(`GET ${path} HTTP/1.1\r\nHost: c2n\r\n\r\n`).toString("base64");
    // The host is not looked at: the answer comes by the channel that the question goes by.
    const PingRequest = { URL: `https://unused${ANSWER_PATH}${token}`, URLIsNoise: true, Types: "c2n", Payload };
    if (!send(nodeId, { PingRequest })) done(undefined);
    return promise;
  }

  /** Takes what the node posted. False: nobody asked it this. */
  answer(nodeId: number | undefined, token: string, body: unknown): boolean {
    const waiting = this.#waiting.get(token);
    if (waiting === undefined || waiting.nodeId !== nodeId) return false;
    waiting.done(bodyOf(body));
    return true;
  }

  /** Whom the token was given to. */
  nodeOf(token: string): number | undefined {
    return this.#waiting.get(token)?.nodeId;
  }

  close(): void {
    for (const { done } of [...this.#waiting.values()]) done(undefined);
  }
}

/** Of an HTTP/1.x response, as upstream writes it: whole, the body up to the end. */
function bodyOf(response: unknown): string | undefined {
  if (typeof response !== "string" || !/^HTTP\/1\.[01] 200\b/.test(response)) return undefined;
  const end = response.indexOf("\r\n\r\n");
  if (end < 0 || /^transfer-encoding:/im.test(response.slice(0, end))) return undefined;
  return response.slice(end + 4);
}
