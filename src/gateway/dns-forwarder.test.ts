import { createSocket } from "node:dgram";
import { createServer } from "node:net";
import { afterEach, expect, test } from "vitest";
import { framed } from "../mesh/dns/stream-queries.ts";
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
  expect(await new DnsForwarder(() => [server]).forward(QUERY, "udp")).toEqual(ANSWER);
});

test("DN-6 an answer with another id, or that is a question, is not taken for ours", async () => {
  const stranger = Buffer.concat([Buffer.from("0000", "hex"), ANSWER.subarray(2)]);
  const server = await udpServer([stranger, QUERY, Buffer.from("ab"), ANSWER]);
  expect(await new DnsForwarder(() => [server]).forward(QUERY, "udp")).toEqual(ANSWER);
});

test("over TCP, in pieces", async () => {
  const server = createServer((socket) => {
    socket.once("data", () => {
      const reply = framed(ANSWER);
      socket.write(reply.subarray(0, 5), () => socket.write(reply.subarray(5)));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  closers.push(() => server.close());
  const { port } = server.address() as { port: number };
  expect(await new DnsForwarder(() => [`127.0.0.1:${port}`]).forward(QUERY, "tcp")).toEqual(ANSWER);
});

test("a resolver that is not there is passed over for the next one", async () => {
  const server = await udpServer([ANSWER]);
  expect(await new DnsForwarder(() => ["127.0.0.1:1", server]).forward(QUERY, "udp")).toEqual(ANSWER);
  expect(await new DnsForwarder(() => ["127.0.0.1:1"]).forward(QUERY, "tcp")).toBeUndefined();
});

test("DN-7 what is no question of usual length is not passed on", async () => {
  const server = await udpServer([ANSWER]);
  const forwarder = new DnsForwarder(() => [server]);
  expect(await forwarder.forward(Buffer.alloc(5), "udp")).toBeUndefined();
  expect(await forwarder.forward(Buffer.alloc(1025), "udp")).toBeUndefined();
});
