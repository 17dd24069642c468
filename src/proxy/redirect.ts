import type { IncomingMessage, ServerResponse } from "node:http";
import { writeHead } from "./answers.ts";

/** Splits an optional `3xx:` from the value of a Redirect handler. */
export function redirectOf(value: string): { status: number; location: string } {
  const match = /^(3\d\d):(.*)$/s.exec(value);
  return match === null ? { status: 302, location: value } : { status: Number(match[1]), location: match[2]! };
}

/** As Go's `http.Redirect` writes it, so that browsers and curl see the same page. */
export function sendRedirect(
  request: IncomingMessage,
  response: ServerResponse,
  value: string,
  host: string,
  path: string,
): void {
  const { status, location } = redirectOf(value);
  // biome-ignore-start lint/suspicious/noTemplateCurlyInString: upstream's placeholders are spelled so
  const text = location.replaceAll("${HOST}", () => host).replaceAll("${REQUEST_URI}", () => request.url ?? "/");
  // biome-ignore-end lint/suspicious/noTemplateCurlyInString: as above
  // What the caller asked for names no other host: only the configured value may (RT-5).
  const place = location.startsWith("//") ? text : text.replace(/^[/\\]{2,}/, "/");
  sendLocation(request, response, status, asciiOnly(absolutePath(place, path)));
}

export function sendLocation(request: IncomingMessage, response: ServerResponse, status: number, place: string): void {
  if (request.method !== "GET" && request.method !== "HEAD") {
    writeHead(request, response, status, [
      ["Location", place],
      ["Content-Length", "0"],
    ]);
    response.end();
    return;
  }
  const phrase = PHRASES[status] ?? "Redirect";
  const body = Buffer.from(`<a href="${escapeHtml(place)}">${phrase}</a>.\n\n`);
  writeHead(request, response, status, [
    ["Content-Type", "text/html; charset=utf-8"],
    ["Location", place],
    ...(request.method === "HEAD" ? [] : [["Content-Length", String(body.length)] as const]),
  ]);
  response.end(request.method === "HEAD" ? undefined : body);
}

const PHRASES: Readonly<Record<number, string>> = {
  300: "Multiple Choices",
  301: "Moved Permanently",
  302: "Found",
  303: "See Other",
  304: "Not Modified",
  305: "Use Proxy",
  307: "Temporary Redirect",
  308: "Permanent Redirect",
};

function absolutePath(text: string, requestPath: string): string {
  if (/^[A-Za-z][A-Za-z0-9+.-]*:/.test(text) || text.startsWith("//")) return text;
  const whole = text.startsWith("/") ? text : requestPath.slice(0, requestPath.lastIndexOf("/") + 1) + text;
  const mark = whole.search(/[?#]/);
  const path = mark < 0 ? whole : whole.slice(0, mark);
  const kept: string[] = [];
  for (const segment of path.split("/")) {
    if (segment === "..") kept.pop();
    else if (segment !== "" && segment !== ".") kept.push(segment);
  }
  const cleaned = `/${kept.join("/")}${path.endsWith("/") && kept.length > 0 ? "/" : ""}`;
  return mark < 0 ? cleaned : cleaned + whole.slice(mark);
}

/** One header line whatever the value is; `\` would be a second slash to a browser. */
function asciiOnly(text: string): string {
  let place = "";
  for (const byte of Buffer.from(text)) {
    const isPlain = byte > 0x20 && byte < 0x7f && byte !== 0x5c;
    place += isPlain ? String.fromCharCode(byte) : `%${byte.toString(16).padStart(2, "0")}`;
  }
  return place;
}

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}
