import { gunzipSync } from "node:zlib";
import { readAtMost } from "../../base/bounded-read.ts";
import { Fault, messageOf } from "../../base/fault.ts";

/** Bytes at a path below a log's address. @throws {Fault} CERT_TRANSPARENCY_… */
export type LogTransport = (path: string, signal: AbortSignal) => Promise<Buffer>;

/** There is nothing at this path. */
export const CODE_NOT_THERE: string = "CERT_TRANSPARENCY_NOT_THERE";
const MOST_BYTES = 32 * 1024 * 1024;
const REQUEST_MS = 60_000;

/**
 * GET over HTTPS, to that very address: no redirects, so many bytes, so long; one request at a time is the caller's part.
 * @throws {Fault} CERT_TRANSPARENCY_URL
 */
export function logTransport(address: string): LogTransport {
  const base = URL.canParse(address) ? new URL(address.endsWith("/") ? address : `${address}/`) : undefined;
  const isLoopback = /^(127(\.\d+){3}|\[::1\]|localhost)$/.test(base?.hostname ?? "");
  if (base?.protocol !== "https:" && !(base?.protocol === "http:" && isLoopback)) {
    throw new Fault("CERT_TRANSPARENCY_URL", `Cannot use "${address}" as a transparency log: wanted an https address`);
  }
  return async (path, signal) => {
    const { request } = await import("undici"); // who watches nothing does not pay
    const deadline = AbortSignal.timeout(REQUEST_MS);
    const fail = (code: string, found: string, cause?: unknown): Fault =>
      new Fault(code, `Cannot read the transparency log at "${base.host}": ${found}`, { cause });
    try {
      const { statusCode, headers, body } = await request(new URL(path, base), {
        headers: { "user-agent": "sallyport", "accept-encoding": "gzip, identity" },
        signal: AbortSignal.any([signal, deadline]),
      });
      const all = await readAtMost(body, MOST_BYTES);
      if (all === undefined) throw fail("CERT_TRANSPARENCY_FORM", `an answer longer than ${MOST_BYTES} bytes`);
      if (statusCode !== 200) {
        const isAbsent = statusCode === 404 || statusCode === 403; // stores of files say either
        throw fail(isAbsent ? CODE_NOT_THERE : "CERT_TRANSPARENCY_UNREACHABLE", `status ${statusCode}`);
      }
      return headers["content-encoding"] === "gzip" ? gunzipSync(all, { maxOutputLength: MOST_BYTES }) : all;
    } catch (cause) {
      if (signal.aborted) throw signal.reason;
      if (cause instanceof Fault) throw cause;
      const reason = deadline.aborted ? `no answer in ${REQUEST_MS / 1000} s` : messageOf(cause);
      throw fail("CERT_TRANSPARENCY_UNREACHABLE", reason, cause);
    }
  };
}
