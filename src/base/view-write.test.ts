import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { listening } from "../../test/suites/listening.ts";
import { writeView } from "./view-write.ts";

/** Two ends of one TCP connection. */
async function pair(): Promise<[Socket, Socket]> {
  const server = createServer();
  const near = connect(await listening(server), "127.0.0.1");
  const [far] = (await once(server, "connection")) as [Socket];
  server.close();
  onTestFinished(() => {
    near.destroy();
    far.destroy();
  });
  return [near, far];
}

const KIB = 1024;

test.each([
  ["short ones", [1, 100, 1240]],
  ["long ones", [64 * KIB]],
  ["both", [64 * KIB, 1, 16 * KIB, 40_000, 16 * KIB - 1]],
  ["larger than a view is", [200_000]],
])("views that die on return arrive as they were, though the reader is slow: %s", async (_name, sizes) => {
  const [near, far] = await pair();
  const [other] = await pair(); // whoever writes next must not reach into what waits
  const view = new Uint8Array(Math.max(...sizes));
  far.pause();
  const wanted: number[] = [];
  // Past what the kernel takes, then on while the other end reads: some are taken at once, in part, or have to wait.
  for (let round = 0; near.writableLength < 512 * KIB; round++) {
    const size = sizes[round % sizes.length]!;
    view.fill(round % 251, 0, size);
    writeView(near, view.subarray(0, size));
    wanted.push(size);
  }
  view.fill(255);
  writeView(other, view.subarray(0, 64 * KIB));
  near.end();
  const wrong: number[] = [];
  let [round, left] = [0, wanted[0]!];
  for await (const chunk of far) {
    for (let at = 0; at < (chunk as Buffer).length; ) {
      if (left === 0) left = wanted[++round]!;
      const part = (chunk as Buffer).subarray(at, at + left);
      if (part.some((byte) => byte !== round % 251)) wrong.push(round);
      at += part.length;
      left -= part.length;
    }
  }
  expect([wrong, round, left]).toEqual([[], wanted.length - 1, 0]);
});

test("a visitor who reads nothing holds what waits for him, and no more of ours", async () => {
  const [near, far] = await pair();
  far.pause();
  const view = new Uint8Array(64 * KIB);
  while (writeView(near, view));
  const before = process.memoryUsage().arrayBuffers;
  for (let i = 0; i < 1000; i++) writeView(near, view.subarray(0, 1000));
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(4 * KIB * KIB);
});
