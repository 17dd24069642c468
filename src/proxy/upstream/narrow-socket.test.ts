import { once } from "node:events";
import net from "node:net";
import tls from "node:tls";
import { afterEach, expect, test } from "vitest";
import { certificateOf, closeScenes, onClose, rawBackend } from "../../../test/suites/proxy-scene.ts";
import { NarrowSocket } from "./narrow-socket.ts";

afterEach(closeScenes);

const WAIT = { timeout: 20_000, interval: 2 };
/** Each of its bytes says where it stands. */
const MUCH = Buffer.from(Uint8Array.from({ length: 1_000_003 }, (_, i) => (i * 31 + (i >> 8)) & 0xff));

function narrow(port: number): NarrowSocket {
  const socket = new NarrowSocket({ host: "127.0.0.1", port });
  onClose(() => void socket.destroy());
  return socket;
}

test("TLS over it carries a megabyte each way, whole, however often the reader stops", async () => {
  const backend = await rawBackend((socket) => void socket.pipe(socket), await certificateOf("127.0.0.1"));
  const secure = tls.connect({ socket: narrow(backend.port), rejectUnauthorized: false });
  const parts: Buffer[] = [];
  secure.on("data", (part: Buffer) => {
    parts.push(part);
    secure.pause();
    setImmediate(() => void secure.resume());
  });
  secure.end(MUCH);
  await once(secure, "end");
  expect(Buffer.concat(parts).equals(MUCH)).toBe(true);
});

test("H2-10: one that is paused takes no more than a piece, and the rest once it is resumed", async () => {
  const backend = await rawBackend((socket) => void socket.end(MUCH));
  const socket = narrow(backend.port);
  const parts: Buffer[] = [];
  let isPaused = false;
  socket.on("data", (part: Buffer) => {
    expect(isPaused).toBe(false);
    parts.push(Buffer.from(part)); // it is gone afterwards
    isPaused = parts.length === 1;
    if (isPaused) socket.pause();
  });
  await expect.poll(() => parts.length, WAIT).toBe(1);
  await expect.poll(() => backend.connections[0]!.bytesWritten, WAIT).toBeGreaterThan(0);
  expect(parts[0]!.length).toBeLessThanOrEqual(8 * 1024);
  expect(socket.readableLength).toBe(0);
  isPaused = false;
  socket.resume();
  await once(socket, "end");
  expect(Buffer.concat(parts).equals(MUCH)).toBe(true);
});

test("it tells of a port where nobody is, of a reset, and ends the backend's side with its own", async () => {
  const nobody = net.createServer();
  await once(nobody.listen(0, "127.0.0.1"), "listening");
  const { port } = nobody.address() as net.AddressInfo;
  nobody.close();
  await expect(once(narrow(port).resume(), "end")).rejects.toThrow(/ECONNREFUSED/);

  const backend = await rawBackend((socket, index) => {
    if (index === 0) socket.once("data", () => void socket.resetAndDestroy());
    else socket.resume();
  });
  const reset = narrow(backend.port).resume();
  reset.write("x");
  await expect(once(reset, "end")).rejects.toThrow(/ECONNRESET/);

  const over = narrow(backend.port).resume();
  over.write("x");
  await expect.poll(() => backend.connections.length, WAIT).toBe(2);
  over.destroy();
  await expect.poll(() => backend.connections[1]!.closed, WAIT).toBe(true);
});
