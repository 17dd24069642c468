import { createSocket } from "node:dgram";
import { once } from "node:events";
import { expect, onTestFinished, test } from "vitest";
import { decodeStunAnswer, encodeStunRequest } from "../wire/stun.ts";
import { openStunServer } from "./stun-server.ts";

test("DD-11: answers right requests only, and one source not without end", async () => {
  const server = await openStunServer({ address: "127.0.0.1", port: 0, answersPerSecond: 5 });
  const client = createSocket("udp4");
  onTestFinished(async () => {
    client.close();
    await server.close();
  });
  client.bind(0, "127.0.0.1");
  await once(client, "listening");
  const tx = new Uint8Array(12).fill(4);
  client.send(new Uint8Array(40), server.port, "127.0.0.1");
  client.send(encodeStunRequest(tx), server.port, "127.0.0.1");
  const [answer] = (await once(client, "message")) as [Uint8Array];
  expect(decodeStunAnswer(new Uint8Array(answer))).toEqual({
    tx,
    mapped: { address: "127.0.0.1", port: client.address().port },
  });
  let answers = 0;
  client.on("message", () => answers++);
  for (let i = 0; i < 200; i++) client.send(encodeStunRequest(tx), server.port, "127.0.0.1");
  await new Promise((done) => void setTimeout(done, 200));
  expect(answers).toBeGreaterThan(0);
  expect(answers).toBeLessThanOrEqual(10); // at most two seconds' worth
});

test("a port that is taken is a fault", async () => {
  const server = await openStunServer({ address: "127.0.0.1", port: 0 });
  onTestFinished(() => server.close());
  await expect(openStunServer({ address: "127.0.0.1", port: server.port })).rejects.toMatchObject({
    code: "STUN_BIND",
  });
});
