import { expect, onTestFinished, test } from "vitest";
import { createTestnet } from "../testnet.ts";

const policy = (alice: string, bob: string): string => `{
  "tagOwners": { "tag:app": [] },
  "grants": [
    { "src": ["alice@example.com"], "dst": ["tag:app"], "ip": ["${alice}"] },
    { "src": ["bob@example.com"], "dst": ["tag:app"], "ip": ["${bob}"] },
  ],
}`;

test("CS-10 a port that a new policy takes away is cut within 5 s, in the middle of a conversation, and nothing else is", {
  timeout: 60_000,
}, async () => {
  const net = await createTestnet({ users: ["alice@example.com", "bob@example.com"], policy: policy("*", "*") });
  onTestFinished(() => net.close());
  const app = await net.node({ tags: ["tag:app"] });
  for (const port of [80, 81]) app.listen(port, (stream) => stream.on("error", () => undefined).pipe(stream));
  const [alice, bob] = [await net.node({ user: "alice@example.com" }), await net.node({ user: "bob@example.com" })];
  const open = async (node: typeof alice, port: number, address = app.name) => {
    const stream = await node.dial({ address, port });
    const heard: string[] = [];
    let end = "open";
    stream.on("data", (data) => heard.push(String(data)));
    stream.on("error", ({ code }: NodeJS.ErrnoException) => {
      end = code ?? "error";
    });
    return { stream, heard, end: () => end };
  };
  const [cut, kept, other] = [await open(alice, 80), await open(alice, 81), await open(bob, 80)];
  const back = await (async () => {
    alice.listen(9, (stream) => stream.on("error", () => undefined).pipe(stream));
    await net.setPolicy(`{ "tagOwners": { "tag:app": [] }, "grants": [{ "src": ["*"], "dst": ["*"], "ip": ["*"] }] }`);
    await net.advance(5000);
    return open(app, 9, alice.name);
  })();
  const talk = async (): Promise<readonly number[]> => {
    const all = [cut, kept, other];
    const before = all.map(({ heard }) => heard.length);
    for (const { stream } of all) if (!stream.destroyed) stream.write("hello");
    await net.advance(2000);
    return all.map(({ heard }, i) => heard.length - before[i]!);
  };
  expect(await talk()).toEqual([1, 1, 1]);
  await net.setPolicy(policy("tcp:81", "tcp:80"));
  await net.advance(5000);
  expect([cut, kept, other, back].map(({ end }) => end())).toEqual(["TCPIP_RESET", "open", "open", "TCPIP_RESET"]);
  expect(await talk()).toEqual([0, 1, 1]);
});
