import http2 from "node:http2";
import { afterEach, describe, expect, test } from "vitest";
import {
  closeScenes,
  GATE,
  http2Client,
  onHeads,
  proxyScene,
  rawBackend,
  webConfig,
} from "../../test/suites/proxy-scene.ts";
import { FakeClock } from "../base/clock.ts";

afterEach(closeScenes);

/** A backend whose answer ends when the test says so. */
async function slowBackend() {
  const ends: (() => void)[] = [];
  const { port } = await rawBackend((socket) =>
    onHeads(socket, (head) => {
      socket.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345");
      if (head.includes("/quick")) socket.write("67890");
      else ends.push(() => socket.write("67890"));
    }),
  );
  return { ends, config: webConfig({ "/": { Proxy: `http://127.0.0.1:${port}` } }) };
}

function textOf(stream: NodeJS.ReadableStream): { text: string; isOver: boolean } {
  const seen = { text: "", isOver: false };
  stream.on("data", (chunk) => {
    seen.text += String(chunk);
  });
  stream.on("end", () => {
    seen.isOver = true;
  });
  return seen;
}

describe("PR-6 a gateway that is told to end", () => {
  test("did not end for as long as it may, after offers to upgrade that it had declined", async () => {
    const { config } = await slowBackend();
    const scene = proxyScene(config, { clock: new FakeClock() });
    const client = scene.connect(80);
    const saw = textOf(client);
    const offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__"; // curl's
    for (let answers = 1; answers <= 3; answers++) {
      client.write(`GET /quick HTTP/1.1\r\nHost: ${GATE}\r\n${offer}\r\n\r\n`);
      await expect.poll(() => saw.text.match(/1234567890/g)).toHaveLength(answers);
    }
    await scene.proxy.drain(30_000); // this clock stands still
  });

  test("answers what is under way to its end, ends kept-alive connections and takes no new ones", async () => {
    const { ends, config } = await slowBackend();
    const scene = proxyScene(config);
    const [busy, idle] = [scene.connect(80), scene.connect(80)];
    const [busySaw, idleSaw] = [textOf(busy), textOf(idle)];
    idle.write(`GET /quick HTTP/1.1\r\nHost: ${GATE}\r\n\r\n`);
    await expect.poll(() => idleSaw.text).toContain("67890");
    busy.write(`GET /slow HTTP/1.1\r\nHost: ${GATE}\r\n\r\n`);
    await expect.poll(() => busySaw.text).toContain("12345");
    let isDrained = false;
    const drained = scene.proxy.drain(30_000).then(() => {
      isDrained = true;
    });
    expect(scene.proxy.serves(80)).toBe(false);
    idle.write(`GET /quick HTTP/1.1\r\nHost: ${GATE}\r\n\r\n`);
    await expect.poll(() => idleSaw.isOver).toBe(true); // one more is answered, and says that it is the last
    expect(idleSaw.text.match(/^connection: close/gim)).toHaveLength(1);
    expect(isDrained).toBe(false);
    ends[0]!();
    await drained;
    expect(busySaw.text.endsWith("1234567890")).toBe(true);
  });

  test("HTTP/2 callers finish their streams and are told to go", async () => {
    const { ends, config } = await slowBackend();
    const scene = proxyScene(config);
    const session = await http2Client(scene);
    const stream = session.request({ ":path": "/slow" });
    const saw = textOf(stream);
    await expect.poll(() => saw.text).toContain("12345");
    let hasGone = false;
    session.once("goaway", (code) => {
      hasGone = code === http2.constants.NGHTTP2_NO_ERROR;
    });
    const drained = scene.proxy.drain(30_000);
    await expect.poll(() => hasGone).toBe(true);
    ends[0]!();
    await drained;
    await expect.poll(() => saw.isOver).toBe(true);
    expect([saw.text, stream.rstCode]).toEqual(["1234567890", 0]);
  });

  test("does not wait for ever", async () => {
    const { config } = await slowBackend();
    const clock = new FakeClock();
    const scene = proxyScene(config, { clock });
    const client = scene.connect(80);
    const saw = textOf(client);
    client.write(`GET /slow HTTP/1.1\r\nHost: ${GATE}\r\n\r\n`);
    await expect.poll(() => saw.text).toContain("12345");
    const drained = scene.proxy.drain(30_000);
    clock.advance(30_000);
    await drained;
    await scene.proxy.close();
    await expect.poll(() => client.destroyed).toBe(true);
    expect(saw.text.endsWith("12345"), "cut, not ended as if it were whole").toBe(true);
  });
});
