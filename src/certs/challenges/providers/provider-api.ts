import { readAtMost } from "../../../base/bounded-read.ts";
import { Fault, messageOf } from "../../../base/fault.ts";

const LARGEST_ANSWER = 1 << 20;
const TIMEOUT_MS = 30_000;
const KEPT_TEXT = 200;

/** The part of `fetch` that providers use. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

export interface ApiCall {
  /** For messages: "Cloudflare". */
  readonly service: string;
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly signal: AbortSignal;
}

export interface ApiAnswer {
  readonly status: number;
  readonly text: string;
}

/**
 * One request to a provider's interface: no redirects, bounded in time and length.
 * @throws {Fault} CERT_CHALLENGE_PROVIDER when there is no answer
 */
export async function callApi(fetch: Fetch, call: ApiCall): Promise<ApiAnswer> {
  const { service, method, url, headers, body } = call;
  const signal = AbortSignal.any([call.signal, AbortSignal.timeout(TIMEOUT_MS)]);
  try {
    const init = { method, headers: { ...headers }, redirect: "error", signal } as const;
    const response = await fetch(url, body === undefined ? init : { ...init, body });
    return { status: response.status, text: await bodyOf(response) };
  } catch (error) {
    call.signal.throwIfAborted();
    const cause = error instanceof Error && error.cause !== undefined ? `: ${messageOf(error.cause)}` : "";
    throw new Fault("CERT_CHALLENGE_PROVIDER", `Cannot reach ${service}: ${messageOf(error)}${cause}`);
  }
}

async function bodyOf({ body }: Response): Promise<string> {
  const read = body === null ? Buffer.of() : await readAtMost(body, LARGEST_ANSWER);
  if (read === undefined) throw new Error(`its answer is longer than ${LARGEST_ANSWER} bytes`);
  return read.toString("utf8");
}

/** What a service said against a request, fit for a log. */
export function refusal(service: string, doing: string, { status, text }: ApiAnswer, reason?: string): Fault {
  const said = (reason ?? text)
    .slice(0, KEPT_TEXT)
    .replace(/[^ -~]+/g, " ")
    .trim();
  const isForbidden = status === 401 || status === 403;
  return new Fault("CERT_CHALLENGE_PROVIDER", `Cannot ${doing} at ${service}: found status ${status} (${said})`, {
    ...(isForbidden ? { hint: `Look whether the secret is right and may change the zone.` } : {}),
  });
}

/** The names that could be the zone of `record`, the longest first, without the top-level domain alone. */
export function zonesAbove(record: string): readonly string[] {
  const labels = record.split(".");
  return labels.slice(0, -1).map((_, i) => labels.slice(i).join("."));
}
