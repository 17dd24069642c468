import { once } from "node:events";
import net, { type AddressInfo, type Socket } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { resetSocket } from "./reset.ts";

async function pair(): Promise<{ ours: Socket; theirs: Socket }> {
  const server = net.createServer({ allowHalfOpen: true }).listen(0, "127.0.0.1");
  onTestFinished(() => void server.close());
  const accepted = once(server, "connection");
  await once(server, "listening");
  const theirs = net.connect({ port: (server.address() as AddressInfo).port, host: "127.0.0.1", allowHalfOpen: true });
  const [ours] = (await accepted) as [Socket];
  for (const socket of [ours, theirs]) {
    socket.on("error", () => undefined);
    onTestFinished(() => void socket.destroy());
  }
  theirs.resume();
  return { ours, theirs };
}

test.each<[string, (socket: Socket) => void]>([
  ["nothing was said", () => {}],
  ["something is on its way", (socket) => void socket.write("x")],
  ["more is on its way than goes", (socket) => void socket.write(Buffer.alloc(32 * 1024 * 1024))],
  ["more is to be said before the end than goes", (socket) => void socket.end(Buffer.alloc(32 * 1024 * 1024))],
  ["it is cut already", (socket) => void socket.resetAndDestroy()],
])("FN-1 a connection that is cut is gone, and the other side sees no end, when %s", async (_, say) => {
  const { ours, theirs } = await pair();
  const gone = Promise.all([ours, theirs].map((socket) => new Promise((resolve) => socket.once("close", resolve))));
  say(ours);
  resetSocket(ours);
  await gone;
  expect(theirs.errored?.message).toContain("ECONNRESET");
});

test.each<[string, (socket: Socket) => void]>([
  ["its end", (socket) => void socket.end()],
  ["its last words", (socket) => void socket.end("x")],
])("FN-1 a connection that is cut while %s is being said does not stay for ever", async (_, say) => {
  const { ours } = await pair();
  const failures: unknown[] = [];
  ours.on("error", (error) => failures.push(error));
  const gone = once(ours, "close");
  say(ours);
  resetSocket(ours);
  resetSocket(ours);
  await gone;
  expect(failures).toEqual([]);
});

test.each<[string, (socket: Socket) => void]>([
  ["nothing", () => {}],
  ["its words", (socket) => void socket.write("x")],
  ["its end", (socket) => void socket.end()],
  ["its words and its end", (socket) => void socket.end("x")],
])("FN-1 a connection that is cut before it is one, with %s said, does not stay for ever", async (_, say) => {
  const server = net.createServer().listen(0, "127.0.0.1");
  onTestFinished(() => void server.close());
  await once(server, "listening");
  const ours = net.connect((server.address() as AddressInfo).port, "127.0.0.1");
  const failures: unknown[] = [];
  ours.on("error", (error) => failures.push(error));
  const gone = once(ours, "close");
  say(ours);
  resetSocket(ours);
  await gone;
  expect(failures).toEqual([]);
});
