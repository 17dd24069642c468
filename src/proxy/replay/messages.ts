/** Raw HTTP/1 bytes (Latin-1) as what the suite compares: first line, fields, body without its framing. */
export interface Message {
  readonly line: string;
  /** Lower-case name and value, sorted. */
  readonly fields: readonly (readonly [string, string])[];
  readonly body: string;
  /** The body did not come to its end. */
  readonly isCut: boolean;
}

export function readMessages(
  text: string,
  isAnswer: boolean,
  methods: readonly string[] = [],
  mayTunnel = false,
): Message[] {
  const messages: Message[] = [];
  let at = 0;
  let finals = 0;
  while (at < text.length) {
    const end = text.indexOf("\r\n\r\n", at);
    if (end < 0) {
      messages.push({ line: text.slice(at), fields: [], body: "", isCut: true });
      break;
    }
    const [line = "", ...lines] = text.slice(at, end).split("\r\n");
    const fields = lines
      .map((field) => {
        const colon = field.indexOf(":");
        return [field.slice(0, colon).toLowerCase(), field.slice(colon + 1).trim()] as const;
      })
      .sort((a, b) => (a.join(":") < b.join(":") ? -1 : 1));
    const status = isAnswer ? Number(line.split(" ")[1]) : 0;
    const isInformational = status >= 100 && status < 200 && status !== 101;
    const method = methods[finals];
    const hasNoBody = isInformational || status === 204 || status === 304 || (isAnswer && method === "HEAD");
    const value = (name: string): string | undefined => fields.find(([field]) => field === name)?.[1];
    const body = hasNoBody
      ? { text: "", next: end + 4, isCut: false }
      : readBody(
          text,
          end + 4,
          value("transfer-encoding"),
          value("content-length"),
          isAnswer || (mayTunnel && value("upgrade") !== undefined),
        );
    messages.push({ line, fields, body: body.text, isCut: body.isCut });
    if (!isInformational) finals++;
    at = body.next;
  }
  return messages;
}

function readBody(
  text: string,
  start: number,
  coding: string | undefined,
  length: string | undefined,
  untilClose: boolean,
): { text: string; next: number; isCut: boolean } {
  if (coding?.toLowerCase() === "chunked") {
    let body = "";
    let at = start;
    for (;;) {
      const end = text.indexOf("\r\n", at);
      const size = Number.parseInt(text.slice(at, end), 16);
      if (end < 0 || Number.isNaN(size)) return { text: body, next: text.length, isCut: true };
      if (size === 0) {
        const trailer = text.indexOf("\r\n\r\n", end);
        const trailers = text.slice(end + 2, trailer + 2);
        return { text: trailers.length > 2 ? `${body}\n${trailers}` : body, next: trailer + 4, isCut: trailer < 0 };
      }
      body += text.slice(end + 2, end + 2 + size);
      at = end + 2 + size + 2;
    }
  }
  if (length !== undefined) {
    const next = start + Number(length);
    return { text: text.slice(start, next), next, isCut: next > text.length };
  }
  return untilClose
    ? { text: text.slice(start), next: text.length, isCut: false }
    : { text: "", next: start, isCut: false };
}
