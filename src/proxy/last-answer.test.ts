import { once } from "node:events";
import { setImmediate as turn } from "node:timers/promises";
import tls from "node:tls";
import { afterEach, expect, test } from "vitest";
import { certificateOf, closeScenes, GATE, onClose, proxyScene, webConfig } from "../../test/suites/proxy-scene.ts";

afterEach(closeScenes);

test("a long download over HTTPS with Connection: close lost its end when the caller was slow to read", async () => {
  const Text = "x".repeat(3_000_000);
  const { connect } = proxyScene(webConfig({ "/": { Text } }), {
    secureContext: async () => tls.createSecureContext(await certificateOf(GATE)),
  });
  const secure = tls.connect({ socket: connect(443), servername: GATE, rejectUnauthorized: false });
  onClose(() => secure.destroy());
  const errors: string[] = [];
  secure.on("error", (error) => errors.push(error.message));
  await once(secure, "secureConnect");
  secure.write(`GET / HTTP/1.1\r\nHost: ${GATE}\r\nConnection: close\r\n\r\n`);
  for (let i = 0; i < 200; i += 1) await turn();
  let length = 0;
  for await (const part of secure) {
    length += (part as Buffer).length;
    await turn();
  }
  expect(errors).toEqual([]);
  expect(length).toBeGreaterThan(3_000_000);
});
