import { AsyncLocalStorage } from "node:async_hooks";
import type acme from "acme-client";
import { AuthorityFault } from "./authority-fault.ts";
import type { Answer, CaTransport } from "./ca-transport.ts";

/** Nonces that a CA may refuse for one request before we stop asking (AC-1). */
const MOST_BAD_NONCES = 10;
/** Requests of one call: refused nonces and alternate chains. The library runs in a circle for an account without Location. */
const MOST_REQUESTS = 128;
/** Chains that a CA may offer beside its own; each is fetched. */
const MOST_ALTERNATES = 8;

/** What requests that the library makes during one call belong to. */
export interface Call {
  readonly transport: CaTransport;
  /** What the CA's directory said; the library wants to ask for it as well. */
  readonly directory: object;
  readonly signal: AbortSignal;
}

interface OpenCall extends Call {
  /** Made so far. */
  requests: number;
  readonly badNonces: Map<string, number>;
}

export type AcmeLibrary = typeof acme;
type Adapter = Extract<AcmeLibrary["axios"]["defaults"]["adapter"], (config: never) => unknown>;

const calls = new AsyncLocalStorage<OpenCall>();
/** The library returns bodies; what stood in the head of an answer is kept beside its body. */
const heads = new WeakMap<object, Answer["headers"]>();
let loading: Promise<AcmeLibrary> | undefined;

/**
 * `acme-client` with our HTTP under it. It signs, and knows which request has which form; its own HTTP follows redirects,
 * reads without end and sleeps for as long as the CA likes, so nothing of that is left. Takes 250 ms and 40 MB, hence late.
 */
export function loadAcme(): Promise<AcmeLibrary> {
  loading ??= import("acme-client").then(({ default: library }) => {
    library.axios.defaults.adapter = askForLibrary;
    return library;
  });
  return loading;
}

/** Runs what the library does in `work` under the limits of `call`. */
export function inCall<T>(call: Call, work: () => Promise<T>): Promise<T> {
  return calls.run({ ...call, requests: 0, badNonces: new Map() }, work);
}

/** Head of the answer that had this body. */
export function headOf(body: object): Answer["headers"] {
  return heads.get(body) ?? {};
}

/** Its own limit of five lies below ours; a counter of its client, which has no option for it. */
export function liftNonceLimit(client: acme.Client): void {
  (client as unknown as { http: { maxBadNonceRetries: number } }).http.maxBadNonceRetries = MOST_BAD_NONCES;
}

const askForLibrary: Adapter = async (config) => {
  const call = calls.getStore();
  if (call === undefined) throw new Error("a request outside of any call");
  const { status, headers, body } = await answerTo(call, String(config.method).toUpperCase(), config.url!, config.data);
  if (typeof body === "object" && body !== null) heads.set(body, headers);
  return { status, statusText: "", headers: { ...headers }, data: body, config };
};

async function answerTo(call: OpenCall, method: string, url: string, data: string | undefined): Promise<Answer> {
  const { transport, signal } = call;
  if (++call.requests > MOST_REQUESTS) throw transport.nonsense("answers that lead in a circle");
  if (method === "GET") return { status: 200, headers: {}, body: call.directory };
  if (method === "HEAD") {
    const kept = transport.takeNonce();
    if (kept !== undefined) return { status: 200, headers: { "replay-nonce": kept }, body: "" };
    const answer = await transport.ask("HEAD", url, signal);
    const fault = transport.faultOf(answer);
    if (fault !== undefined) throw fault;
    return answer;
  }
  const answer = await transport.ask("POST", url, signal, data);
  const fault = transport.faultOf(answer);
  // The library takes the new nonce from this answer and signs again.
  if (fault?.problem === "badNonce") return countBadNonce(call, url, answer);
  transport.keepNonce(answer.headers["replay-nonce"]);
  if (fault !== undefined) throw fault;
  return { ...answer, headers: { ...answer.headers, link: shortened(answer.headers["link"]) } };
}

function countBadNonce({ badNonces }: OpenCall, url: string, answer: Answer): Answer {
  const count = (badNonces.get(url) ?? 0) + 1;
  badNonces.set(url, count);
  if (count <= MOST_BAD_NONCES) return answer;
  throw new AuthorityFault("CERT_ORDER_UNREACHABLE", `Cannot ask "${new URL(url).host}": it refused ${count} nonces`, {
    problem: "badNonce",
  });
}

function shortened(links = ""): string {
  return links
    .split(/,\s*(?=<)/)
    .slice(0, MOST_ALTERNATES)
    .join(", ");
}
