import { createSocket } from "node:dgram";
import { once } from "node:events";
import { expect, onTestFinished, test } from "vitest";
import { FakeClock } from "../base/clock.ts";
import { decodeStunAnswer, encodeStunRequest } from "../wire/stun.ts";
import { openStunServer } from "./stun-server.ts";

const WAIT = { timeout: 20_000, interval: 2 };

/** A client at an address of this machine's. */
async function caller(address: string, port: number) {
  const socket = createSocket("udp4");
  onTestFinished(() => void socket.close());
  const heard: Uint8Array[] = [];
  socket.on("message", (bytes) => heard.push(new Uint8Array(bytes)));
  socket.bind(0, address);
  await once(socket, "listening");
  const ask = (bytes: Uint8Array): void => socket.send(bytes, port, "127.0.0.1");
  return { ask, heard, mapped: { address, port: socket.address().port } };
}

test("DD-11: answers right requests only, and one source not without end", async () => {
  const clock = new FakeClock();
  const server = await openStunServer({ address: "127.0.0.1", port: 0, answersPerSecond: 5, clock });
  onTestFinished(() => server.close());
  const [one, other] = [await caller("127.0.0.1", server.port), await caller("127.0.0.2", server.port)];
  const tx = new Uint8Array(12).fill(4);
  one.ask(new Uint8Array(40));
  one.ask(encodeStunRequest(tx));
  await expect.poll(() => one.heard.length, WAIT).toBe(1);
  expect(decodeStunAnswer(one.heard[0]!)).toEqual({ tx, mapped: one.mapped });
  for (let i = 0; i < 200; i++) one.ask(encodeStunRequest(tx));
  other.ask(encodeStunRequest(tx)); // read after all of them
  await expect.poll(() => other.heard.length, WAIT).toBe(1);
  expect(decodeStunAnswer(other.heard[0]!)).toEqual({ tx, mapped: other.mapped });
  await expect.poll(() => one.heard.length, WAIT).toBe(5);
  clock.advance(1000);
  one.ask(encodeStunRequest(tx));
  await expect.poll(() => one.heard.length, WAIT).toBe(6);
});

test("a port that is taken is a fault", async () => {
  const server = await openStunServer({ address: "127.0.0.1", port: 0 });
  onTestFinished(() => server.close());
  await expect(openStunServer({ address: "127.0.0.1", port: server.port })).rejects.toMatchObject({
    code: "STUN_BIND",
  });
});
