import type { Asked } from "./exchange.ts";

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const TARGET = /^[\x21-\x7e]+$/;
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/** Is every part text for one line? Whoever made them: here they become a request, so here they are checked (H2-7). */
export function isRequestText({ method, path, host, fields }: Asked): boolean {
  if (!TOKEN.test(method) || !TARGET.test(path) || !VALUE.test(host)) return false;
  for (const [name, value] of fields) if (!TOKEN.test(name) || !VALUE.test(value)) return false;
  return true;
}

/** The head of an HTTP/1.1 request as latin1 text; `undefined` when a part of it is no text for one line. */
export function requestHead(asked: Asked): string | undefined {
  if (!isRequestText(asked)) return undefined;
  const { method, path, host, fields, body, isLast = false } = asked;
  let text = `${method} ${path} HTTP/1.1\r\nHost: ${host}\r\n`;
  for (const [name, value] of fields) text += `${name}: ${value}\r\n`;
  if (body === "chunked") text += "Transfer-Encoding: chunked\r\n";
  else if (body !== "none") text += `Content-Length: ${body}\r\n`;
  if (isLast) text += "Connection: close\r\n";
  return `${text}\r\n`;
}
