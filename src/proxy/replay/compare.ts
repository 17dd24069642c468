import { type Message, readMessages } from "./messages.ts";
import { expectedOf, readSent } from "./rules.ts";
import type { Case, Outcome } from "./scene.ts";

/** Set by every HTTP stack in its own way, by the clock, or new in ours (docs/identity.md, "general"). */
const OURS = /^sallyport-/;

/** The differences that no rule explains; none = passed. */
export function differences(one: Case, got: Outcome): string[] {
  if (one.port > 2000 && one.port < 3000) return rawDifferences(one, got);
  const { expected, rules } = expectedOf(one);
  const sent = readSent(one);
  const backend = got.backendGot.flatMap((text) => readMessages(text, false));
  const client = readMessages(got.clientGot, true, [sent.method]);
  const found: string[] = [];
  if (rules.includes("unserved-port")) return got.served || backend.length > 0 ? ["the port was served"] : [];
  const answer = client.find((message) => !/^HTTP\/1\.[01] 1/.test(message.line)) ?? client[0];
  const status = Number(answer?.line.split(" ")[1]);
  if (expected.statuses !== undefined && !expected.statuses.includes(status)) {
    found.push(`status: ${status}, wanted ${expected.statuses.join(" or ")}`);
  }
  if (expected.backend !== undefined) {
    const gzip = sent.values("accept-encoding").length === 0;
    const want = expected.backend.map((message) => requestText(message, gzip));
    const have = backend.map((message) => requestText(message, gzip));
    compareLists("backend", want, have, found);
  }
  if (expected.client !== undefined) {
    const sniffs = backend.length > 0;
    compareLists(
      "client",
      expected.client.map((message) => answerText(message, sniffs)),
      client.map((message) => answerText(message, sniffs)),
      found,
    );
  }
  if (expected.end !== undefined && expected.end !== got.end) found.push(`end: ${got.end}, wanted ${expected.end}`);
  return found;
}

function compareLists(what: string, want: readonly string[], have: readonly string[], found: string[]): void {
  const most = Math.max(want.length, have.length);
  for (let i = 0; i < most; i++) {
    if (want[i] !== have[i])
      found.push(`${what} ${i + 1}: ${JSON.stringify(have[i])}\n      wanted ${JSON.stringify(want[i])}`);
  }
}

/** Of a body that never ended nothing is compared: how much of it is under way depends on buffers. */
function requestText({ line, fields, body, isCut }: Message, dropsGzip: boolean): string {
  const kept = fields.filter(
    ([name, value]) => !OURS.test(name) && !(dropsGzip && name === "accept-encoding" && value === "gzip"),
  );
  return `${line}\n${kept.map((pair) => pair.join(": ")).join("\n")}\n\n${isCut ? " (cut)" : body}`;
}

/** Status, fields without Date, and the body; of an error page only the status and what it says of the connection. */
function answerText({ line, fields, body, isCut }: Message, sniffs: boolean): string {
  const status = line.split(" ")[1] ?? line;
  if (Number(status) >= 400) return `${status}`;
  const kept = fields.filter(
    ([name]) =>
      name !== "date" &&
      !(name === "content-type" && sniffs) && // guessed by upstream from the body; we add none
      !(name === "transfer-encoding"),
  );
  return `${status}\n${kept.map((pair) => pair.join(": ")).join("\n")}\n\n${body}${isCut ? " (cut)" : ""}`;
}

/** TCP forwards: the same bytes, but for the caller's port, which the PROXY header names. */
function rawDifferences(one: Case, got: Outcome): string[] {
  const neutral = (text: string): string =>
    // biome-ignore lint/suspicious/noControlCharactersInRegex: the signature of PROXY protocol v2 is made of them
    text.replace(/^(PROXY TCP4 \S+ \S+) \d+ /, "$1 PORT ").replace(/^(\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c.{8})../s, "$1PP");
  const found: string[] = [];
  compareLists("backend", one.backendGot.map(neutral), got.backendGot.map(neutral), found);
  if (one.clientGot !== got.clientGot)
    found.push(`client: ${JSON.stringify(got.clientGot)}\n      wanted ${JSON.stringify(one.clientGot)}`);
  if ((one.end === "open" ? "open" : "closed") !== got.end) found.push(`end: ${got.end}, wanted ${one.end}`);
  return found;
}
