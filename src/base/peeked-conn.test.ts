import { expect, test } from "vitest";
import { connSuite } from "../../test/suites/conn.ts";
import type { Conn, Proof } from "./conn.ts";
import { connPair } from "./conn-pair.ts";
import { asDuplex } from "./duplex.ts";
import { PeekedConn, type PeekWatcher } from "./peeked-conn.ts";

const proof: Proof = {
  kind: "public",
  source: { address: "100.64.0.1", port: 40_000 },
  destination: { address: "100.64.0.2", port: 80 },
};

const NOTHING: PeekWatcher = { look: () => {}, gone: () => {}, leadSent: () => {}, closed: () => {} };
const watcher = (part: Partial<PeekWatcher>): PeekWatcher => ({ ...NOTHING, ...part });

connSuite("a connection that was looked at", async () => {
  const [a, b] = connPair(proof);
  return [a, new PeekedConn(b, 100)] as [Conn, Conn];
});

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("whoever attaches gets what was seen, except what was forgotten", async () => {
  const [client, inner] = connPair(proof);
  const peeked = new PeekedConn(inner, 8);
  const seen: string[] = [];
  peeked.watcher = watcher({ look: (part) => void seen.push(part.toString()) });
  client.write(Buffer.from("head"));
  await turn();
  peeked.forget();
  client.write(Buffer.from("bodybody"));
  await turn();
  expect(seen).toEqual(["head", "body"]); // no more than it was let in
  client.end();
  const parts: Buffer[] = [];
  for await (const chunk of asDuplex(peeked)) parts.push(chunk as Buffer);
  expect(Buffer.concat(parts).toString()).toBe("bodybody");
});

test("a part is forgotten, and whoever looks next sees the rest as if it came only now", async () => {
  const [client, inner] = connPair(proof);
  const peeked = new PeekedConn(inner, 100);
  for (const part of ["he", "ad", "bo", "dy"]) {
    client.write(Buffer.from(part));
    await turn();
  }
  peeked.forget(3);
  const seen: string[] = [];
  peeked.watcher = watcher({ look: (part) => void seen.push(part.toString()) });
  peeked.lookAgain();
  expect(seen.join("")).toBe("dbody");
  client.end();
  const parts: Buffer[] = [];
  for await (const chunk of asDuplex(peeked)) parts.push(chunk as Buffer);
  expect(Buffer.concat(parts).toString()).toBe("dbody");
});

test("an end or a cut before somebody attaches is told, and again to whoever does", async () => {
  const [client, inner] = connPair(proof);
  const peeked = new PeekedConn(inner, 8);
  let gone = 0;
  peeked.watcher = watcher({ gone: () => void gone++ });
  client.write(Buffer.from("x"));
  client.end();
  await turn();
  expect(gone).toBe(1);
  const stream = asDuplex(peeked);
  let text = "";
  for await (const chunk of stream) text += String(chunk);
  expect(text).toBe("x");
});

test.each(["write", "end", "sendLead"] as const)("a lead goes before all else, once, by %s", async (how) => {
  const [client, inner] = connPair(proof);
  const peeked = new PeekedConn(inner, 8);
  peeked.lead = Buffer.from("lead ");
  let sent = 0;
  peeked.watcher = watcher({ leadSent: () => void sent++ });
  const heard = asDuplex(client);
  if (how === "write") peeked.write(Buffer.from("words"));
  else peeked[how]();
  peeked.sendLead();
  peeked.end();
  let text = "";
  for await (const chunk of heard) text += String(chunk);
  expect(text).toBe(how === "write" ? "lead words" : "lead ");
  expect(sent).toBe(1);
});
