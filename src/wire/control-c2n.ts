/** HTTP/1.1 requests and answers as the control server packs them into pings (upstream control/controlclient answerC2NPing). */

const LARGEST_REQUEST = 1024 * 1024;
const HEAD_END = "\r\n\r\n";

interface PackedRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
}

/** `undefined` for anything but one whole request with a plain body. */
export function decodeC2nRequest(bytes: Uint8Array): PackedRequest | undefined {
  if (bytes.length > LARGEST_REQUEST) return undefined;
  const buffer = Buffer.from(bytes);
  const headEnd = buffer.indexOf(HEAD_END);
  if (headEnd < 0) return undefined;
  const [requestLine = "", ...lines] = buffer.toString("latin1", 0, headEnd).split("\r\n");
  const parts = /^([A-Z]{1,16}) (\/[!-~]*) HTTP\/1\.[01]$/.exec(requestLine);
  if (parts === null) return undefined;
  const headers: Record<string, string> = Object.create(null);
  for (const line of lines) {
    const colon = line.indexOf(":");
    const name = line.slice(0, Math.max(colon, 0));
    if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name) || /[\0\r\n]/.test(line)) return undefined;
    headers[name.toLowerCase()] = line.slice(colon + 1).trim();
  }
  const body = buffer.subarray(headEnd + HEAD_END.length);
  const length = headers["content-length"];
  if (headers["transfer-encoding"] !== undefined) return undefined;
  if (length !== undefined && (!/^\d{1,7}$/.test(length) || Number(length) !== body.length)) return undefined;
  return { method: parts[1]!, path: parts[2]!, headers, body: Uint8Array.from(body) };
}

/** Status line, headers and body. Names and values are our own handler's. */
export function encodeC2nResponse(response: {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array | string;
}): Uint8Array {
  const body = typeof response.body === "string" ? Buffer.from(response.body) : response.body;
  const fields = { ...response.headers, "Content-Length": String(body.length) };
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value.replace(/[\r\n\0]/g, " ")}\r\n`);
  const head = `HTTP/1.1 ${response.status} ${REASON[response.status] ?? "Status"}\r\n${lines.join("")}\r\n`;
  return Uint8Array.from(Buffer.concat([Buffer.from(head, "latin1"), body]));
}

const REASON: Readonly<Record<number, string>> = {
  200: "OK",
  204: "No Content",
  400: "Bad Request",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  500: "Internal Server Error",
};
