import { type IncomingMessage, request } from "node:http";
import type { Duplex } from "node:stream";
import { Fault, messageOf } from "../../base/fault.ts";

export interface OnceOptions {
  readonly method: string;
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
  readonly largestBody: number;
}

function start(stream: Duplex, options: OnceOptions) {
  const { method, url, headers, signal } = options;
  return request({
    method,
    path: `${url.pathname}${url.search}`,
    headers: { Host: url.host, ...headers },
    createConnection: () => stream,
    signal,
  });
}

function failed(url: URL, error: unknown): Fault {
  if (error instanceof Fault) return error;
  return new Fault("CONTROL_UNREACHABLE", `Cannot ask "${url.origin}": ${messageOf(error)}, wanted an answer`, {
    cause: error,
  });
}

/** One HTTP/1.1 exchange on a stream of its own, which ends with it. */
export function httpOnce(stream: Duplex, options: OnceOptions): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const outgoing = start(stream, { ...options, headers: { Connection: "close", ...options.headers } });
    const fail = (error: unknown) => {
      stream.destroy();
      reject(failed(options.url, options.signal.aborted ? options.signal.reason : error));
    };
    outgoing.on("error", fail);
    outgoing.on("response", (response: IncomingMessage) => {
      const parts: Buffer[] = [];
      let length = 0;
      response.on("data", (part: Buffer) => {
        length += part.length;
        if (length <= options.largestBody) parts.push(part);
        else fail(new Error(`found an answer of more than ${options.largestBody} bytes`));
      });
      response.on("error", fail);
      response.on("end", () => {
        stream.destroy();
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(parts).toString("utf8") });
      });
    });
    outgoing.end();
  });
}

/** Asks for an upgrade; the stream is the caller's afterwards, with the bytes that came along with the 101. */
export function httpUpgrade(
  stream: Duplex,
  options: OnceOptions & { readonly protocol: string },
): Promise<{ stream: Duplex; head: Uint8Array }> {
  const { url, protocol, signal } = options;
  return new Promise((resolve, reject) => {
    const outgoing = start(stream, {
      ...options,
      headers: { Upgrade: protocol, Connection: "upgrade", "Content-Length": "0", ...options.headers },
    });
    const fail = (error: unknown) => {
      stream.destroy();
      reject(failed(url, signal.aborted ? signal.reason : error));
    };
    outgoing.on("error", fail);
    outgoing.on("response", (response: IncomingMessage) => {
      response.on("error", () => stream.destroy());
      fail(new Error(`found status ${response.statusCode} and no upgrade`));
    });
    outgoing.on("upgrade", (response: IncomingMessage, socket: Duplex, head: Buffer) => {
      if (response.headers.upgrade?.toLowerCase() !== protocol) {
        fail(new Error("found an upgrade to another protocol"));
        return;
      }
      resolve({ stream: socket, head: Uint8Array.from(head) });
    });
    outgoing.end();
  });
}
