import diagnostics from "node:diagnostics_channel";
import type http2 from "node:http2";
import type { Socket } from "node:net";
import tls from "node:tls";
import fc from "fast-check";
import { afterEach, expect, test } from "vitest";
import {
  C,
  H,
  head,
  hello,
  http1Stage,
  post,
  refusalOf,
  servedOf,
  statusesIn,
} from "../../../test/suites/http1-stage.ts";
import {
  ALICE,
  closeScenes,
  GATE,
  http2Client,
  onClose,
  onHeads,
  proxyScene,
  rawBackend,
  read,
  webConfig,
} from "../../../test/suites/proxy-scene.ts";
import { END_HEADERS, FRAME, frame, opening, requestBlock, uint32 } from "../../../test/suites/raw-http2.ts";
import { RawPeer } from "../../../test/suites/raw-http2-peer.ts";
import { FakeClock } from "../../base/clock.ts";
import type { ConnDuplex } from "../../base/duplex.ts";
import type { ProxyOptions } from "../options.ts";

afterEach(closeScenes);

test("H1-9: control bytes are refused in names and values, all but the tab in a value", async () => {
  const made = await http1Stage();
  for (const code of [...Array.from({ length: 0x20 }, (_, i) => i), 0x7f]) {
    const byte = String.fromCharCode(code);
    const places = [
      `X${byte}Y: z`,
      `${byte}X: z`,
      `X${byte}: z`,
      ...(code === 9 ? [] : [`X: a${byte}b`, `X: ${byte}b`, `X: a${byte}`]),
    ];
    for (const field of places)
      expect([code, field, await refusalOf(made, head(`${field}\r\n`))]).toEqual([code, field, "400"]);
  }
});

test.each([
  ["at once", ""],
  ["behind an answer of our own", `OPTIONS * HTTP/1.1\r\n${H}\r\n`],
])(
  "H1-4: of a request whose body is refused %s, no part holds a backend that waits for the rest",
  async (_, before) => {
    const scene = await http1Stage();
    const client = scene.connect(80);
    client.write(`${before}${post(C, "5\r\nhello\r\nZZ\r\n")}`);
    expect(statusesIn((await read(client)).text).at(-1)).toBe("400");
    const other = scene.connect(80);
    other.write(head(""));
    await read(other, (text) => text.endsWith("ok"));
    expect(scene.backend.connections).toHaveLength(1);
    expect(scene.backend.requests).toHaveLength(1);
  },
);

/** Signs when it is told to; nothing else of it is asked for here. */
function slowSigner() {
  const [asked, known] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const sign = (): Promise<undefined> => {
    asked.resolve();
    return known.promise.then(() => undefined);
  };
  return { asked, known, assertions: { sign } as unknown as NonNullable<ProxyOptions["assertions"]> };
}

test("H2-2: a request that was taken back by HTTP/2 before it was known who asked held a backend for ever", async () => {
  const { asked, known, assertions } = slowSigner();
  const scene = await http1Stage({ assertions });
  const peer = RawPeer.overTls(scene.connect(443));
  peer.send(opening(), frame(FRAME.headers, END_HEADERS, 1, requestBlock("POST", GATE, "/")));
  peer.send(frame(FRAME.data, 0, 1, Buffer.from("hello")));
  await asked.promise;
  peer.send(frame(FRAME.reset, 0, 1, uint32(8)), frame(FRAME.ping, 0, 0, Buffer.alloc(8)));
  await peer.until((frames) => frames.some(({ type }) => type === FRAME.ping)); // so the gate knows
  known.resolve();
  const other = scene.connect(80);
  other.write(head(""));
  await read(other, (text) => text.endsWith("ok"));
  await expect.poll(() => scene.backend.connections.filter(({ destroyed }) => !destroyed).length).toBe(1);
  expect(scene.backend.requests).toHaveLength(1);
});

test.each([
  ["was refused", post(C, "5\r\nhello\r\nZZ\r\n"), ["400"]],
  ["did not come", post("Content-Length: 10\r\n", "hello"), []],
  ["did not come, and that is asked for first", post("Content-Length: 10\r\nExpect: 100-continue\r\n", ""), []],
])(
  "H1-4: who has left before it is known who asked holds no backend that waits for the rest of the body, which %s",
  async (_, bytes, statuses) => {
    const { asked, known, assertions } = slowSigner();
    const scene = await http1Stage({ assertions });
    const client = scene.connect(80);
    const heard = read(client);
    client.write(bytes);
    await asked.promise;
    if (statuses.length === 0) client.destroy();
    expect(statusesIn((await heard).text)).toEqual(statuses);
    client.destroy();
    for (let i = 0; i < 10; i++) await new Promise(setImmediate); // by then we have heard of it
    known.resolve();
    const other = scene.connect(80);
    other.write(head(""));
    await read(other, (text) => text.endsWith("ok"));
    await expect.poll(() => scene.backend.connections.filter(({ destroyed }) => !destroyed).length).toBe(1);
    expect(scene.backend.requests).toHaveLength(1);
  },
);

test("H1-10, H1-4: what HTTP/1.0 expects, twice or unknown, is ignored and does not reach the backend", async () => {
  for (const fields of ["Expect: 100-continue\r\n".repeat(2), "expect: x\r\n"]) {
    const line = "POST / HTTP/1.0\r\nConnection: keep-alive";
    const sent = await servedOf(await http1Stage(), `${head(`${fields}Content-Length: 2\r\n`, line)}ab`);
    expect(sent).toMatch(/^POST \/ HTTP\/1\.1\r\n.*\r\n\r\nab$/s);
    expect(sent).not.toMatch(/expect/i);
  }
});

test("H1-10: with `Expect: 100-continue` the caller is told once, and the next request never begins inside the body", async () => {
  const { connect, backend } = await http1Stage();
  const request = post("Content-Length: 10\r\nExpect: 100-continue\r\n", "GET / HTTP");
  const bytes = `${request}GET /next HTTP/1.1\r\n${H}\r\n`;
  const cuts = fc.sample(fc.array(fc.nat(bytes.length - 1), { maxLength: 4 }), { numRuns: 200, seed: 7 });
  for (const places of cuts) {
    backend.requests.length = 0;
    const client = connect(80);
    const done = read(client, (text) => statusesIn(text).length === 2 && text.endsWith("ok"));
    let from = 0;
    for (const to of [...places.sort((a, b) => a - b), bytes.length]) {
      client.write(bytes.slice(from, to), "latin1");
      from = to;
      await new Promise(setImmediate);
    }
    const { text } = await done;
    client.destroy();
    expect(text.match(/HTTP\/1\.1 100 /g)).toHaveLength(1);
    expect(backend.requests.map((one) => one.split(" ").slice(0, 2).join(" "))).toEqual(["POST /", "GET /next"]);
    expect(backend.requests[0]).toMatch(/\r\n\r\nGET \/ HTTP$/);
  }
});

test.each(["GET", "HEAD", "DELETE", "OPTIONS"])("H1-11: a body on %s travels with its length", async (method) => {
  const made = await http1Stage();
  const line = `${method} / HTTP/1.1`;
  const smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
  const client = made.connect(80);
  const done = read(client, (text) => statusesIn(text).length === 2 && text.endsWith("ok"));
  client.write(`${head(`Content-Length: ${smuggled.length}\r\n`, line)}${smuggled}${head("", "GET /next HTTP/1.1")}`);
  expect(statusesIn((await done).text)).toEqual(["200", "200"]);
  expect(made.backend.requests.map((one) => one.split(" ").slice(0, 2).join(" "))).toEqual([
    `${method} /`,
    "GET /next",
  ]);
  expect(made.backend.requests[0]).toContain(`\r\nContent-Length: ${smuggled.length}\r\n`);
});

test.each([1, 50, 5000])("H1-12: %d requests in one packet are answered in order, few at a time", async (count) => {
  const { connect, backend } = await http1Stage();
  const client = connect(80);
  const targets = Array.from({ length: count }, (_, i) => `/${i}`);
  let begun = 0;
  let most = 0;
  const onRead = (): void => {
    most = Math.max(most, ++begun - backend.requests.length);
  };
  diagnostics.subscribe("http.server.request.start", onRead);
  onClose(() => diagnostics.unsubscribe("http.server.request.start", onRead));
  const done = read(client, (text) => backend.requests.length === count && statusesIn(text).length === count);
  const forged = "Tailscale-User-Login: boss@example.com\r\n";
  client.write(targets.map((target) => head(forged, `GET ${target} HTTP/1.1`)).join(""));
  await done;
  expect(backend.requests.map((request) => request.split(" ")[1])).toEqual(targets);
  for (const request of backend.requests) {
    expect(request.match(/^Tailscale-User-Login: .*$/gm)).toEqual([`Tailscale-User-Login: ${ALICE.login}`]);
  }
  expect(backend.connections).toHaveLength(1);
  expect(begun).toBe(count);
  expect(most).toBeLessThanOrEqual(33); // the backend may have noted its newest a moment ago
});

test("H1-12: while a backend thinks, 32 of 5,000 requests are read", async () => {
  const waiting: Socket[] = [];
  const backend = await rawBackend((socket) => onHeads(socket, () => void waiting.push(socket)));
  const scene = proxyScene(webConfig({ "/": { Proxy: `http://127.0.0.1:${backend.port}` } }));
  let requests = 0;
  const onRead = (): void => void requests++;
  diagnostics.subscribe("http.server.request.start", onRead);
  onClose(() => diagnostics.unsubscribe("http.server.request.start", onRead));
  const client = scene.connect(80);
  client.write(head("").repeat(5000));
  await expect.poll(() => waiting.length, { timeout: 20_000 }).toBe(1);
  for (let i = 0; i < 50; i++) await new Promise(setImmediate);
  expect([requests, waiting.length]).toEqual([32, 1]);
  const done = read(client, (text) => answered === 5000 && statusesIn(text).length === 5000);
  let answered = 0;
  while (answered < 5000) {
    for (const socket of waiting.splice(0)) {
      socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
      answered++;
    }
    await new Promise(setImmediate);
  }
  await done;
  expect(requests).toBe(5000);
});

test("H1-12: an upgrade behind requests waits for their answers", async () => {
  const { connect, backend } = await http1Stage();
  const client = connect(80);
  const done = read(client, (text) => text.includes(" 101 ") && text.endsWith("\r\n\r\n"));
  const offer =
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
  client.write(`${head("", "GET /a HTTP/1.1")}${head("", "GET /b HTTP/1.1")}${head(offer, "GET /ws HTTP/1.1")}`);
  expect([...(await done).text.matchAll(/HTTP\/1\.1 (\d+)/g)].map((match) => match[1])).toEqual(["200", "200", "101"]);
  expect(backend.requests.map((request) => request.split(" ")[1])).toEqual(["/a", "/b", "/ws"]);
});

test("H1-12: what comes before refused bytes is answered first", async () => {
  const { connect } = await http1Stage();
  const client = connect(80);
  const done = read(client);
  client.write(`${head("")}${head("")}GET  /two-blanks HTTP/1.1\r\n${H}\r\n${head("")}`);
  expect(statusesIn((await done).text)).toEqual(["200", "200", "400"]);
});

test("a request that follows `Connection: close` is not a reason to leave the one before it without its answer", async () => {
  const { connect, backend } = await http1Stage();
  const client = connect(80);
  const done = read(client);
  client.write(`${head("Connection: close\r\n")}${head("", "GET /after HTTP/1.1")}`);
  expect(statusesIn((await done).text)).toEqual(["200"]);
  expect(backend.requests).toHaveLength(1);
});

test.each([
  ["a long target", { targetBytes: 100 }, head("", `GET /${"a".repeat(100)} HTTP/1.1`), "414"],
  ["a long target that is not whole", { targetBytes: 100 }, `GET /${"a".repeat(300)}`, "414"],
  ["a long head", { headBytes: 2048 }, head(`X: ${"a".repeat(3000)}\r\n`), "431"],
  ["many fields", { headFields: 10 }, head("X: y\r\n".repeat(10)), "431"],
  ["a long body", { bodyBytes: 4 }, post("Content-Length: 5\r\n", "hello"), "413"],
])("H1-13: %s is refused where the operator says so", async (_, limits, bytes, status) => {
  expect(await refusalOf(await http1Stage({ limits }), bytes)).toBe(status);
});

const X = "X: y\r\n";
/** Fields that make a head as long as our count of it says: names, values and four bytes a line, behind the target. */
const headOf = (bytes: number, fields = H): string =>
  `${fields}X: ${"y".repeat(bytes - fields.length - "/X: \r\n".length)}\r\n`;

test.each([
  ["100 lines", "GET / HTTP/1.1", H + X.repeat(99), "200"],
  ["101 lines", "GET / HTTP/1.1", H + X.repeat(100), "431"],
  ["a head of 32 KiB", "GET / HTTP/1.1", headOf(32 * 1024), "200"],
  ["a byte more", "GET / HTTP/1.1", headOf(32 * 1024 + 1), "431"],
  ["a target of 8 KiB", `GET /${"a".repeat(8191)} HTTP/1.1`, H, "200"],
  ["a target of a byte more", `GET /${"a".repeat(8192)} HTTP/1.1`, H, "414"],
])("H1-13: from the Internet %s: %s", async (_, line, fields, status) => {
  const { visit, connect, backend } = await http1Stage();
  for (const [client, wanted] of [
    [visit(80), status],
    [connect(80), "200"], // a peer may send more
  ] as const) {
    const done = read(client, (text) => text.endsWith("ok"));
    client.write(`${line}\r\n${fields}\r\n`);
    expect(statusesIn((await done).text)).toEqual([wanted]);
  }
  expect(backend.requests).toHaveLength(status === "200" ? 2 : 1);
});

test("H1-13: the same over HTTP/2, where each cookie is a field of its own", async () => {
  const made = await http1Stage();
  const session = await http2Client({ connect: made.visit });
  const statusOf = (fields: http2.OutgoingHttpHeaders): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const stream = session.request({ ":path": "/", ...fields });
      stream.once("response", (head) => resolve(head[":status"]));
      stream.once("error", reject);
      stream.resume();
    });
  const many = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`x-${i}`, "y"]));
  expect(await statusOf(many(100))).toBe(200);
  expect(await statusOf(many(101))).toBe(431);
  expect(await statusOf({ cookie: Array.from({ length: 110 }, (_, i) => `c${i}=v`) })).toBe(200);
  await expect(statusOf({ ...many(2), x: "y".repeat(33 * 1024) })).rejects.toThrow("ENHANCE_YOUR_CALM"); // H2-11
  expect(await statusOf({ ":path": `/${"a".repeat(8192)}` })).toBe(414);
  expect(made.backend.requests).toHaveLength(2);
});

test("H1-13: what the operator sets counts for the Internet too, and can be other for it alone", async () => {
  const both = await http1Stage({ limits: { targetBytes: 100 } });
  const alone = await http1Stage({ limits: { targetBytes: 100 }, publicLimits: { targetBytes: 50 } });
  const statusOf = async (client: ConnDuplex, size: number): Promise<string> => {
    const done = read(client, (text) => text.endsWith("ok"));
    client.write(head("", `GET /${"a".repeat(size - 1)} HTTP/1.1`));
    return statusesIn((await done).text).join();
  };
  expect([await statusOf(both.visit(80), 100), await statusOf(both.visit(80), 101)]).toEqual(["200", "414"]);
  expect([await statusOf(alone.visit(80), 50), await statusOf(alone.visit(80), 51)]).toEqual(["200", "414"]);
  expect(await statusOf(alone.connect(80), 51)).toBe("200");
});

test("H1-13: a limit of one mount, also for a body without a length", async () => {
  const events: string[] = [];
  const rulesOf: ProxyOptions["rulesOf"] = ({ mount }) => (mount === "/small" ? { bodyBytes: 4 } : undefined);
  const { connect, backend } = await http1Stage({ rulesOf, count: (event) => events.push(event) });
  const statusOf = async (bytes: string): Promise<string> => {
    const client = connect(80);
    const done = read(client, (text) => text.endsWith("ok"));
    client.write(bytes);
    return statusesIn((await done).text).join();
  };
  expect(await statusOf(`POST /small HTTP/1.1\r\n${H}Content-Length: 5\r\n\r\nhello`)).toBe("413");
  expect(await statusOf(`POST /small HTTP/1.1\r\n${H}${C}\r\n${hello}`)).toBe("413");
  expect(await statusOf(`POST /small HTTP/1.1\r\n${H}${C}\r\n4\r\nhell\r\n0\r\n\r\n`)).toBe("200");
  expect(await statusOf(`POST /large HTTP/1.1\r\n${H}${C}\r\n${hello}`)).toBe("200");
  expect(backend.requests).toHaveLength(2);
  expect(events).toContain("body_too_large");
});

test("HTTP/1.1 over TLS is read as strictly as without", async () => {
  const made = await http1Stage();
  const secure = (): tls.TLSSocket => {
    const options = { socket: made.connect(443), servername: GATE, rejectUnauthorized: false };
    const socket = tls.connect({ ...options, ALPNProtocols: ["http/1.1"] });
    socket.on("error", () => void socket.destroy());
    return socket;
  };
  const good = secure();
  const answers = read(good, (text) => statusesIn(text).length === 2 && text.endsWith("ok"));
  good.write(`${post(C, hello)}${head("", "GET /next HTTP/1.1")}`);
  expect(statusesIn((await answers).text)).toEqual(["200", "200"]);
  expect(made.backend.requests.every((request) => request.includes("\r\nX-Forwarded-Proto: https\r\n"))).toBe(true);
  for (const bytes of [head("", "GET  / HTTP/1.1"), `GET /\r\n\r\n`, post(C, "5\nhello\r\n0\r\n\r\n")]) {
    const bad = secure();
    const refusal = read(bad);
    bad.write(bytes);
    expect(statusesIn((await refusal).text)).toEqual(["400"]);
  }
  expect(made.backend.requests).toHaveLength(2);
});

test.each([
  ["nothing at all", "", 9_999],
  ["a head that does not end", `GET / HTTP/1.1\r\n${H}`, 9_999],
  ["a body that stops", post("Content-Length: 10\r\n", "hello"), 59_999],
])("H1-14: %s is waited for so long and no longer", async (_, bytes, ms) => {
  const clock = new FakeClock();
  const { connect } = await http1Stage({ clock });
  const client = connect(80);
  client.write(bytes);
  await new Promise(setImmediate);
  clock.advance(ms);
  await new Promise(setImmediate);
  expect(client.destroyed).toBe(false);
  const closed = new Promise<void>((resolve) => client.once("close", () => resolve()));
  clock.advance(2);
  await closed;
});

test("H1-14: a connection at rest is closed after 75 s, one with a request under way is not", async () => {
  const clock = new FakeClock();
  const { connect } = await http1Stage({ clock });
  const client = connect(80);
  const first = read(client, (text) => text.endsWith("ok"));
  client.write(head(""));
  await first;
  await new Promise(setImmediate);
  clock.advance(74_000);
  const second = read(client, (text) => text.endsWith("ok"));
  client.write(head(""));
  expect(statusesIn((await second).text)).toEqual(["200"]);
  await new Promise(setImmediate);
  const closed = new Promise<void>((resolve) => client.once("close", () => resolve()));
  clock.advance(76_000);
  await closed;
});

test.each([
  ["after an answer", true],
  ["behind a request, before its answer", false],
])(
  "H1-14: a second head that does not end, begun %s, is waited for 10 s, and no longer as a connection at rest",
  async (_, isLater) => {
    const clock = new FakeClock();
    const { connect } = await http1Stage({ clock });
    const client = connect(80);
    const answered = read(client, (text) => text.endsWith("ok"));
    const begun = `GET / HTTP/1.1\r\n${H}X: `;
    client.write(isLater ? head("") : head("") + begun);
    expect(statusesIn((await answered).text)).toEqual(["200"]);
    if (isLater) {
      clock.advance(60_000);
      client.write(begun);
    }
    await new Promise(setImmediate);
    clock.advance(9_999);
    client.write("x");
    await new Promise(setImmediate);
    expect(client.destroyed).toBe(false);
    const closed = new Promise<void>((resolve) => client.once("close", () => resolve()));
    clock.advance(2);
    await closed;
  },
);
