import { connect } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { nodeSide, openIngress, publicName, visit } from "../../test/suites/ingress-scene.ts";
import { seededRandom } from "../base/random.ts";
import { locationOf } from "./redirect.ts";

const isPublic = (name: string): boolean => name === "box.tail.test";

test.each<readonly [string, string]>([
  ["GET / HTTP/1.1\r\nHost: box.tail.test", "https://box.tail.test/"],
  ["GET /a?b=c#d HTTP/1.1\r\nhost:BOX.tail.test:80 \r\nX: y", "https://box.tail.test/a?b=c#d"],
  ["POST //evil.test/x HTTP/1.0\r\nHost: box.tail.test.", "https://box.tail.test//evil.test/x"],
])("FN-15 a request for a public name is sent on: %j", (head, location) => {
  expect(locationOf(head, isPublic)).toBe(location);
});

test.each([
  "GET / HTTP/1.1",
  "GET / HTTP/1.1\r\nHost: other.tail.test",
  "GET / HTTP/1.1\r\nHost: box.tail.test\r\nHost: evil.test",
  "GET / HTTP/1.1\r\nHost: box.tail.test@evil.test",
  "GET / HTTP/1.1\r\nHost: box.tail.test:8080",
  "GET / HTTP/1.1\r\nHost: 127.0.0.1",
  "GET http://evil.test/ HTTP/1.1\r\nHost: box.tail.test",
  "GET @evil.test/ HTTP/1.1\r\nHost: box.tail.test",
  "GET /\u00e9 HTTP/1.1\r\nHost: box.tail.test",
  "GET /a\nb HTTP/1.1\r\nHost: box.tail.test",
  "GET /a b HTTP/1.1\r\nHost: box.tail.test",
  "PRI * HTTP/2.0",
])("FN-15 anything else is not: %j", (head) => {
  expect(locationOf(head, isPublic)).toBeUndefined();
});

const HEADS = 20_000 * Number(process.env["SALLYPORT_FUZZ"] ?? 1);
/** What a head is made of: mostly what belongs there, in an order that does not. */
const PIECES = [
  ...[
    "GET",
    "POST",
    "OPTIONS",
    "get",
    " ",
    " ",
    " ",
    "/",
    "/",
    "//",
    "/\\",
    "\\",
    "@",
    ":",
    ":80",
    ":443",
    "?",
    "#",
    "%2f",
    ".",
  ],
  ...[
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/2.0",
    "\r\n",
    "\r\n",
    "\n",
    "\r",
    "\t",
    "\0",
    "Host:",
    "host: ",
    "Host : ",
    "X-Forwarded-Host: ",
  ],
  ...[
    "box.tail.test",
    "box.tail.test",
    "BOX.tail.test.",
    "evil.test",
    "box.tail.test.evil.test",
    "evil.test/box.tail.test",
  ],
  ...["http://", "https://", "javascript:", "127.0.0.1", "[::1]", "Location: https://evil.test", "\u00e9", ","],
];

test(`FN-15 of ${HEADS} odd heads none is sent on to anything but a public name`, () => {
  const draw = seededRandom(HEADS);
  const piece = (): string => PIECES[draw(1)[0]! % PIECES.length]!;
  let sentOn = 0;
  for (let i = 0; i < HEADS; i++) {
    const odd = Array.from({ length: 1 + (draw(1)[0]! % 12) }, piece).join("");
    const frames = [
      odd,
      `GET /${odd} HTTP/1.1\r\nHost: box.tail.test`,
      `GET / HTTP/1.1\r\nHost: ${odd}`,
      `GET / HTTP/1.1\r\nHost: box.tail.test${odd}`,
      `GET ${odd} HTTP/1.1\r\nHost: box.tail.test`,
    ];
    const head = frames[i % frames.length]!;
    const location = locationOf(head, isPublic);
    if (location === undefined) continue;
    sentOn++;
    const { origin, username, password } = new URL(location);
    expect([head, origin, username, password]).toEqual([head, "https://box.tail.test", "", ""]);
    expect(location).toMatch(/^https:\/\/box\.tail\.test\/[!-~]*$/);
  }
  expect(sentOn).toBeGreaterThan(HEADS / 1000);
});

test("FN-15 port 80 answers for exact public names alone, and says nothing to others", async () => {
  const names = [
    publicName("box.tail.test"),
    publicName("*.example.org"),
    publicName("alt.test", { ports: new Set([8443]) }),
  ];
  const { ingress } = await openIngress(names, nodeSide().dial);
  const port = await ingress.listen(0, "127.0.0.1", { isPlain: true });
  const ask = async (host: string): Promise<string> => {
    const socket = connect(port, "127.0.0.1");
    onTestFinished(() => void socket.destroy());
    socket.on("error", () => undefined);
    socket.write(`GET /x HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    let heard = "";
    for await (const chunk of socket) heard += String(chunk);
    return heard;
  };
  expect(await ask("box.tail.test")).toBe(
    "HTTP/1.1 308 Permanent Redirect\r\nLocation: https://box.tail.test/x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
  );
  for (const host of ["a.example.org", "alt.test", "nobody.test"]) expect(await ask(host)).toBe("");
});

test("FN-15 of a head without end 8 KiB are read, and who asks twice is answered once", async () => {
  const { ingress } = await openIngress([publicName("box.tail.test")], nodeSide().dial);
  const port = await ingress.listen(0, "127.0.0.1", { isPlain: true });
  const wait = { timeout: 20_000, interval: 2 };
  const endless = visit(port, Buffer.from("GET / HTTP/1.1\r\nHost: box.tail.test\r\nX: "));
  endless.socket.write(Buffer.alloc(8000, "x"));
  await expect.poll(() => ingress.pending, wait).toBe(1);
  endless.socket.write(Buffer.alloc(200, "x")); // time stands still: nothing else ends him
  await expect.poll(endless.ending, wait).toBeDefined();
  expect(endless.heard().toString()).toBe("");

  const twice = visit(port, Buffer.from("GET /x HTTP/1.1\r\nHost: box.tail.test\r\n\r\n"));
  twice.socket.on("data", () => void twice.socket.write("GET /y HTTP/1.1\r\nHost: box.tail.test\r\n\r\n"));
  await expect.poll(twice.ending, wait).toBe("end");
  twice.socket.end();
  await expect.poll(() => [ingress.open, ingress.counts.redirected], wait).toEqual([0, 1]);
  expect(String(twice.heard()).match(/HTTP\/1\.1 308 /g)).toHaveLength(1);
});

test("TL-4 on port 80 who says nothing kept his place, and who came later was sent away: the oldest makes room", async () => {
  const wait = { timeout: 20_000, interval: 2 };
  const names = [publicName("box.tail.test")];
  const limits = { pending: 5, visitorPending: 3 };
  const { ingress, clock } = await openIngress(names, nodeSide().dial, { limits });
  const port = await ingress.listen(0, "127.0.0.1", { isPlain: true });
  const silent = [visit(port)];
  while (silent.length < 5) {
    await expect.poll(() => ingress.open + ingress.counts.over_limit, wait).toBe(silent.length);
    silent.push(visit(port, Buffer.from("GET / HTTP/1.1\r\nHo")));
  }
  await expect
    .poll(() => silent.map(({ ending }) => ending()), wait)
    .toEqual([...["reset", "reset"], ...[undefined, undefined, undefined]]);
  const asks = visit(port, Buffer.from("GET /x HTTP/1.1\r\nHost: box.tail.test\r\n\r\n"));
  await expect.poll(() => asks.heard().toString(), wait).toMatch(/^HTTP\/1\.1 308 /);
  await expect.poll(() => silent[2]!.ending(), wait).toBe("reset");
  // Who was answered and does not go waits for nothing, and goes when his time is over, like who says nothing.
  await expect.poll(() => [ingress.pending, asks.ending()], wait).toEqual([2, "end"]);
  clock.advance(10_001);
  await expect.poll(() => silent.slice(3).every(({ ending }) => ending() !== undefined), wait).toBe(true);
  await expect.poll(() => [ingress.open, ingress.pending], wait).toEqual([0, 0]);
  // Their time was over, and nothing was too much.
  expect(ingress.counts.over_limit).toBe(3);
  expect(silent.slice(3).map(({ ending }) => ending())).not.toContain("reset");
});
