import tls from "node:tls";
import { afterEach, expect, test } from "vitest";
import {
  certificateOf,
  closeScenes,
  GATE,
  onHeads,
  proxyScene,
  rawBackend,
  webConfig,
} from "../../test/suites/proxy-scene.ts";
import { END_HEADERS, END_STREAM, FRAME, fieldBlock, frame, framesIn, opening } from "../../test/suites/raw-http2.ts";

afterEach(closeScenes);

const WAIT = { timeout: 20_000, interval: 2 };

const ANSWERS: readonly (readonly [what: string, answer: string])[] = [
  ["a length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"],
  ["chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"],
  ["no body", "HTTP/1.1 204 No Content\r\n\r\n"],
  ["nonsense", "nonsense\r\n\r\n"],
];

test.each(ANSWERS)(
  "H2-2 an upload that is answered unread may end, or is told to stop, and does not wait for room for ever: %s",
  async (_, answer) => {
    const backend = await rawBackend((socket) => {
      onHeads(socket, () => {
        socket.pause();
        socket.write(answer);
      });
    });
    const scene = proxyScene(webConfig({ "/": { Proxy: `http://127.0.0.1:${backend.port}` } }));
    const ca = (await certificateOf(GATE)).cert;
    const caller = tls.connect({ socket: scene.connect(443), servername: GATE, ca, ALPNProtocols: ["h2"] });
    let heard = Buffer.alloc(0);
    caller.on("data", (chunk: Buffer) => {
      heard = Buffer.concat([heard, chunk]);
    });
    const fields = [
      [":method", "POST"],
      [":scheme", "https"],
      [":authority", GATE],
      [":path", "/"],
    ] as const;
    let sent = 16_000;
    const part = frame(FRAME.data, 0, 1, Buffer.alloc(16_000)); // its end never comes
    caller.write(Buffer.concat([opening(), frame(FRAME.headers, END_HEADERS, 1, fieldBlock(fields)), part]));
    const ofStream = () => framesIn(heard).filter(({ stream }) => stream === 1);
    // Whoever gets room for more uses it, until he is told to stop.
    const uploaded = (): boolean => {
      const frames = ofStream();
      const room = frames.filter(({ type }) => type === FRAME.windowUpdate);
      const bytes = room.reduce((sum, { payload }) => sum + payload.readUInt32BE(0), 0);
      for (; sent + 16_000 <= 65_535 + bytes; sent += 16_000) caller.write(part);
      return frames.at(-1)?.type === FRAME.reset;
    };
    await expect.poll(uploaded, WAIT).toBe(true);
    const [reset, last] = ofStream()
      .filter(({ type }) => type !== FRAME.windowUpdate)
      .toReversed();
    expect(reset!.payload.readUInt32BE(0)).toBe(0); // NO_ERROR: what was answered counts
    expect(last!.flags & END_STREAM).toBe(END_STREAM);
    expect(sent).toBeGreaterThan(1 << 20); // a short one is let in
    caller.destroy();
  },
);
