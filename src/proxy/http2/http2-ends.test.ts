import { once } from "node:events";
import http2 from "node:http2";
import type { Duplex } from "node:stream";
import { text } from "node:stream/consumers";
import tls from "node:tls";
import { afterEach, expect, test } from "vitest";
import { closeScenes, GATE, onHeads, proxyScene, rawBackend, webConfig } from "../../../test/suites/proxy-scene.ts";

afterEach(closeScenes);

const WAIT = { timeout: 20_000, interval: 2 };

interface Call {
  readonly wire: Duplex;
  readonly secure: tls.TLSSocket;
  readonly session: http2.ClientHttp2Session;
}

function call(backend: number, maxVersion: tls.SecureVersion = "TLSv1.3"): Call {
  const wire = proxyScene(webConfig({ "/": { Proxy: `http://127.0.0.1:${backend}` } })).connect(443);
  const how = { servername: GATE, rejectUnauthorized: false, ALPNProtocols: ["h2"], maxVersion };
  const secure = tls.connect({ socket: wire, ...how });
  const session = http2.connect(`https://${GATE}`, { createConnection: () => secure });
  session.on("error", () => undefined);
  return { wire, secure, session };
}

test.each(["TLSv1.2", "TLSv1.3"] as const)(
  "H2-9 a caller who ends his connection, as curl does after its last answer, leaves none behind (%s)",
  async (maxVersion) => {
    const backend = await rawBackend((socket) => {
      onHeads(socket, () => void socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
    });
    const { wire, secure, session } = call(backend.port, maxVersion);
    const stream = session.request({ ":path": "/" });
    expect(await text(stream)).toBe("ok");
    secure.end(); // the alert, and the end; nothing of HTTP/2
    await once(secure, "end"); // the gate's
    await expect.poll(() => wire.destroyed, WAIT).toBe(true);
  },
);
