import http2 from "node:http2";
import net from "node:net";
import type { Duplex } from "node:stream";
import { setImmediate } from "node:timers/promises";
import tls from "node:tls";
import { afterEach, expect, test } from "vitest";
import { listening } from "../../test/suites/listening.ts";
import { closeScenes, GATE, onClose, proxyScene, webConfig } from "../../test/suites/proxy-scene.ts";
import { asDuplex } from "../base/duplex.ts";
import { B_ADDRESS, SimulatedLink } from "../mesh/tcpip/simulated-link.ts";

afterEach(closeScenes);

const BYTES_PER_MS = 12_500;
const DELAY_MS = 40;
const BODY = Buffer.alloc(12 * 1024 * 1024, "x");
/** At that pace it takes a second; handshakes, and finding out how fast the path is, another. A window of 64 KiB takes 16 s. */
const LONGEST_MS = 6000;

/** What came to a backend, and when all was there. */
interface Sink {
  readonly port: number;
  received: number;
}

async function sink(): Promise<Sink> {
  const found = { received: 0 };
  const server = net.createServer((socket) => {
    socket.on("error", () => undefined);
    socket.on("data", (chunk) => {
      found.received += chunk.length;
    });
  });
  onClose(() => server.close());
  return Object.assign(found, { port: await listening(server) });
}

type Upload = (stream: Duplex) => void;

const head = `POST / HTTP/1.1\r\nHost: ${GATE}\r\nContent-Length: ${BODY.length}\r\n\r\n`;
const secure = (stream: Duplex, protocol: string): tls.TLSSocket =>
  tls.connect({ socket: stream, servername: GATE, rejectUnauthorized: false, ALPNProtocols: [protocol] });

const WAYS: readonly (readonly [way: string, port: number, upload: Upload])[] = [
  ["TCP forwarded", 22, (stream) => void stream.write(BODY)],
  ["HTTP/1.1", 80, (stream) => void stream.write(Buffer.concat([Buffer.from(head), BODY]))],
  [
    "HTTP/1.1 in TLS",
    443,
    (stream) => {
      const inner = secure(stream, "http/1.1");
      inner.write(head);
      inner.write(BODY);
    },
  ],
  [
    "HTTP/2",
    443,
    (stream) => {
      const session = http2.connect(`https://${GATE}`, { createConnection: () => secure(stream, "h2") });
      session.on("error", () => undefined);
      const asked = session.request({ ":method": "POST", ":path": "/", "content-length": String(BODY.length) });
      asked.on("error", () => undefined);
      asked.end(BODY);
    },
  ],
];

test.each(WAYS)(
  "an upload by %s over 80 ms and 100 Mbit/s goes by the path's pace, and not by our windows",
  async (way, port, upload) => {
    const backend = await sink();
    const config = webConfig({ "/": { Proxy: `http://127.0.0.1:${backend.port}` } });
    const { proxy } = proxyScene({
      ...config,
      TCP: { ...config.TCP, 22: { TCPForward: `127.0.0.1:${backend.port}` } },
    });
    const link = new SimulatedLink({ delayMs: DELAY_MS, rate: BYTES_PER_MS, queueBytes: 1024 * 1024, mtu: 1280 });
    link.b.listenTcp(port, (conn) => proxy.accept(conn, port));
    void link.a.dialTcp({ address: B_ADDRESS, port }).then((conn) => {
      upload(asDuplex(conn).on("error", () => undefined));
    });
    const startedAt = link.now;
    while (backend.received < BODY.length && link.now - startedAt < LONGEST_MS) {
      link.pass(1);
      for (let i = 0; i < 4; i++) await setImmediate(); // for what a machine does meanwhile
    }
    expect(backend.received, `by ${way}`).toBeGreaterThanOrEqual(BODY.length);
  },
  60_000,
);
