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
  /** All bytes after the head. */
  readonly body: string;
  /** Those of them that were sent together with the head. */
  readonly early: string;
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
  const body = all.slice(headBytes.length);
  const early = (send[0] ?? "").slice(headBytes.length);
  return { method, target, version, lines, head, headBytes, body, early, values };
}

/** What follows the request on its connection, where its framing says so and the connection goes on. */
export function afterRequest(sent: Sent): string {
  if (!goesOn(sent)) return "";
  if (sent.values("transfer-encoding").length === 0)
    return sent.body.slice(Number(sent.values("content-length")[0] ?? 0));
  return isChunked(sent.body) ? sent.body.slice(chunkedLength(sent.body)) : "";
}

export function hasBody(sent: Sent): boolean {
  return sent.values("transfer-encoding").length > 0 || Number(sent.values("content-length")[0] ?? 0) > 0;
}

/** Is a part of the declared body not among these bytes? */
export function lacksBody(sent: Sent, bytes: string): boolean {
  if (sent.values("transfer-encoding").length > 0) return !/(?:^|\r\n)0+\r\n(?:[^\r\n]+\r\n)*\r\n/.test(bytes);
  return bytes.length < Number(sent.values("content-length")[0] ?? 0);
}

export function expectsContinue(sent: Sent): boolean {
  return sent.version === "HTTP/1.1" && sent.values("expect").join().toLowerCase() === "100-continue";
}

/** Can these bytes become a request line? */
export function mayBeginRequest(bytes: string): boolean {
  const [word = "", ...more] = bytes.replace(/^(?:\r\n)+/, "").split(" ");
  return more.length > 0
    ? KNOWN_METHODS.has(word)
    : METHODS.some((method) => method.startsWith(word.replace(/\r$/, "")));
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

/** RFC 3986 section 5.2.4 step by step, which is another way than that of the code under test. */
export function withoutDots(path: string): string {
  let rest = path;
  let done = "";
  while (rest !== "") {
    const up = /^\/(?:\.|%2e){2}(?=\/|$)/i.exec(rest);
    const here = /^\/(?:\.|%2e)(?=\/|$)/i.exec(rest);
    const step = up ?? here ?? /^\/?[^/]*/.exec(rest)!;
    rest = rest.slice(step[0].length);
    if (up !== null) done = done.slice(0, Math.max(0, done.lastIndexOf("/")));
    if (up === null && here === null) done += step[0];
    else if (rest === "") done += "/";
  }
  return done;
}

/** Dot segments that `%2F`, `%5C`, a path parameter, a NUL or a second escape hide. */
export function hidesDots(path: string): boolean {
  return [withoutDots(path), ...otherReadings(path)].some((reading) =>
    reading.split(/\/|%2f|%5c/i).some((segment) => /^(?:\.|%2e){1,2}(?:(?:;|%3b).*)?$/i.test(segment)),
  );
}

/** The path as it travels, still escaped, for backends that decode twice, take `\` for `/`, end at NUL, `?` or `#`, or drop `;…`, tabs or line ends. */
export function otherReadings(path: string): string[] {
  const habits: readonly [RegExp, string][] = [
    [/%25(?=[0-9a-f]{2})/gi, "%"],
    [/%5c/gi, "/"],
    [/%(?:00|3f|23).*/is, ""],
    [/(?:;|%3b)(?:(?!\/|%2f).)*/gi, ""],
    [/%0[9ad]/gi, ""],
  ];
  const found = new Set([withoutDots(path)]);
  for (const [what, by] of habits) for (const reading of [...found]) found.add(reading.replace(what, by));
  return [...found];
}

/** The tokens that Node's parser knows, upper case as RFC 9110 section 9.1 demands. */
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

export function connectionTokens(sent: Sent): string[] {
  return sent.values("connection").flatMap((value) => value.split(",").map((token) => token.trim().toLowerCase()));
}

export function offersUpgrade(sent: Sent): boolean {
  return sent.values("upgrade").length > 0 && connectionTokens(sent).includes("upgrade");
}

/** RFC 9112 section 9.3. */
export function goesOn(sent: Sent): boolean {
  const tokens = [...connectionTokens(sent), ...sent.values("proxy-connection").map((value) => value.toLowerCase())];
  return sent.version === "HTTP/1.1" ? !tokens.includes("close") : tokens.includes("keep-alive");
}

/** Up to the end of the trailer section, of a body that is well-formed. */
function chunkedLength(body: string): number {
  let at = 0;
  for (;;) {
    const end = body.indexOf("\r\n", at);
    const size = Number.parseInt(body.slice(at, end), 16);
    if (end < 0 || Number.isNaN(size)) return body.length;
    if (size === 0) {
      const last = body.indexOf("\r\n\r\n", end);
      return last < 0 ? body.length : last + 4;
    }
    at = end + 2 + size + 2;
  }
}

/** Field lines up to an empty one, as far as they go. */
function isTrailer(text: string): boolean {
  const lines = text.split("\r\n");
  const end = lines.indexOf("");
  const whole = end < 0 ? lines.slice(0, -1) : lines.slice(0, end);
  return whole.every(
    (line) =>
      /^[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*$/.test(line) &&
      !/^(?:content-length|transfer-encoding):/i.test(line), // no framing after the fact
  );
}

const LONGEST_CHUNK_LINE = 4096;

/** RFC 9112 section 7.1.1, read from its end. */
function areExtensions(text: string): boolean {
  const last =
    /[\t ]*;[\t ]*[\w!#$%&'*+.^`|~-]+(?:[\t ]*=[\t ]*(?:[\w!#$%&'*+.^`|~-]+|"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"))?$/;
  return text === "" || (last.test(text) && areExtensions(text.replace(last, "")));
}

/** RFC 9112 section 7.1, as far as the body goes. */
export function isChunked(body: string): boolean {
  for (let at = 0; at < body.length; ) {
    const rest = body.slice(at);
    if (!rest.includes("\n")) return /^[0-9A-Fa-f]{0,16}(?:;[^\r]*)?\r?$/.test(rest);
    const line = /^([0-9A-Fa-f]{1,16})((?:;[^\r\n]*)?)\r\n/.exec(rest);
    if (line === null || !areExtensions(line[2]!) || line[0].length > LONGEST_CHUNK_LINE) return false;
    const size = Number.parseInt(line[1]!, 16);
    if (size === 0) return isTrailer(rest.slice(line[0].length));
    at += line[0].length + size;
    if (at < body.length && !"\r\n".startsWith(body.slice(at, at + 2))) return false;
    at += 2;
  }
  return true;
}
