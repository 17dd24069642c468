import { once } from "node:events";
import { setImmediate as turn } from "node:timers/promises";
import { afterEach, expect, test } from "vitest";
import {
  closeScenes,
  GATE,
  http2Client,
  onHeads,
  proxyScene,
  rawBackend,
  webConfig,
} from "../../test/suites/proxy-scene.ts";
import type { ConnDuplex } from "../base/duplex.ts";

afterEach(closeScenes);

const TIMES = process.env["SALLYPORT_FUZZ"] === undefined ? 1 : 10;
const GOOD = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood";
const EVIL = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
const CHUNKED = "Transfer-Encoding: chunked\r\n";
const answer = (fields: string, body: string): string => `HTTP/1.1 200 OK\r\n${fields}\r\n${body}`;
const control = (code: number): string => String.fromCharCode(code);

/** Answers with no meaning, or with two: 200 of them. */
const SENSELESS: readonly string[] = [
  ...[
    "+4",
    "-4",
    "4, 4",
    "4,5",
    "0x4",
    "4.0",
    "4 4",
    "",
    "four",
    "4;",
    '"4"',
    "4e0",
    "\u00b2",
    "1".repeat(21),
    "1".repeat(16),
  ].map((length) => answer(`Content-Length: ${length}\r\n`, "evil")),
  ...["4", "5", "04"].flatMap((other) => [
    answer(`Content-Length: 4\r\nContent-Length: ${other}\r\n`, "evil"),
    answer(`content-length: ${other}\r\nContent-Length: 4\r\n`, "evil"),
  ]),
  ...["chunked", "Chunked", "CHUNKED"].flatMap((coding) => [
    answer(`Content-Length: 4\r\nTransfer-Encoding: ${coding}\r\n`, "0\r\n\r\n"),
    answer(`Transfer-Encoding: ${coding}\r\nContent-Length: 5\r\n`, "0\r\n\r\n"),
  ]),
  ...[
    "gzip",
    "identity",
    "gzip, chunked",
    "chunked, gzip",
    "chunked, chunked",
    "xchunked",
    "chunked;a",
    ", chunked",
  ].map((coding) => answer(`Transfer-Encoding: ${coding}\r\n`, "4\r\nevil\r\n0\r\n\r\n")),
  answer(CHUNKED + CHUNKED, "4\r\nevil\r\n0\r\n\r\n"),
  `HTTP/1.0 200 OK\r\n${CHUNKED}\r\n4\r\nevil\r\n0\r\n\r\n`,
  ...["g", "0x4", "+4", "-4", " 4", "4 x", "4_", "", "F".repeat(17), "4\n", "4\r\r\n", "4\t5", "4;\n"].map((size) =>
    answer(CHUNKED, `${size}\r\nevil\r\n0\r\n\r\n`),
  ),
  ...[
    "evilX\r\n0\r\n\r\n",
    "evi\r\n0\r\n\r\n",
    "evil\n0\r\n\r\n",
    "evil0\r\n\r\n",
    "evil\r\n0\r\nno field\r\n\r\n",
  ].map((rest) => answer(CHUNKED, `4\r\n${rest}`)),
  // Every control but the tab, in a name, at its edges, and in a value; line ends are part of other rows.
  ...Array.from({ length: 0x20 }, (_, code) => code)
    .concat(0x7f)
    .filter((code) => code !== 9)
    .flatMap((code) => [
      answer(`X${control(code)}Y: z\r\nContent-Length: 4\r\n`, "evil"),
      answer(`X: a${control(code)}b\r\nContent-Length: 4\r\n`, "evil"),
      ...(code === 10 || code === 13 ? [] : [answer(`${control(code)}Content-Length: 4\r\n`, "evil")]),
    ]),
  ...["X : y", ": y", "X", " X: y", "\tX: y", "X: y\r\n z", "X: y\r\n\tz", "X(Y): z", "X\u00e9: z"].map((line) =>
    answer(`${line}\r\nContent-Length: 4\r\n`, "evil"),
  ),
  ...["HTTP/1.1", "HTTP/1.1 ", "HTTP/1.1 OK", "HTTP/1.1 20", "HTTP/1.1 2000", "HTTP/1.1 099 x", "HTTP/1.2 200 OK"].map(
    (line) => `${line}\r\nContent-Length: 4\r\n\r\nevil`,
  ),
  ...[
    "HTTP/2 200",
    "HTTP/2.0 200 OK",
    "http/1.1 200 OK",
    "HTTPS/1.1 200 OK",
    " HTTP/1.1 200 OK",
    "ICY 200 OK",
    "RTSP/1.0 200 OK",
  ].map((line) => `${line}\r\nContent-Length: 4\r\n\r\nevil`),
  ...Array.from({ length: 20 }, (_, i) => control(i < 9 ? i : i + 11)).map((byte) =>
    answer(CHUNKED, `4\r\nevil\r\n0\r\nX: a${byte}b\r\n\r\n`),
  ),
  "HTTP/1.1 103 x\r\n\r\n".repeat(21) + EVIL,
  "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nevil",
  "HTTP/1.1 101 x\r\n\r\nevil",
  answer(`X: ${"x".repeat(65_536)}\r\nContent-Length: 4\r\n`, "evil"),
  answer(`${"X: y\r\n".repeat(1001)}Content-Length: 4\r\n`, "evil"),
  answer(CHUNKED, `0\r\n${"X: y\r\n".repeat(4000)}\r\n`),
  answer(CHUNKED, `4;${"x".repeat(5000)}\r\nevil\r\n0\r\n\r\n`),
  `\r\n${EVIL}`,
  `\n${EVIL}`,
  "\x16\x03\x01\x00\x05evil!",
  "220 mail.example ESMTP\r\n",
];

/** Asks on a connection; `isWhole`: an answer that a caller takes for complete. */
async function ask(client: ConnDuplex, method: string, target: string): Promise<{ text: string; isWhole: boolean }> {
  let text = "";
  let isCut = false;
  const onData = (bytes: Buffer): void => {
    text += bytes.toString("latin1");
  };
  const onClosed = (): void => {
    isCut = true;
  };
  client.on("data", onData).once("close", onClosed);
  client.write(
    `${method} ${target} HTTP/1.1\r\nHost: ${GATE}\r\n${method === "POST" ? "Content-Length: 0\r\n" : ""}\r\n`,
  );
  while (!isCut && !isComplete(text, method)) await turn();
  client.off("data", onData).off("close", onClosed);
  return { text, isWhole: isComplete(text, method) };
}

function isComplete(text: string, method: string): boolean {
  const final = /(?:^|\r\n\r\n)(HTTP\/1\.1 [2-5]\d\d .*?\r\n\r\n)/s.exec(text);
  if (final === null) return false;
  const body = text.slice(final.index + final[0].length);
  if (method === "HEAD" || /^HTTP\/1\.1 (?:204|304) /.test(final[1]!)) return true;
  if (/\r\ntransfer-encoding: chunked\r\n/i.test(final[1]!)) return /(?:^|\r\n)0\r\n(?:.+\r\n)*\r\n$/.test(body);
  return body.length >= Number(/\r\ncontent-length: (\d+)/i.exec(final[1]!)?.[1] ?? Number.POSITIVE_INFINITY);
}

/** A gate before a backend that answers `/NUMBER` with that text of the list, and anything else well. */
async function stage(texts: readonly string[], ends = false) {
  const asked: { line: string; socket: number }[] = [];
  const backend = await rawBackend((socket, index) =>
    onHeads(socket, (head) => {
      const line = head.slice(0, head.indexOf(" HTTP"));
      asked.push({ line, socket: index });
      const text = texts[Number(/\/(\d+)$/.exec(line)?.[1] ?? -1)];
      if (text === undefined) socket.write(GOOD);
      else if (ends) socket.end(text, "latin1");
      else socket.write(text, "latin1");
    }),
  );
  const counted = new Map<string, number>();
  const count = (event: string): void => void counted.set(event, (counted.get(event) ?? 0) + 1);
  const scene = proxyScene(webConfig({ "/": { Proxy: `http://127.0.0.1:${backend.port}` } }), { count });
  let client = scene.connect(80);
  const get = async (target: string, method = "GET"): ReturnType<typeof ask> => {
    if (!client.writable || client.destroyed) client = scene.connect(80);
    const got = await ask(client, method, target);
    if (!got.isWhole || /\r\nconnection: close/i.test(got.text)) {
      client.destroy();
      client = scene.connect(80);
    }
    return got;
  };
  return { get, asked, backend, scene, counted };
}

test("H1-20 200 senseless answers: 502 or cut, never taken for whole, and their connections are never used again", async () => {
  expect(SENSELESS.length).toBeGreaterThanOrEqual(200);
  const { get, asked } = await stage(SENSELESS);
  for (const [i, text] of SENSELESS.entries()) {
    const got = await get(`/${i}`);
    if (got.isWhole) expect(got.text, JSON.stringify(text.slice(0, 100))).toMatch(/(?:^|\r\n\r\n)HTTP\/1\.1 502 /);
    const spoiled = asked.at(-1)!.socket;
    expect((await get("/next")).text).toMatch(/^HTTP\/1\.1 200 .*good$/s);
    expect(asked.at(-1)!.socket, JSON.stringify(text.slice(0, 100))).not.toBe(spoiled);
  }
});

test.each([
  ["HEAD", answer("Content-Length: 4\r\n", "evil")],
  ["GET", "HTTP/1.1 204 No Content\r\n\r\nevil"],
  ["GET", "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil"],
  ["GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil"],
  ["GET", `HTTP/1.1 304 Not Modified\r\n${CHUNKED}\r\n4\r\nevil\r\n0\r\n\r\n`],
  ["HEAD", `${answer("Content-Length: 4\r\n", "")}${EVIL}`],
])("H1-20 %s %j: the body that cannot be is nobody's answer", async (method, text) => {
  const { get, asked } = await stage([text]);
  expect((await get("/0", method)).text).not.toContain("evil");
  const spoiled = asked.at(-1)!.socket;
  expect((await get("/next")).text).toMatch(/^HTTP\/1\.1 200 .*good$/s);
  expect(asked.at(-1)!.socket).not.toBe(spoiled);
});

test("H1-20, H1-4 a backend that answers HEAD as GET, the body a moment later, spoils no other answer", async () => {
  const forged = answer("Content-Length: 4\r\n", "evil");
  const backend = await rawBackend((socket) => {
    let asked = 0;
    onHeads(socket, (head) => {
      if (asked++ > 0) return void socket.write(forged + GOOD); // what came late, as if it were an answer
      socket.write(head.startsWith("HEAD") ? `HTTP/1.1 200 OK\r\nContent-Length: ${forged.length}\r\n\r\n` : GOOD);
    });
  });
  const client = proxyScene(webConfig({ "/": { Proxy: `http://127.0.0.1:${backend.port}` } })).connect(80);
  expect((await ask(client, "HEAD", "/0")).text).toMatch(/^HTTP\/1\.1 200 /);
  expect((await ask(client, "GET", "/next")).text).toMatch(/^HTTP\/1\.1 200 .*good$/s);
  expect(backend.connections).toHaveLength(2);
});

test("H1-21 an answer that nobody asked for, 1,000 times, closes its connection and is nobody's", async () => {
  const { get, backend, asked } = await stage([]);
  for (let i = 0; i < 1000; i++) {
    const client = await get("/next");
    expect(client.text).toMatch(/^HTTP\/1\.1 200 .*good$/s);
    const socket = backend.connections[asked.at(-1)!.socket]!;
    const gone = once(socket, "close");
    socket.write([EVIL, "x", "HTTP/1.1 100 Continue\r\n\r\n", "\r\n"][i % 4]!);
    await gone;
  }
  expect(backend.connections).toHaveLength(1000);
});

/** Answers that end early, at each of their bytes. */
function cutAnswers(): string[] {
  const long = `${"0123456789".repeat(25)}`;
  const whole = [
    answer("Content-Length: 250\r\n", long),
    answer(CHUNKED, `fa\r\n${long}\r\n0\r\n\r\n`),
    answer(`${CHUNKED}Trailer: X\r\n`, `7d\r\n${long.slice(0, 125)}\r\n7d\r\n${long.slice(125)}\r\n0\r\nX: y\r\n\r\n`),
  ];
  const cut = whole.flatMap((text) => Array.from({ length: text.length - 1 }, (_, i) => text.slice(0, i + 1)));
  expect(cut.length).toBeGreaterThanOrEqual(900);
  return [...cut, ...cut.slice(0, Math.max(0, 1000 - cut.length))];
}
const hasHead = (text: string): boolean => text.includes("\r\n\r\n");

test("H1-22 an answer that is cut anywhere, 1,000 times: none is taken for whole", async () => {
  const cut = cutAnswers();
  const { get, counted } = await stage(cut, true);
  for (let i = 0; i < cut.length; i++) {
    const { text, isWhole } = await get(`/${i}`);
    if (isWhole) expect(text, JSON.stringify(cut[i])).toMatch(/^HTTP\/1\.1 502 /);
  }
  expect(counted.get("answer_cut")).toBe(cut.filter(hasHead).length);
});

test("H1-22 the same over HTTP/2: each is reset, and the connection goes on", async () => {
  const cut = cutAnswers();
  const { scene, counted } = await stage(cut, true);
  let session = await http2Client(scene);
  const outcomes = { reset: 0, refused: 0 };
  for (const [i, text] of cut.entries()) {
    // One connection may bring only so many streams to no end (H2-3).
    if (i % 50 === 0) session = await http2Client(scene);
    const stream = session.request({ ":path": `/${i}` });
    let status: unknown;
    stream.once("response", (head) => {
      status = head[":status"];
    });
    stream.once("error", () => undefined).resume();
    await new Promise<void>((closed) => void stream.once("close", closed));
    expect(stream.rstCode !== 0, JSON.stringify(text)).toBe(hasHead(text));
    expect(session.destroyed).toBe(false);
    if (stream.rstCode !== 0) outcomes.reset++;
    else if (status === 502) outcomes.refused++;
  }
  expect(outcomes.reset + outcomes.refused).toBe(cut.length);
  expect(counted.get("answer_cut")).toBe(outcomes.reset);
});

test("H1-24 a POST is never sent twice, whenever its connection dies", { timeout: 60_000 }, async () => {
  const seen = new Map<string, number>();
  let requests = 0;
  const backend = await rawBackend((socket) => {
    // A connection dies at its second request, or at rest between the two.
    let count = 0;
    onHeads(socket, (head) => {
      const line = head.slice(0, head.indexOf(" HTTP"));
      seen.set(line, (seen.get(line) ?? 0) + 1);
      if (++count === 1) socket.write(GOOD, () => (requests++ % 3 === 0 ? socket.destroy() : undefined));
      else socket.destroy();
    });
  });
  const client = proxyScene(webConfig({ "/": { Proxy: `http://127.0.0.1:${backend.port}` } })).connect(80);
  const outcomes = { good: 0, failed: 0 };
  for (let i = 0; i < 1000 * TIMES; i++) {
    const { text } = await ask(client, "POST", `/${i}`);
    if (/^HTTP\/1\.1 200 /.test(text)) outcomes.good++;
    else if (/^HTTP\/1\.1 502 /.test(text)) outcomes.failed++;
  }
  expect(outcomes.good + outcomes.failed).toBe(1000 * TIMES);
  expect(outcomes.failed).toBeGreaterThan(100 * TIMES);
  expect([...seen].filter(([, times]) => times > 1)).toEqual([]);
});
