import { duplexPair } from "node:stream";
import { expect, test } from "vitest";
import { type AnswerQuery, answerQueries, framed } from "./stream-queries.ts";

function open(answer: AnswerQuery) {
  const [client, server] = duplexPair();
  answerQueries(server, answer);
  return { client, server, answers: client.toArray() };
}
const echo = async (query: Uint8Array): Promise<Uint8Array> => Buffer.concat([Buffer.from("re "), query]);

test.each([1, 2, 3, 7, 100])(
  "queries in pieces of %i bytes are answered in their order, then the stream ends",
  async (size) => {
    const { client, answers } = open(echo);
    const bytes = Buffer.concat(["one", "", "three"].map((text) => framed(Buffer.from(text))));
    for (let at = 0; at < bytes.length; at += size) client.write(bytes.subarray(at, at + size));
    client.end();
    const expected = Buffer.concat(["re one", "re ", "re three"].map((text) => framed(Buffer.from(text))));
    expect(Buffer.concat(await answers)).toEqual(expected);
  },
);

test("an answer that comes after the client has ended its side is still sent", async () => {
  const late = Promise.withResolvers<Uint8Array>();
  const { client, server, answers } = open(() => late.promise);
  client.end(framed(Buffer.from("q")));
  await new Promise((resolve) => server.once("end", resolve));
  late.resolve(Buffer.from("a"));
  expect(Buffer.concat(await answers)).toEqual(framed(Buffer.from("a")));
});

test("a query that nobody answers, or whose answer fails, ends the stream", async () => {
  for (const answer of [async () => undefined, () => Promise.reject(new Error("no"))]) {
    const { server, client, answers } = open(answer);
    answers.catch(() => undefined);
    const closed = new Promise((resolve) => server.once("close", resolve));
    client.write(framed(Buffer.from("q")));
    await closed;
    expect(server.destroyed).toBe(true);
  }
});
