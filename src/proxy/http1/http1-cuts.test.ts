import fc from "fast-check";
import { afterEach, expect, test } from "vitest";
import { closeScenes, GATE, proxyScene, read, webConfig } from "../../../test/suites/proxy-scene.ts";
import { recordingBackend } from "../../../test/suites/recording-backend.ts";

afterEach(closeScenes);

const H = `Host: ${GATE}\r\n`;
const WS =
  "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/** Requests and what is none, as they may follow each other on a connection. */
const PIECES = [
  `GET /a HTTP/1.1\r\n${H}\r\n`,
  `GET /b HTTP/1.1\r\n${H}X: y\r\nTailscale-User-Login: evil\r\n\r\n`,
  `POST /c HTTP/1.1\r\n${H}Content-Length: 12\r\n\r\nGET / HTTP/1`,
  `POST /d HTTP/1.1\r\n${H}Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n6\r\n\r\n\r\n\r\n\r\n0\r\n\r\n`,
  `POST /e HTTP/1.1\r\n${H}Transfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: y\r\n\r\n`,
  `POST /f HTTP/1.1\r\n${H}Content-Length: 0\r\n\r\n`,
  `GET /text HTTP/1.1\r\n${H}Content-Length: 4\r\n\r\nbody`,
  `HEAD /g HTTP/1.1\r\n${H}\r\n`,
  `GET /h HTTP/1.1\r\n${H}Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n`,
  `POST /i HTTP/1.1\r\n${H}Connection: Upgrade\r\nUpgrade: foo\r\nContent-Length: 3\r\n\r\nabc`,
  `PUT /j HTTP/1.1\r\n${H}Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi`,
  `GET /nowhere/..%2f HTTP/1.1\r\n${H}\r\n`,
  `TRACE /k HTTP/1.1\r\n${H}\r\n`,
  `GET /l HTTP/1.0\r\n${H}Connection: keep-alive\r\n\r\n`,
  `GET /m HTTP/1.1\r\n${H}Connection: close\r\n\r\n`,
  `GET  /n HTTP/1.1\r\n${H}\r\n`,
  `POST /o HTTP/1.1\r\n${H}Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n`,
  `POST /p HTTP/1.1\r\n${H}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`,
  `POST /q HTTP/1.1\r\n${H}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  `GET /r HTTP/1.1\r\n${H}X: \x00\r\n\r\n`,
  "\r\n",
  "hello",
];
const OFFER = `GET /ws HTTP/1.1\r\n${H}${WS}\r\n`;

/** Method, target and body: how much of it came at a time is the caller's business. */
function plain(request: string): string {
  const end = request.indexOf("\r\n\r\n") + 4;
  const what = request.split(" ", 2).join(" ");
  if (!/\r\ntransfer-encoding: chunked/i.test(request.slice(0, end))) return `${what} ${request.slice(end)}`;
  let body = "";
  for (let at = end; ; ) {
    const line = request.indexOf("\r\n", at);
    const size = Number.parseInt(request.slice(at, line), 16);
    if (!(size > 0)) return `${what} ${body}`;
    body += request.slice(line + 2, line + 2 + size);
    at = line + 2 + size + 2;
  }
}

interface Outcome {
  readonly requests: readonly string[];
  readonly statuses: readonly string[];
}

async function outcomeOf(bytes: string, cuts: readonly number[]): Promise<Outcome> {
  const backend = await recordingBackend();
  const target = `http://127.0.0.1:${backend.port}`;
  const { connect } = proxyScene(webConfig({ "/": { Proxy: target }, "/text": { Text: "hi" } }));
  const client = connect(80);
  // A tunnel has no end of its own: it is over when the caller has seen its 101.
  const done = read(client, (text) => text.includes(" 101 "));
  const places = [...new Set(cuts.map((cut) => cut % bytes.length))].filter((cut) => cut > 0).sort((a, b) => a - b);
  let from = 0;
  for (const to of [...places, bytes.length]) {
    if (client.writable) client.write(bytes.slice(from, to), "latin1");
    from = to;
    await new Promise(setImmediate);
  }
  // A last request that every outcome ends with, where the connection still is one.
  const last = bytes.endsWith(OFFER) ? "" : `GET /last HTTP/1.1\r\n${H}Connection: close\r\n\r\n`;
  if (client.writable) client.write(last);
  const { text } = await done;
  const requests = backend.requests.map(plain);
  const outcome = { requests, statuses: [...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map((match) => match[1]!) };
  await closeScenes();
  return outcome;
}

test("H1-4: how a caller's bytes are cut into segments changes nothing that anybody sees", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.constantFrom(...PIECES), { minLength: 1, maxLength: 5 }),
      fc.constantFrom("", "", "", OFFER),
      fc.array(fc.nat(2000), { maxLength: 8 }),
      async (pieces, offer, cuts) => {
        const bytes = pieces.join("") + offer;
        const whole = await outcomeOf(bytes, []);
        expect(await outcomeOf(bytes, cuts)).toEqual(whole);
        for (const request of whole.requests) expect(request).not.toContain("evil");
      },
    ),
    { numRuns: 150 },
  );
}, 60_000);

test("H1-4: the same byte by byte", async () => {
  for (const piece of [...PIECES, OFFER]) {
    const every = Array.from({ length: piece.length }, (_, i) => i);
    expect([piece, await outcomeOf(piece, every)]).toEqual([piece, await outcomeOf(piece, [])]);
  }
});
