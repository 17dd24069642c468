import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { makeHello } from "../../../test/suites/client-hellos.ts";

import {
  ACCEPTED,
  answerTo,
  EARLY,
  FIELDS,
  forTarget,
  heardNoIdentity,
  type IngressDoorScene,
  NAME,
  openIngressDoor,
  PEER,
  RELAY,
  request,
  SECRET,
  visitorTls,
  withField,
} from "../../../test/suites/ingress-door-scene.ts";

import type { ConnDuplex } from "../../base/duplex.ts";
import { seededRandom } from "../../base/random.ts";

const WAIT = { timeout: 20_000, interval: 2 };

let scene: IngressDoorScene;

beforeEach(async () => {
  scene = await openIngressDoor();
});
afterEach(() => heardNoIdentity(scene));

/** For a raw port, with the visitor's first bytes behind it. */
const EARLY_REQUEST = request([...withField("Tailscale-Ingress-Target", `${NAME}:8443`), EARLY]);
const REQUESTS = 500 * Number(process.env["SALLYPORT_FUZZ"] ?? 1);
const ODD_LINES = [
  ...[
    "GET /v0/ingress HTTP/1.1",
    "post /v0/ingress HTTP/1.1",
    "POST /v0/ingress HTTP/1.0",
    "POST /v0/ingress HTTP/2.0",
  ],
  ...[
    "POST  /v0/ingress HTTP/1.1",
    "POST /v0/ingress/ HTTP/1.1",
    "POST /v0/ingress?a HTTP/1.1",
    "POST /V0/INGRESS HTTP/1.1",
  ],
  ...[
    "POST http://peer/v0/ingress HTTP/1.1",
    "POST //v0/ingress HTTP/1.1",
    "POST /v0/./ingress HTTP/1.1",
    "PUT /v0/ingress HTTP/1.1",
  ],
];
/** Of each field, what may be said of it; empty: nothing. The first three are good. */
const ODD_FIELDS: readonly (readonly string[])[] = [
  ["Host: peer", "Host: 100.64.0.5:39291", "host:100.64.0.5:1\t", "Host: 100.64.0.5", "Host: evil.test", ""],
  [
    ...[
      "Tailscale-Ingress-Src: 203.0.113.9:51514",
      "Tailscale-Ingress-Src:  [2001:db8::9]:7 ",
      "Tailscale-Ingress-Src:1.2.3.4:5",
    ],
    ...["Tailscale-Ingress-Src: 100.64.0.2:1", "Tailscale-Ingress-Src: x", "Tailscale_Ingress_Src: 203.0.113.9:5", ""],
  ],
  [
    ...[
      `Tailscale-Ingress-Target: ${NAME}:443`,
      `Tailscale-Ingress-Target:${NAME}:8443 `,
      `Tailscale-Ingress-Target: ${NAME}:10000`,
    ],
    ...[
      `Tailscale-Ingress-Target: ${SECRET}:443`,
      `Tailscale-Ingress-Target: ${NAME}:22`,
      `Tailscale-Ingress-Target : ${NAME}:443`,
      "",
    ],
  ],
  [
    "",
    "",
    "Content-Length: 0",
    "Content-Length: 0",
    "Content-Length: 1",
    "Content-Length: 00",
    "Transfer-Encoding: chunked",
  ],
  ["", "", "", "", "Origin: null", "Referer:", "X-Origin: x", "Connection: upgrade", "Cookie: a=b", " folded"],
];

/** The same by another way: no field is looked at twice, and what is not known to be good is not. */
function isGoodDelivery(text: string): boolean {
  const [first, ...lines] = text.trimEnd().split("\r\n");
  if (first !== "POST /v0/ingress HTTP/1.1" || lines.some((line) => !/^[\w-]+:/.test(line))) return false;
  const of = (name: string): string[] =>
    lines.filter((line) => line.toLowerCase().startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).trim());
  const isOnce = (name: string, good: RegExp): boolean => of(name).length === 1 && good.test(of(name)[0]!);
  return (
    isOnce("host", /^(?:peer|100\.64\.0\.5:\d+)$/) &&
    isOnce("tailscale-ingress-src", /^(?:203\.0\.113\.9:51514|\[2001:db8::9\]:7|1\.2\.3\.4:5)$/i) &&
    isOnce("tailscale-ingress-target", /^box\.tail\.test:(?:443|8443|10000)$/) &&
    [...of("origin"), ...of("referer"), ...of("transfer-encoding")].length === 0 &&
    of("content-length").every((length) => length === "0")
  );
}

describe("FN-4 the node checks the relay, with upstream's statuses", () => {
  test.each<readonly [string, string, number, string]>([
    ["GET", request(FIELDS, "GET /v0/ingress HTTP/1.1"), 405, "only POST allowed"],
    ["no source", request(withField("Tailscale-Ingress-Src", undefined)), 400, "Tailscale-Ingress-Src header not set"],
    ["an empty source", request(withField("Tailscale-Ingress-Src", "")), 400, "Tailscale-Ingress-Src header not set"],
    ["a source without port", request(withField("Tailscale-Ingress-Src", "203.0.113.9")), 400, "want ip:port"],
    ["a name as source", request(withField("Tailscale-Ingress-Src", "evil.test:1")), 400, "want ip:port"],
    ["two sources", request([...FIELDS, "Tailscale-Ingress-Src: 203.0.113.7:1"]), 400, "want ip:port"],
    [
      "no target",
      request(withField("Tailscale-Ingress-Target", undefined)),
      400,
      "Tailscale-Ingress-Target header not set",
    ],
    ["a target without port", request(withField("Tailscale-Ingress-Target", NAME)), 400, "want host:port"],
    ["two targets", request([...FIELDS, `Tailscale-Ingress-Target: ${NAME}:443`]), 400, "want host:port"],
    [
      "an empty target",
      request(withField("Tailscale-Ingress-Target", "")),
      400,
      "Tailscale-Ingress-Target header not set",
    ],
    [
      "a target with two ports",
      request(withField("Tailscale-Ingress-Target", `${NAME}:443:443`)),
      400,
      "want host:port",
    ],
    ["two targets in one", request(withField("Tailscale-Ingress-Target", `${NAME}:443, x:443`)), 400, "want host:port"],
    ["two sources in one", request(withField("Tailscale-Ingress-Src", "203.0.113.9:1, 127.0.0.1:1")), 400, "ip:port"],
    ["all that is wrong: GET first", request(FIELDS.slice(0, 1), "GET /v0/ingress HTTP/1.1"), 405, "only POST allowed"],
    [
      "… then the source",
      request(withField("Tailscale-Ingress-Target", undefined).filter((field) => !field.includes("Src"))),
      400,
      "Tailscale-Ingress-Src header not set",
    ],
    ["… then the target, public or not", forTarget("nobody.test", "203.0.113.9:1"), 400, "want host:port"],
    ["Origin", request([...FIELDS, "Origin: https://evil.test"]), 403, "invalid peerapi request"],
    ["Referer", request([...FIELDS, "Referer: https://evil.test/"]), 403, "invalid peerapi request"],
    ["an Origin that is none", request([...FIELDS, "Origin: null"]), 403, "invalid peerapi request"],
    ["an empty Referer", request([...FIELDS, "referer:"]), 403, "invalid peerapi request"],
    ["Origin, before the method", request([...FIELDS, "Origin: x"], "GET /v0/ingress HTTP/1.1"), 403, "invalid"],
    [
      "a Host that a browser was rebound to",
      request(withField("Host", "evil.test:39291")),
      403,
      "invalid peerapi request",
    ],
    ["a Host that only begins like ours", request(withField("Host", "100.64.0.5.evil.test:1")), 403, "invalid peerapi"],
    ["a Host of this machine", request(withField("Host", "127.0.0.1:39291")), 403, "invalid peerapi request"],
    ["localhost", request(withField("Host", "localhost")), 403, "invalid peerapi request"],
    ["another Host", request(withField("Host", "evil.test")), 403, "invalid peerapi request"],
    ["Host of another node", request(withField("Host", "100.64.0.2:39291")), 403, "invalid peerapi request"],
    ["two Hosts", request([...FIELDS, "Host: peer"]), 400, "Bad Request"],
    ["no Host", request(withField("Host", undefined)), 400, "Bad Request"],
    ["a body", request(withField("Content-Length", "3")), 400, "no body allowed"],
    ["a chunked body", request([...FIELDS, "Transfer-Encoding: chunked"]), 400, "no body allowed"],
    ["a pipelined second request", request() + request(), 400, "bytes before the answer"],
    ["the visitor's bytes before the 101", `${request()}x`, 400, "bytes before the answer"],
    [
      "… though they could come",
      `${request([...FIELDS, "Sallyport-Ingress-Early: ?0"])}x`,
      400,
      "bytes before the answer",
    ],
    ["… in doubt", `${request([...FIELDS, EARLY, EARLY])}x`, 400, "bytes before the answer"],
    ["a query", request(FIELDS, "POST /v0/ingress?x HTTP/1.1"), 400, "Bad Request"],
    ["HTTP/1.0", request(FIELDS, "POST /v0/ingress HTTP/1.0"), 400, "Bad Request"],
    ["a folded field", request([...FIELDS, " Tailscale-Ingress-Src: 1.2.3.4:5"]), 400, "Bad Request"],
    ["a space before the colon", request([...FIELDS, "Host : peer"]), 400, "Bad Request"],
    ["a bare line feed", request().replace("\r\nContent", "\nContent"), 400, "Bad Request"],
  ])("%s", async (_, text, status, reason) => {
    const answer = await answerTo(scene.connect(), text);
    expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect(answer).toContain(reason);
    expect(scene.backend.sockets).toEqual([]);
  });

  test("an ingress that speaks HTTP/2 is refused", async () => {
    const answer = await answerTo(scene.connect(), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
  });

  test("a peer without the ingress capability, and an address that the relay only routes", async () => {
    const noCap = "denied; no ingress cap";
    expect(await answerTo(scene.connect(PEER, "100.64.0.2"), request())).toContain(noCap);
    expect(await answerTo(scene.connect(PEER, "100.64.0.2"), request(FIELDS, "GET /v0/ingress HTTP/1.1"))).toContain(
      noCap,
    );
    expect(await answerTo(scene.connect(PEER, "100.64.0.9"), request())).toContain(noCap); // not the owner's tunnel
    expect(await answerTo(scene.connect(RELAY, "10.0.0.9"), request())).toContain(noCap);
    scene.filter = [];
    expect(await answerTo(scene.connect(), request())).toContain(noCap);
    expect(scene.backend.sockets).toEqual([]);
  });

  test.each([`nodekey:${RELAY}`, "tag:relay"])("trusted by our own configuration: %s", async (who) => {
    scene = await openIngressDoor({ trusted: [who] });
    scene.filter = [];
    expect(await answerTo(scene.connect(), request())).toBe(ACCEPTED);
    expect(await answerTo(scene.connect(PEER, "100.64.0.2"), request())).toContain("denied; no ingress cap");
  });

  test("however the request is cut, it is the same request", async () => {
    for (const size of [1, 7, 40]) {
      const client = scene.connect();
      const text = request();
      for (let at = 0; at < text.length; at += size) client.write(text.slice(at, at + size));
      expect(await answerTo(client, "")).toBe(ACCEPTED);
    }
  });

  test("upstream's relay gets a bare 101, and ours is told that we take early words", async () => {
    const told = ACCEPTED.replace(/\r\n$/, `${EARLY}\r\n\r\n`);
    expect(await answerTo(scene.connect(), request())).toBe(ACCEPTED);
    for (const word of ["?0", "?1"]) {
      const text = request([...FIELDS, `Sallyport-Ingress-Early: ${word}`]);
      expect(await answerTo(scene.connect(), text)).toBe(told);
    }
    expect(await answerTo(scene.connect(), request([...FIELDS, "Sallyport-Ingress-Early: yes"]))).toBe(ACCEPTED);
  });

  test("a hello behind the request is the visitor's, however both are cut", async () => {
    const hello = makeHello({ name: NAME });
    const text = EARLY_REQUEST;
    const all = Buffer.concat([Buffer.from(text), hello, Buffer.from("and more")]);
    const cuts = [
      [],
      [1],
      [text.length - 1],
      [text.length],
      [text.length + 1],
      [all.length - 9],
      [60, text.length + 40],
    ];
    for (const [index, cut] of cuts.entries()) {
      const client = scene.connect();
      const ends = [...cut, all.length];
      for (const [part, end] of ends.entries()) {
        client.write(all.subarray(ends[part - 1] ?? 0, end));
        await new Promise((resolve) => setImmediate(resolve));
      }
      const line = `PROXY TCP4 203.0.113.9 100.64.0.5 51514 ${scene.backend.port}\r\n`;
      const wanted = `${line}${hello.toString("latin1")}and more`;
      await expect.poll(() => scene.backend.heard[index], WAIT).toBe(wanted);
    }
  });

  test("the relay's answer goes with the backend's first words, and does not wait for them for long", async () => {
    const heard = ["", ""];
    for (const visitor of heard.keys()) {
      const client = scene.connect();
      client.on("data", (part: Buffer) => {
        heard[visitor] += part.toString("latin1");
      });
      client.write(Buffer.concat([Buffer.from(EARLY_REQUEST), makeHello({ name: NAME })]));
    }
    await expect.poll(() => scene.backend.heard.filter((bytes) => bytes !== "").length, WAIT).toBe(2);
    expect(heard).toEqual(["", ""]);
    const answer = ACCEPTED.replace(/\r\n$/, `${EARLY}\r\n\r\n`);
    scene.backend.sockets[0]!.write("first words");
    await expect.poll(() => heard.toSorted(), WAIT).toEqual(["", `${answer}first words`]);
    scene.clock.advance(200);
    await expect.poll(() => heard.toSorted(), WAIT).toEqual([answer, `${answer}first words`]);
  });

  test("a backend that resets without a word: the visitor was told that its node is away", async () => {
    const client = scene.connect();
    let heard = "";
    client.on("data", (part: Buffer) => {
      heard += part.toString("latin1");
    });
    client.write(Buffer.concat([Buffer.from(EARLY_REQUEST), makeHello({ name: NAME })]));
    await expect.poll(() => scene.backend.sockets.length, WAIT).toBe(1);
    scene.backend.sockets[0]!.resetAndDestroy();
    await expect.poll(() => client.destroyed, WAIT).toBe(true);
    expect(client.readableEnded).toBe(false);
    expect(heard).toMatch(/^HTTP\/1\.1 101 /);
  });

  test("FN-5 a hello behind the request that asks for another name reaches nothing", async () => {
    const client = scene.connect();
    const text = Buffer.from(request([...FIELDS, EARLY]));
    client.write(Buffer.concat([text, makeHello({ name: SECRET })]));
    const heard: Buffer[] = [];
    for await (const part of client) heard.push(part as Buffer);
    expect(Buffer.concat(heard).toString("hex")).toMatch(/15030300020270$/);
    expect(scene.backend.sockets).toEqual([]);
  });

  test("a visitor whose TLS hello is refused hears the alert, behind the 101", async () => {
    const client = scene.connect();
    client.write(Buffer.concat([Buffer.from(request([...FIELDS, EARLY])), makeHello({ name: NAME })]));
    const heard: Buffer[] = [];
    client.on("data", (part: Buffer) => heard.push(part));
    await expect.poll(() => client.readableEnded || client.destroyed, WAIT).toBe(true);
    const all = Buffer.concat(heard);
    expect(all.toString("latin1")).toMatch(/^HTTP\/1\.1 101 /);
    expect(all.subarray(-7).toString("hex")).toMatch(/^1503..000202..$/);
  });

  test("a delivery behind another request is none", async () => {
    const client = scene.connect();
    const first = "HEAD / HTTP/1.1\r\nHost: peer\r\n\r\n";
    const answer = await answerTo(client, first + request());
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n(?:[^\r]+\r\n)+\r\n$/);
  });

  test(`of ${REQUESTS} odd requests those are taken that say all of it once, and in no other way`, async () => {
    const draw = seededRandom(REQUESTS);
    const pick = <T>(list: readonly T[]): T => list[draw(1)[0]! % list.length]!;
    const counts = { taken: 0, refused: 0 };
    const line = (lines: readonly string[]): string => pick(draw(1)[0]! < 200 ? lines.slice(0, 3) : lines);
    for (let i = 0; i < REQUESTS; i++) {
      const fields = ODD_FIELDS.flatMap((lines) => (draw(1)[0]! < 12 ? [line(lines), line(lines)] : [line(lines)]));
      const shuffled = fields.toSorted(() => draw(1)[0]! - 128).filter((text) => text !== "");
      const first = draw(1)[0]! < 25 ? pick(ODD_LINES) : "POST /v0/ingress HTTP/1.1";
      const text = request(
        shuffled.map((text) => (draw(1)[0]! < 10 ? text.toUpperCase() : text)),
        first,
      );
      const client = scene.connect();
      let answer = "";
      client.on("data", (part: Buffer) => {
        answer += part.toString("latin1");
      });
      client.write(text);
      await expect.poll(() => answer.includes("\r\n\r\n") || client.destroyed, WAIT).toBe(true);
      client.destroy();
      const isGood = isGoodDelivery(text);
      expect([text, answer.startsWith("HTTP/1.1 101")]).toEqual([text, isGood]);
      if (!isGood) expect(answer).toMatch(/^HTTP\/1\.1 40[0345] /);
      counts[isGood ? "taken" : "refused"]++;
    }
    expect(counts.taken).toBeGreaterThan(REQUESTS / 20);
    expect(counts.refused).toBeGreaterThan(REQUESTS / 20);
  }, 600_000);

  test("a head that does not come to its end is waited for 10 s", async () => {
    const client = scene.connect();
    client.write("POST /v0/ingress HT");
    await new Promise<void>((resolve) => setImmediate(resolve));
    scene.clock.advance(10_001);
    await expect.poll(() => client.destroyed, WAIT).toBe(true);
  });
});

describe("FN-6 only what this node's own configuration makes public", () => {
  test.each([
    ...[`${NAME}:22`, `${NAME}:8080`, `${NAME}:0`, `${NAME}:65536`, `${NAME}:443x`, `${NAME}:0443`, `${NAME}:+443`],
    ...[
      `${SECRET}:443`,
      `other.test:443`,
      "__proto__:443",
      "constructor:443",
      `${NAME.toUpperCase()}:443`,
      `${NAME}.:443`,
    ],
    `${NAME}:80`, // no TLS there: nothing would say whom the visitor means
    `${NAME}:9`, // nothing is served there
  ])("%s is denied", async (target) => {
    const answer = await answerTo(scene.connect(), forTarget(target));
    expect(answer).toMatch(/^HTTP\/1\.1 403 Forbidden\r\n.*\r\n\r\ndenied\n$/s);
  });

  test.each([":8443", ":10000", ":22", ":80", ":0", ":65536", ":443x", ":0443", ":4_43"])(
    "public on 443 alone: %s is not let in, though something is served there",
    async (port) => {
      scene.config = { ...scene.config, AllowFunnel: { [`${NAME}:443`]: true } };
      expect(await answerTo(scene.connect(), forTarget(`${NAME}:443`))).toBe(ACCEPTED);
      const answer = await answerTo(scene.connect(), forTarget(`${NAME}${port}`));
      expect(answer).toMatch(/^HTTP\/1\.1 403 Forbidden\r\n.*\r\n\r\ndenied\n$/s);
    },
  );

  test("a wildcard is public for one label more, and for nothing else", async () => {
    const wild = "*.shop.example.org:443";
    scene.config = { ...scene.config, AllowFunnel: { [wild]: true } };
    expect(await answerTo(scene.connect(), forTarget("a.shop.example.org:443"))).toBe(ACCEPTED);
    for (const target of [wild, "shop.example.org:443", "a.b.shop.example.org:443", "a.shop.example.org:8443"]) {
      expect(await answerTo(scene.connect(), forTarget(target))).toMatch(/^HTTP\/1\.1 403 /);
    }
  });

  test("where nothing is configured, nobody is let in", async () => {
    scene.config = {};
    expect(await answerTo(scene.connect(), request())).toMatch(/^HTTP\/1\.1 403 /);
  });
});

describe("FN-8 off is at once", () => {
  test("100 open connections are cut, and new ones denied", async () => {
    const raw = await Promise.all(Array.from({ length: 50 }, () => scene.enter(forTarget(`${NAME}:8443`))));
    for (const client of raw) client.write(makeHello({ name: NAME }));
    const web = await Promise.all(
      Array.from({ length: 50 }, async () => visitorTls(await scene.enter(request()), NAME)),
    );
    await expect.poll(() => scene.backend.heard.filter((text) => text.includes("PROXY")).length, WAIT).toBe(50);
    expect(scene.door.open).toBe(100);
    for (const secure of web) secure.on("error", () => undefined);
    for (const client of raw) client.resume();
    scene.config = { ...scene.config, AllowFunnel: {} };
    scene.door.review();
    expect(scene.door.open).toBe(0);
    await expect.poll(() => raw.every(({ destroyed }) => destroyed), WAIT).toBe(true);
    await expect.poll(() => web.every(({ destroyed }) => destroyed), WAIT).toBe(true);
    await expect.poll(() => scene.backend.sockets.every(({ destroyed }) => destroyed), WAIT).toBe(true);
    expect(await answerTo(scene.connect(), request())).toMatch(/^HTTP\/1\.1 403 /);
  });

  test("what stays public stays open; a relay that loses its right loses its visitors", async () => {
    const raw = await scene.enter(forTarget(`${NAME}:8443`));
    raw.write(makeHello({ name: NAME }));
    await expect.poll(() => scene.backend.sockets.length, WAIT).toBe(1);
    scene.config = { ...scene.config, AllowFunnel: { [`${NAME}:8443`]: true } };
    scene.door.review();
    expect(scene.door.open).toBe(1);
    scene.filter = [];
    scene.door.review();
    raw.resume();
    await expect.poll(() => raw.destroyed, WAIT).toBe(true);
  });
});

test("FN-4 FN-8 a relay whose key has run out brings nobody any more, and loses whom it brought", async () => {
  const client = await scene.enter(forTarget(`${NAME}:8443`));
  client.write(makeHello({ name: NAME }));
  await expect.poll(() => scene.backend.sockets.length, WAIT).toBe(1);
  scene.relay.Expired = true;
  expect(await answerTo(scene.connect(), request())).toMatch(/^HTTP\/1\.1 403 .*denied; no ingress cap/s);
  scene.door.review();
  client.resume();
  await expect.poll(() => client.destroyed && scene.backend.sockets[0]!.destroyed, WAIT).toBe(true);
  scene.relay.Expired = false;
  expect(await answerTo(scene.connect(), request())).toBe(ACCEPTED);
});

test("FN-13 visitors of a relay that is gone are cut within a minute, those of one that comes back are not", async () => {
  const client = await scene.enter(forTarget(`${NAME}:8443`));
  client.resume();
  client.write(makeHello({ name: NAME }));
  await expect.poll(() => scene.backend.sockets.length, WAIT).toBe(1);
  const look = (isOnline: boolean, ms: number): void => {
    scene.relay.Online = isOnline;
    for (let i = 0; i < ms; i += 2000) {
      scene.door.review();
      scene.clock.advance(2000);
    }
  };
  look(false, 16_000);
  look(true, 4000);
  look(false, 16_000);
  expect(scene.door.open).toBe(1);
  look(false, 10_000);
  await expect.poll(() => client.destroyed && scene.backend.sockets[0]!.destroyed, WAIT).toBe(true);
});

test("FN-13 visitors were cut whose relay had lost nothing but its way to the server", async () => {
  let isAlive = true;
  const askForLife = (): Promise<void> =>
    isAlive ? Promise.resolve() : Promise.reject(new Error("no answer in time"));
  scene = await openIngressDoor({ askForLife });
  const client = await scene.enter(forTarget(`${NAME}:8443`));
  client.resume();
  client.write(makeHello({ name: NAME }));
  await expect.poll(() => scene.backend.sockets.length, WAIT).toBe(1);
  scene.relay.Online = false;
  const look = async (ms: number): Promise<void> => {
    for (let i = 0; i < ms; i += 2000) {
      scene.door.review();
      await new Promise((resolve) => setImmediate(resolve));
      scene.clock.advance(2000);
    }
  };
  await look(300_000);
  expect(scene.door.open).toBe(1);
  isAlive = false; // as its process is killed
  await look(16_000);
  expect(scene.door.open).toBe(1);
  await look(10_000);
  await expect.poll(() => client.destroyed && scene.backend.sockets[0]!.destroyed, WAIT).toBe(true);
});

test("FN-10 a peer who said nothing on 1,024 connections kept all visitors out", async () => {
  const silent = Array.from({ length: 1024 }, () => scene.connect(PEER, "100.64.0.2"));
  for (const one of silent) one.write("P");
  await new Promise((resolve) => setImmediate(resolve));
  expect(await answerTo(scene.connect(), request())).toBe(ACCEPTED);
});

test("FN-10 one relay has so many visitors and no more", async () => {
  scene = await openIngressDoor({ limits: { relayOpen: 2 } });
  const first = await scene.enter(request());
  await scene.enter(request());
  expect(await answerTo(scene.connect(), request())).toMatch(/^HTTP\/1\.1 503 /);
  first.destroy();
  await expect.poll(() => scene.door.open, WAIT).toBe(1);
  expect(await answerTo(scene.connect(), request())).toBe(ACCEPTED);
  expect(await answerTo(scene.connect(), request())).toMatch(/^HTTP\/1\.1 503 /);
});

test("FN-10 one relay has so many visitors whose hellos are not whole, and no more", async () => {
  scene = await openIngressDoor({ limits: { relayPending: 3 } });
  const silent = await Promise.all([request(), request(), request()].map((text) => scene.enter(text)));
  const isFull = async (): Promise<boolean> => (await answerTo(scene.connect(), request())).startsWith("HTTP/1.1 503 ");
  expect(await isFull()).toBe(true);
  const [says, goes, waits] = silent as [ConnDuplex, ConnDuplex, ConnDuplex];
  says.write(makeHello({ name: NAME }));
  goes.destroy();
  await expect.poll(() => scene.door.open, WAIT).toBe(2);
  const others = [await scene.enter(request()), await scene.enter(request())];
  expect(await isFull()).toBe(true);
  // Who is refused for what he asks, and who says nothing for 10 s, has no place any more.
  others[0]!.write(makeHello({ name: SECRET }));
  scene.clock.advance(10_001);
  for (const one of [waits, ...others]) one.resume();
  await expect.poll(() => [waits, ...others].every(({ readableEnded }) => readableEnded), WAIT).toBe(true);
  await Promise.all([request(), request(), request()].map((text) => scene.enter(text)));
  expect(await isFull()).toBe(true);
});
