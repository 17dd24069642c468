import { type Message, readMessages } from "./messages.ts";
import { afterRequest, connectionTokens, mayBeginRequest, readSent, type Sent } from "./request.ts";
import { type Fixture, type Route, routeOf } from "./route.ts";
import type { Expected } from "./rule.ts";
import { RULES } from "./rules.ts";
import type { Case, Outcome } from "./scene.ts";

/** Set by every HTTP stack in its own way, by the clock, or new in ours (docs/identity.md, "general"). */
const OURS = /^sallyport-/;

/** Plays other bytes as the same caller on the same port. */
export type Play = (one: Case) => Promise<Outcome>;

/** The differences that no rule explains; none = passed. */
export async function differences(one: Case, got: Outcome, fixture: Fixture, play: Play): Promise<string[]> {
  const sent = readSent(one.send);
  const route = routeOf(sent, one.port, fixture);
  if (!route.isServed) {
    const isSilent = !got.served && got.backendGot.length === 0 && got.clientGot === "" && got.end === "closed";
    return isSilent ? [] : ["the port was served"]; // rule unserved-port
  }
  if (!route.isHttp) return rawDifferences(one, got);
  const expected = await expectedOf(one, sent, fixture, play);
  const found: string[] = [];
  const backend = got.backendGot.flatMap((text) => readMessages(text, false, [], isTunnel(route)));
  const client = readMessages(got.clientGot, true, [sent.method]);
  const dropsGzip = sent.values("accept-encoding").length === 0 || connectionTokens(sent).includes("accept-encoding");
  const request = (message: Message): string => requestText(message, dropsGzip, expected.isCutShort === true);
  const isPipelined = mayBeginRequest(afterRequest(sent)) && afterRequest(sent) !== "";
  const backendTexts = (messages: readonly Message[]): string[] => {
    const texts = messages.map(request);
    // The recorder answers once a connection: whether a later request was tried again elsewhere depends on the clock.
    return isPipelined ? texts.filter((text, i) => texts.indexOf(text) === i) : texts;
  };
  const [wantedTexts, haveTexts] = [backendTexts(expected.backend), backendTexts(backend)];
  if (expected.isCutShort === true) {
    if (backend.some((message) => !message.isCut)) found.push("backend: a whole request");
    // Whether the head was already under way is a race, on both sides.
    const both = Math.min(wantedTexts.length, haveTexts.length);
    compareLists("backend", wantedTexts.slice(0, both), haveTexts.slice(0, both), found);
  } else compareLists("backend", wantedTexts, haveTexts, found);
  const sniffs = route.answer !== "" || afterRequest(sent) !== "";
  const answer = (message: Message): string => answerText(message, sniffs);
  const have = client.map(answer);
  const isOther = expected.orElse !== undefined && have.length === 1 && have[0] === String(expected.orElse);
  const answers = expected.client.map(answer);
  const most = isPipelined ? Math.min(answers.length, have.length) : Number.POSITIVE_INFINITY;
  if (!isOther) compareLists("client", answers.slice(0, most), have.slice(0, most), found);
  if (expected.end !== got.end) found.push(`end: ${got.end}, wanted ${expected.end}`);
  return found;
}

/** Upstream's outcome, as the rules that apply change it. */
async function expectedOf(one: Case, sent: Sent, fixture: Fixture, play: Play): Promise<Expected> {
  const route = routeOf(sent, one.port, fixture);
  const rules = RULES.filter((rule) => rule.applies(sent, route));
  let { send } = one;
  for (const rule of rules) if (rule.plain !== undefined) send = [rule.plain(readSent(send))];
  const outcome = send === one.send ? one : await play({ ...one, send });
  const expected: Expected = {
    backend: outcome.backendGot.flatMap((text) => readMessages(text, false, [], isTunnel(route))),
    client: readMessages(outcome.clientGot, true, [sent.method]),
    end: outcome.end === "open" ? "open" : "closed",
  };
  for (const rule of rules) rule.change?.(expected, sent, route);
  return expected;
}

const isTunnel = ({ answer }: Route): boolean => answer.startsWith("HTTP/1.1 101");

function compareLists(what: string, want: readonly string[], have: readonly string[], found: string[]): void {
  const most = Math.max(want.length, have.length);
  for (let i = 0; i < most; i++) {
    if (want[i] !== have[i])
      found.push(`${what} ${i + 1}: ${JSON.stringify(have[i])}\n      wanted ${JSON.stringify(want[i])}`);
  }
}

/** Of a body that never ended nothing is compared: how much of it is under way depends on buffers. */
function requestText({ line, fields, body, isCut }: Message, dropsGzip: boolean, isCutShort: boolean): string {
  const kept = fields.filter(
    ([name, value]) => !OURS.test(name) && !(dropsGzip && name === "accept-encoding" && value === "gzip"),
  );
  return `${line}\n${kept.map((pair) => pair.join(": ")).join("\n")}\n\n${isCut || isCutShort ? " (cut)" : body}`;
}

/** Status, fields without Date, and the body; of an error page only the status: what it says is ours to choose. */
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
