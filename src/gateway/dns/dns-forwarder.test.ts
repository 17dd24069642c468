import { createSocket } from "node:dgram";
import { createServer } from "node:net";
import { duplexPair } from "node:stream";
import { afterEach, expect, test } from "vitest";
import { listening } from "../../../test/suites/listening.ts";
import { framed } from "../../mesh/dns/stream-queries.ts";
import { DnsForwarder } from "./dns-forwarder.ts";

const QUERY = Buffer.from("abcd01000001000000000000" + "076578616d706c6503636f6d00" + "00010001", "hex");
const ANSWER = Buffer.concat([Buffer.from("abcd8180", "hex"), QUERY.subarray(4)]);
const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

async function udpServer(replies: readonly Buffer[]): Promise<string> {
  const socket = createSocket("udp4");
  closers.push(() => socket.close());
  socket.on("message", (_, { port, address }) => {
    for (const reply of replies) socket.send(reply, port, address);
  });
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", () => resolve()));
  return `127.0.0.1:${socket.address().port}`;
}

test("a question goes to the system's resolver and its answer comes back as it was", async () => {
  const server = await udpServer([ANSWER]);
  expect(await new DnsForwarder(() => [server]).forward(QUERY, "udp", undefined)).toEqual(ANSWER);
});

test("DN-6 an answer with another id, or that is a question, is not taken for ours", async () => {
  const stranger = Buffer.concat([Buffer.from("0000", "hex"), ANSWER.subarray(2)]);
  const server = await udpServer([stranger, QUERY, Buffer.from("ab"), ANSWER]);
  expect(await new DnsForwarder(() => [server]).forward(QUERY, "udp", undefined)).toEqual(ANSWER);
});

test("over TCP, in pieces", async () => {
  const server = createServer((socket) => {
    socket.once("data", () => {
      const reply = framed(ANSWER);
      socket.write(reply.subarray(0, 5), () => socket.write(reply.subarray(5)));
    });
  });
  const port = await listening(server);
  closers.push(() => server.close());
  expect(await new DnsForwarder(() => [`127.0.0.1:${port}`]).forward(QUERY, "tcp", undefined)).toEqual(ANSWER);
});

test("a resolver that is not there is passed over for the next one", async () => {
  const server = await udpServer([ANSWER]);
  expect(await new DnsForwarder(() => ["127.0.0.1:1", server]).forward(QUERY, "udp", undefined)).toEqual(ANSWER);
  expect(await new DnsForwarder(() => ["127.0.0.1:1"]).forward(QUERY, "tcp", undefined)).toBeUndefined();
});

test("DN-7 what is no question of usual length is not passed on", async () => {
  const server = await udpServer([ANSWER]);
  const forwarder = new DnsForwarder(() => [server]);
  expect(await forwarder.forward(Buffer.alloc(5), "udp", undefined)).toBeUndefined();
  expect(await forwarder.forward(Buffer.alloc(1025), "udp", undefined)).toBeUndefined();
});

test("a resolver that no way leads to is passed over; the gateway goes on", async () => {
  const server = await udpServer([ANSWER]);
  const forwarder = new DnsForwarder(() => ["255.255.255.255", server]); // connect(2) refuses a broadcast address
  expect(await forwarder.forward(QUERY, "udp", undefined)).toEqual(ANSWER);
  expect(await forwarder.forward(QUERY, "udp", ["255.255.255.255"])).toBeUndefined();
});

test("who is named for a name is asked, and this machine's own resolver is not told of it", async () => {
  const named = await udpServer([ANSWER]);
  const system = await udpServer([Buffer.concat([ANSWER, Buffer.from("system")])]);
  const forwarder = new DnsForwarder(() => [system]);
  expect(await forwarder.forward(QUERY, "udp", ["https://dns.example/dns-query", named])).toEqual(ANSWER);
  for (const servers of [[], ["https://dns.example/dns-query"], ["nonsense"]]) {
    expect(await forwarder.forward(QUERY, "udp", servers)).toBeUndefined();
  }
});

test("a name server in the mesh is asked over the mesh", async () => {
  const asked: string[] = [];
  const forwarder = new DnsForwarder(
    () => [],
    async ({ address, port }) => {
      asked.push(`${address} ${port}`);
      const [near, far] = duplexPair();
      far.once("data", () => far.write(framed(ANSWER)));
      return near;
    },
  );
  expect(await forwarder.forward(QUERY, "udp", ["100.64.0.9"])).toEqual(ANSWER);
  expect(await forwarder.forward(QUERY, "tcp", ["[fd7a:115c:a1e0::9]:5353"])).toEqual(ANSWER);
  expect(asked).toEqual(["100.64.0.9 53", "fd7a:115c:a1e0::9 5353"]);
  expect(await new DnsForwarder().forward(QUERY, "udp", ["100.64.0.9"])).toBeUndefined();
});
