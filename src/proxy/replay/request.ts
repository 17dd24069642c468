import { METHODS } from "node:http";

/** A request as its bytes say, whether or not it is a proper one. */
export interface Sent {
  readonly method: string;
  readonly target: string;
  readonly version: string;
  readonly lines: readonly string[];
  readonly head: string;
  /** Up to and with the empty line. */
  readonly headBytes: string;
  readonly body: string;
  values(name: string): readonly string[];
}

export function readSent(send: readonly string[]): Sent {
  const all = send.join("");
  const end = /\r?\n\r?\n/.exec(all);
  const head = end === null ? all : all.slice(0, end.index);
  const headBytes = end === null ? all : all.slice(0, end.index + end[0].length);
  const [first = "", ...lines] = head.split(/\r?\n/);
  const [method = "", ...rest] = first.split(" ");
  const version = rest.length > 1 ? rest.at(-1)! : "";
  const target = rest.slice(0, rest.length > 1 ? -1 : 1).join(" ");
  const values = (name: string): string[] =>
    lines.filter((line) => line.toLowerCase().startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).trim());
  return { method, target, version, lines, head, headBytes, body: all.slice(headBytes.length), values };
}

/** Of an absolute target. */
export function authorityOf(sent: Sent): string | undefined {
  return /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)/i.exec(sent.target)?.[1];
}

/** Without authority and query. */
export function pathOf(sent: Sent): string {
  return sent.target.replace(/^[a-z][a-z0-9+.-]*:\/\/[^/?#]*/i, "").split("?")[0]!;
}

export function headerNames(sent: Sent): string[] {
  return sent.lines.filter((line) => line.includes(":")).map((line) => line.slice(0, line.indexOf(":")));
}

/** Escaped or not. */
export function hasDots(path: string): boolean {
  return /\/(?:\.|%2e){1,2}(?:\/|$)/i.test(path);
}

/** RFC 3986 section 5.2.4 by another implementation than the one under test. */
export function withoutDots(path: string): string {
  return new URL(`http://x${path}`).pathname;
}

/** The tokens that Node's parser knows, upper case as RFC 9110 section 9.1 demands. */
export function isKnownMethod(method: string): boolean {
  return KNOWN_METHODS.has(method);
}

const KNOWN_METHODS: ReadonlySet<string> = new Set(METHODS);

export function isHost(text: string): boolean {
  const port = /^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{0,5}))?$/.exec(text);
  return (
    port !== null && (port[1] === undefined || port[1] === "" || (Number(port[1]) > 0 && Number(port[1]) <= 65535))
  );
}

/** RFC 6455 section 4.1: what may become a tunnel. */
export function isWebSocketOffer(sent: Sent): boolean {
  return (
    sent.method === "GET" &&
    sent.version === "HTTP/1.1" &&
    sent.values("upgrade").join().toLowerCase() === "websocket" &&
    sent.values("sec-websocket-version").join() === "13" &&
    /^[A-Za-z0-9+/]{22}==$/.test(sent.values("sec-websocket-key").join())
  );
}

export function offersUpgrade(sent: Sent): boolean {
  const tokens = sent.values("connection").flatMap((value) => value.toLowerCase().split(","));
  return sent.values("upgrade").length > 0 && tokens.some((token) => token.trim() === "upgrade");
}

/** RFC 9112 section 7.1, as far as the body goes. */
export function isChunked(body: string): boolean {
  for (let at = 0; at < body.length; ) {
    const rest = body.slice(at);
    if (!rest.includes("\n")) return /^[0-9A-Fa-f]{0,16}(?:;[^\r]*)?\r?$/.test(rest);
    const line = /^([0-9A-Fa-f]{1,16})(?:;[^\r\n]*)?\r\n/.exec(rest);
    if (line === null) return false;
    const size = Number.parseInt(line[1]!, 16);
    if (size === 0) return !/[^\r]\n/.test(rest.split("\r\n\r\n")[0]!);
    at += line[0].length + size;
    if (at < body.length && !"\r\n".startsWith(body.slice(at, at + 2))) return false;
    at += 2;
  }
  return true;
}
