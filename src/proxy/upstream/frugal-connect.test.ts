import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import net, { type AddressInfo } from "node:net";
import { setImmediate as turn } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import { connectFrugally } from "./frugal-connect.ts";

const WAIT = { timeout: 20_000 };
const MIB = 1024 * 1024;
const SENT = randomBytes(4 * MIB);

/** Connected to a server that sends all of it and ends, and the server's side of it. */
async function connected(): Promise<{ readonly socket: net.Socket; readonly sender: net.Socket }> {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const socket = connectFrugally({ host: "127.0.0.1", port: (server.address() as AddressInfo).port });
  const [sender] = (await once(server, "connection")) as [net.Socket];
  onTestFinished(() => {
    socket.destroy();
    sender.destroy();
    server.close();
  });
  sender.end(SENT);
  return { socket, sender };
}

test("who pauses at every part gets all of them, in order, and the end", async () => {
  const { socket } = await connected();
  const hash = createHash("sha256");
  const sizes: number[] = [];
  socket.on("data", (part: Buffer) => {
    hash.update(part);
    sizes.push(part.length);
    socket.pause();
    setImmediate(() => socket.resume());
  });
  await once(socket, "end");
  expect(hash.digest("hex")).toBe(createHash("sha256").update(SENT).digest("hex"));
  expect(Math.max(...sizes)).toBeLessThanOrEqual(32 * 1024);
});

test("who takes all as it comes gets it in larger parts, which nothing overwrites", async () => {
  const { socket } = await connected();
  const parts: Buffer[] = [];
  socket.on("data", (part: Buffer) => void parts.push(part));
  await once(socket, "end");
  expect(Buffer.concat(parts).equals(SENT)).toBe(true);
  expect(Math.max(...parts.map(({ length }) => length))).toBeGreaterThan(32 * 1024);
});

test("H2-10: a connection that is paused reads nothing more", async () => {
  const { socket, sender } = await connected();
  let taken = 0;
  socket.on("data", (part: Buffer) => {
    taken += part.length;
    socket.pause();
  });
  await expect.poll(() => taken, WAIT).toBeGreaterThan(0);
  await expect.poll(() => sender.bytesWritten, WAIT).toBeGreaterThan(taken);
  for (let i = 0; i < 100; i++) await turn();
  expect(socket.bytesRead).toBe(taken);
  expect(socket.readableLength).toBe(0);
});
