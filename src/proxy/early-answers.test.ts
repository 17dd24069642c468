import http from "node:http";
import fc from "fast-check";
import { afterEach, expect, test } from "vitest";
import { listening } from "../../test/suites/listening.ts";
import {
  closeScenes,
  GATE,
  onClose,
  onHeads,
  proxyScene,
  rawBackend,
  webConfig,
} from "../../test/suites/proxy-scene.ts";
import type { ConnDuplex } from "../base/duplex.ts";

afterEach(closeScenes);

const H = `Host: ${GATE}\r\n`;
/** What a body might be taken for, were it read as the next request. */
const INNER = `GET /inner HTTP/1.1\r\n${H}Tailscale-User-Login: boss@example.com\r\n\r\n`;
const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/** Answered before the body has come: by ourselves, or by a backend that does not wait for it. */
const TARGETS = ["/text", "/nowhere/../text", "/moved", "/small", "/early", "/early-close", "/%zz"] as const;
const FRAMINGS = [
  (body: string) => `Content-Length: ${body.length}\r\n\r\n${body}`,
  (body: string) => `Transfer-Encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`,
] as const;

async function stage() {
  const heads: string[] = [];
  const backend = http.createServer((request, response) => {
    heads.push(`${request.method} ${request.url}`);
    // Where it closes, what is on its way meets a reset.
    if (request.url === "/close") response.setHeader("connection", "close");
    response.end("ok");
  });
  const early = `http://127.0.0.1:${await listening(backend)}`;
  onClose(() => backend.close());
  onClose(() => backend.closeAllConnections());
  const waiting = await rawBackend((socket) =>
    onHeads(socket, (head) => {
      heads.push(head.split("\r\n")[0]!);
      socket.write(OK);
    }),
  );
  const config = webConfig({
    "/text": { Text: "hello" },
    "/moved": { Redirect: "/elsewhere" },
    "/small": { Proxy: `http://127.0.0.1:${waiting.port}` },
    "/early": { Proxy: early },
    "/early-close": { Proxy: `${early}/close` },
    "/next": { Proxy: `http://127.0.0.1:${waiting.port}` },
  });
  const scene = proxyScene(config, { rulesOf: ({ mount }) => (mount === "/small" ? { bodyBytes: 4 } : undefined) });
  return { scene, heads };
}

/** Writes the bytes in parts, with turns between; gives the statuses once the connection is still or closed. */
async function statusesOf(client: ConnDuplex, bytes: string, cuts: readonly number[], most: number): Promise<string[]> {
  let text = "";
  let isClosed = false;
  client.on("data", (part: Buffer) => {
    text += part.toString("latin1");
  });
  const onClosed = (): void => {
    isClosed = true;
  };
  client.once("end", onClosed).once("close", onClosed);
  const statuses = (): string[] => [...text.matchAll(/HTTP\/1\.1 ([2-5]\d\d) /g)].map((match) => match[1]!);
  let from = 0;
  for (const to of [...new Set([...cuts.map((cut) => cut % bytes.length), bytes.length])].sort((a, b) => a - b)) {
    if (client.writable) client.write(bytes.slice(from, to), "latin1");
    from = to;
    for (let i = 0; i < 3; i++) await new Promise(setImmediate);
  }
  while (!isClosed && statuses().length < most) await new Promise(setImmediate);
  for (let i = 0; i < 5; i++) await new Promise(setImmediate);
  client.destroy();
  return statuses();
}

test("H1-10 an answer that comes before the body: the next request never begins inside it, in 200 interleavings", async () => {
  const { scene, heads } = await stage();
  const outcomes = { next: 0, closed: 0 };
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...TARGETS),
      fc.constantFrom(...FRAMINGS),
      fc.constantFrom("", "Expect: 100-continue\r\n"),
      fc.constantFrom("connect" as const, "visit" as const),
      fc.array(fc.nat(1000), { maxLength: 6 }),
      async (target, framing, expectation, by, cuts) => {
        heads.length = 0;
        const first = `POST ${target} HTTP/1.1\r\n${H}${expectation}${framing(INNER.repeat(3))}`;
        const statuses = await statusesOf(scene[by](80), `${first}GET /next HTTP/1.1\r\n${H}\r\n`, cuts, 2);
        expect(heads.filter((line) => line.includes("inner"))).toEqual([]);
        expect(heads.filter((line) => line.startsWith("GET /")).length).toBeLessThanOrEqual(1);
        expect(statuses.length).toBeLessThanOrEqual(2);
        if (statuses.length === 2) {
          expect(statuses[1]).toBe("200");
          outcomes.next++;
        } else outcomes.closed++;
      },
    ),
    { numRuns: 200 },
  );
  expect(outcomes.next).toBeGreaterThan(20);
  expect(outcomes.closed).toBeGreaterThan(20);
});
