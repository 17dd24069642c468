import { expect, test } from "vitest";
import { seededRandom } from "../base/random.ts";
import { funnelPortsKey, isFunnelPort, PUBLIC_NAMES, publicNameClaims } from "./funnel.ts";
import { IngressAnswerReader, PeerApiHeadReader, readPeerApiHead } from "./ingress.ts";

const answerTo = (text: string, segment: number) => {
  const reader = new IngressAnswerReader();
  const bytes = Buffer.from(text, "latin1");
  for (let at = 0; at < bytes.length; at += segment) {
    const answer = reader.push(bytes.subarray(at, at + segment));
    if (answer !== undefined)
      return { ...answer, rest: Buffer.concat([answer.rest, bytes.subarray(at + segment)]).toString() };
  }
  return undefined;
};

test.each<readonly [string, number | undefined, string]>([
  ["HTTP/1.1 101 Switching Protocols\r\n\r\n", 101, ""],
  ["HTTP/1.1 101 Switching Protocols\r\n\r\nbytes\r\n\r\n", 101, "bytes\r\n\r\n"],
  ["HTTP/1.1 101 \r\nUpgrade: x\r\n\r\n", 101, ""],
  ["HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\n\r\ndenied\n", 403, "denied\n"],
  ["HTTP/1.1 101 Switching Protocols\r\n", undefined, ""],
  ["HTTP/2 101\r\n\r\n", 0, ""],
  ["HTTP/1.1 1011 x\r\n\r\n", 0, ""],
  ["garbage\r\n\r\n", 0, ""],
])("a node's answer however it is cut: %j", (text, status, rest) => {
  for (let segment = 1; segment <= text.length; segment++) {
    const answer = answerTo(text, segment);
    expect(answer?.status).toBe(status);
    if (status !== undefined && status > 0) expect(answer?.rest).toBe(rest);
  }
});

test("an answer without an end is given up", () => {
  expect(answerTo("x".repeat(100_000), 1000)).toMatchObject({ status: 0 });
});

test.each([
  ["443,8443,10000", 8443, true],
  ["443,8080-8090,8443,", 8083, true],
  ["443,8080-8090,8443,", 8321, false],
  ["443-", 443, false],
  ["1-65535-", 443, false],
  ["", 443, false],
])("FN-6 funnel-ports %j, port %i: %s", (list, port, isAllowed) => {
  expect(isFunnelPort({ funnel: null, [`https://tailscale.com/cap/funnel-ports?ports=${list}`]: null }, port)).toBe(
    isAllowed,
  );
});

test("no key of the form, or another parameter: no port at all", () => {
  expect(isFunnelPort({}, 443)).toBe(false);
  expect(isFunnelPort({ "https://tailscale.com/cap/funnel-ports?port=443": null }, 443)).toBe(false);
  expect(isFunnelPort({ [funnelPortsKey([443, 8443])]: null }, 8443)).toBe(true);
});

test("claims of names lose what is not of their form", () => {
  const values = [
    { name: "box.tail.test", ports: [443, 0, 70_000, "8443", 8443] },
    { name: 5, ports: [443] },
    { name: "x", ports: "443" },
    ...[null, 7, "box.tail.test"],
  ];
  expect(publicNameClaims({ [PUBLIC_NAMES]: values })).toEqual([{ name: "box.tail.test", ports: [443, 8443] }]);
  expect(publicNameClaims(undefined)).toEqual([]);
  expect(publicNameClaims({ [PUBLIC_NAMES]: null })).toEqual([]);
});

const HEAD = [
  "POST /v0/ingress HTTP/1.1",
  "Host: 100.64.0.5:39291",
  "Tailscale-Ingress-Src: 203.0.113.9:51514",
  "Tailscale-Ingress-Target: Box.tail.test:443",
].join("\r\n");

test("a head is read to the letter, doubled fields are both there", () => {
  const more = "host:\tpeer \r\nX-Host: Host: tailscale-ingress-src:no\r\nsallyport-ingress-early:?1";
  expect(readPeerApiHead(`${HEAD}\r\n${more}\r\n`)).toEqual({
    method: "POST",
    path: "/v0/ingress",
    hosts: ["100.64.0.5:39291", "peer"],
    hostAddress: undefined,
    isOfPage: false,
    hasBody: false,
    sources: ["203.0.113.9:51514"],
    targets: ["Box.tail.test:443"],
    early: "?1",
  });
  for (const bad of [
    "",
    "POST /x",
    HEAD.replace("1.1", "1.0"),
    `${HEAD}\r\n x: y`,
    `${HEAD}\r\nx y: z`,
    `${HEAD}\r\nx: \u0000`,
  ]) {
    expect(readPeerApiHead(bad)).toBeUndefined();
  }
  expect(readPeerApiHead(`${HEAD}${"\r\na: b".repeat(200)}`)).toBeUndefined();
});

test.each([
  ["Referer: http://x/", { isOfPage: true }],
  ["ORIGIN:", { isOfPage: true }],
  ["Content-Length: 0", { hasBody: false }],
  ["Content-Length: 0\r\nContent-Length: 1", { hasBody: true }],
  ["transfer-encoding: chunked", { hasBody: true }],
  ["Sallyport-Ingress-Early: ?0", { early: "?0" }],
  ["Sallyport-Ingress-Early: ?2", { early: undefined }],
  ["Sallyport-Ingress-Early: ?1\r\nSallyport-Ingress-Early: ?1", { early: undefined }],
])("of a head with %j", (fields, said) => {
  expect(readPeerApiHead(`${HEAD}\r\n${fields}`)).toMatchObject(said);
});

const SOURCES = ["203.0.113.9:51514", "[2001:db8::9]:1", "", " 203.0.113.9:1 ", "x", "1:2\r\nHost: peer", ":", "1, 2"];
const FRAMES = [
  (source: string) => HEAD.replace("203.0.113.9:51514", source),
  (source: string) => `${HEAD.replace("203.0.113.9:51514", source)}\r\nContent-Length: 0`,
  (source: string) => `${HEAD}\r\nTailscale-Ingress-Src: ${source}`,
  (source: string) => `${HEAD.replace("Box", "other")}\r\nTailscale-Ingress-Src: ${source}`,
  (source: string) => HEAD.replace("203.0.113.9:51514", source).replace("-Src: ", "-Src:"),
  (source: string) => HEAD.replace("203.0.113.9:51514", source).slice(0, -20),
  (source: string) => `POST / HTTP/1.1\r\nTailscale-Ingress-Src: ${source}\r\n`,
];

test("whatever head was read before, the next one is read as it stands", () => {
  const heads = FRAMES.flatMap((frame) => SOURCES.map(frame));
  for (const before of heads) {
    for (const text of heads) {
      const reader = new PeerApiHeadReader();
      reader.read(before);
      expect(reader.read(text)).toEqual(readPeerApiHead(text));
      expect(reader.read(text)).toEqual(readPeerApiHead(text));
    }
  }
});

test("20,000 mutated heads and answers: something or nothing, never a throw, and no field with a line's end in it", () => {
  const random = seededRandom(11);
  const answer = "HTTP/1.1 101 Switching Protocols\r\nA: b\r\n\r\nrest";
  let read = 0;
  for (let round = 0; round < 20_000; round++) {
    const [count = 0, ...noise] = random(1 + 3 * 6);
    const mutated = [HEAD, answer].map((text) => {
      const bytes = Buffer.from(text, "latin1");
      for (let i = 0; i <= count % 6; i++)
        bytes[(noise[3 * i]! * 256 + noise[3 * i + 1]!) % bytes.length] = noise[3 * i + 2]!;
      return bytes;
    });
    const head = readPeerApiHead(mutated[0]!.toString("latin1"));
    if (head !== undefined) {
      read++;
      for (const value of [...head.hosts, ...head.sources, ...head.targets]) expect(value).not.toMatch(/[\r\n\0]/);
    }
    new IngressAnswerReader().push(mutated[1]!);
  }
  expect(read).toBeGreaterThan(100);
});
