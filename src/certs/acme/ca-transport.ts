import type { Agent } from "undici";
import type { Clock } from "../../base/clock.ts";
import { Fault, messageOf } from "../../base/fault.ts";
import { AuthorityFault, wordsOf } from "./authority-fault.ts";
import { parseRetryAfter } from "./retry-after.ts";

const MOST_BYTES = 1024 * 1024;
const MOST_CONNECTIONS = 4;
const CONNECT_MS = 15_000;
const REQUEST_MS = 60_000;
/** A polled CA closes idle connections when it likes; a signed request that meets such an end would be lost. */
const KEEP_ALIVE_MS = 1000;
const MOST_NONCES = 8;
const USER_AGENT = "sallyport"; // RFC 8555 section 6.1 wants one

export interface TransportOptions {
  /** URL of the CA's directory. */
  readonly directory: string;
  /** PEM of the roots that sign the CA's own TLS certificate, in place of the system's. */
  readonly caBundle?: string | undefined;
  readonly clock: Clock;
  /** Of one request, in ms of real time. */
  readonly requestLimit?: number | undefined;
}

export interface Answer {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** What JSON says, else text. */
  readonly body: unknown;
}

/**
 * HTTP to one CA, which may be hostile (AC-12): one origin, no redirects, so many bytes and so long. All it throws are
 * faults, and the reason of the caller's signal.
 */
export class CaTransport {
  readonly #directory: URL;
  readonly #options: TransportOptions;
  readonly #nonces: string[] = [];
  #agent: Promise<Agent> | undefined;

  constructor(options: TransportOptions) {
    this.#directory = checkedDirectory(options.directory);
    this.#options = options;
  }

  async ask(method: "GET" | "HEAD" | "POST", target: string, signal: AbortSignal, body?: string): Promise<Answer> {
    signal.throwIfAborted();
    const url = this.#checkedUrl(target);
    const limit = this.#options.requestLimit ?? REQUEST_MS;
    const deadline = AbortSignal.timeout(limit);
    this.#agent ??= this.#openAgent();
    try {
      const answer = await (await this.#agent).request({
        origin: url.origin,
        path: `${url.pathname}${url.search}`,
        method,
        headers: { "user-agent": USER_AGENT, ...(body !== undefined && { "content-type": "application/jose+json" }) },
        body: body ?? null,
        signal: AbortSignal.any([signal, deadline]),
      });
      const text = await answer.body.text();
      const headers = Object.fromEntries(
        Object.entries(answer.headers).map(([name, value]) => [name, [value ?? ""].flat().join(", ")]),
      );
      return { status: answer.statusCode, headers, body: bodyOf(text, headers["content-type"]) };
    } catch (cause) {
      if (signal.aborted) throw signal.reason;
      const reason = deadline.aborted ? `no answer in ${limit / 1000} s` : reasonOf(cause);
      throw new AuthorityFault("CERT_ORDER_UNREACHABLE", `Cannot ask the CA at "${url.host}": ${reason}`, {
        cause,
        hint: /certificate|issuer/i.test(reason)
          ? "A CA with a root of its own needs that root as its bundle."
          : "The order goes on where it was once the CA answers.",
      });
    }
  }

  /** What an answer that is no success means, undefined for a success. */
  faultOf({ status, headers, body }: Answer): AuthorityFault | undefined {
    if (status >= 200 && status < 300) return undefined;
    const { host } = this.#directory;
    if (status < 400) {
      return nonsense(host, `an answer with status ${status}, which ACME does not know`);
    }
    const problem = problemOf(body);
    const options = { problem: problem.type, retryAfter: parseRetryAfter(headers["retry-after"], this.#wall()) };
    const said = `${status}${problem.type === undefined ? "" : ` ${problem.type}`}: ${problem.words}`;
    if (status === 429 || problem.type === "rateLimited") {
      return new AuthorityFault("CERT_ORDER_RATE_LIMITED", `Cannot order at "${host}" for now: ${said}`, options);
    }
    if (status >= 500) {
      return new AuthorityFault("CERT_ORDER_UNREACHABLE", `Cannot order at "${host}" for now: ${said}`, options);
    }
    return new AuthorityFault("CERT_ORDER_REFUSED", `Cannot go on at "${host}": ${said}`, {
      ...options,
      ...(problem.type === "userActionRequired" && { hint: "Read the CA's new terms at the address it names." }),
    });
  }

  /** Anything that is no answer a CA gives. */
  nonsense(found: string, cause?: unknown): AuthorityFault {
    return nonsense(this.#directory.host, found, cause);
  }

  /** Every answer brings a nonce for a later request (RFC 8555 section 6.5), which saves asking for one. */
  keepNonce(nonce: string | undefined): void {
    if (nonce !== undefined && /^[\w-]{1,256}$/.test(nonce) && this.#nonces.length < MOST_NONCES) {
      this.#nonces.push(nonce);
    }
  }

  takeNonce(): string | undefined {
    return this.#nonces.pop();
  }

  #wall(): number {
    return this.#options.clock.wall();
  }

  #checkedUrl(target: string): URL {
    const url = URL.canParse(target) ? new URL(target) : undefined;
    if (url?.origin !== this.#directory.origin) {
      throw this.nonsense(`it sends us to "${wordsOf(target)}", which is not its own origin`);
    }
    return url;
  }

  async #openAgent(): Promise<Agent> {
    const { Agent } = await import("undici");
    const { caBundle } = this.#options;
    return new Agent({
      connections: MOST_CONNECTIONS,
      pipelining: 1,
      allowH2: false, // every ACME client speaks HTTP/1.1; HTTP/2 gives a hostile CA more to play with
      maxResponseSize: MOST_BYTES,
      keepAliveTimeout: KEEP_ALIVE_MS,
      keepAliveMaxTimeout: KEEP_ALIVE_MS,
      connect: {
        timeout: CONNECT_MS,
        // Said, so that no environment variable switches it off.
        rejectUnauthorized: true,
        ...(caBundle !== undefined && { ca: caBundle }),
      },
    });
  }
}

/** @throws {Fault} CERT_AUTHORITY_URL */
function checkedDirectory(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isLoopback = /^(127(\.\d+){3}|\[::1\]|localhost)$/.test(url?.hostname ?? "");
  if (url?.protocol === "https:" || (url?.protocol === "http:" && isLoopback)) return url;
  throw new Fault("CERT_AUTHORITY_URL", `Cannot use "${wordsOf(text)}" as a CA: not the https URL of a directory`, {
    hint: "Give a known name such as letsencrypt, or the URL that the CA documents; http only for a test CA on this machine.",
  });
}

function nonsense(host: string, found: string, cause?: unknown): AuthorityFault {
  return new AuthorityFault("CERT_ORDER_NONSENSE", `Cannot understand the CA at "${host}": ${found}`, {
    cause,
    hint: "Check that its URL is that of an ACME directory.",
  });
}

function bodyOf(text: string, type = ""): unknown {
  if (!/[/+]json\b/i.test(type)) return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function problemOf(body: unknown): { type?: string | undefined; words: string } {
  if (typeof body !== "object" || body === null) return { words: "no explanation" };
  const { type, detail, subproblems } = body as Record<string, unknown>;
  const parts = (Array.isArray(subproblems) ? subproblems : []).slice(0, 10).map((sub: unknown) => {
    const { identifier, detail: why } = (sub ?? {}) as { identifier?: { value?: unknown }; detail?: unknown };
    return `; ${wordsOf(identifier?.value)}: ${wordsOf(why)}`;
  });
  const short = typeof type === "string" ? /^urn:ietf:params:acme:error:(\w{1,40})$/.exec(type)?.[1] : undefined;
  return { type: short, words: wordsOf(detail) + parts.join("") };
}

function reasonOf(cause: unknown): string {
  const { code, errors } = cause as { code?: unknown; errors?: readonly unknown[] };
  if (code === "UND_ERR_RES_EXCEEDED_MAX_SIZE") return `an answer longer than ${MOST_BYTES} bytes`;
  const inner = Array.isArray(errors) && errors.length > 0 ? errors[0] : cause;
  return wordsOf(messageOf(inner) || String(code));
}
