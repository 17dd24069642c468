import { afterEach, expect, test } from "vitest";
import { closeScenes, proxyScene, read } from "../../test/suites/proxy-scene.ts";

afterEach(closeScenes);

const GATE = "cafe.tail.test"; // all hex digits: the one name that brackets could make an address of
const OTHERS = [
  "cafe1.tail.test",
  "caf.tail.test",
  "xcafe.tail.test",
  "cafe.tail.tests",
  "b.cafe.tail.test",
  "tail.test",
];
const site = (Text: string) => ({ Handlers: { "/": { Text } } });
const scene = () =>
  proxyScene(
    {
      TCP: { 80: { HTTP: true } },
      Web: Object.fromEntries([GATE, ...OTHERS].map((name) => [`${name}:80`, site(name)])),
    },
    { selfName: () => GATE, selfAddresses: () => ["100.64.0.1", "fd7a:115c:a1e0::1"] },
  );

/** The service that answered; `undefined` when none did. */
async function serviceBy(hosts: readonly string[]): Promise<(string | undefined)[]> {
  const { connect } = scene();
  return Promise.all(
    hosts.map(async (host) => {
      const client = connect(80);
      client.write(`GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
      const { text } = await read(client);
      return text.startsWith("HTTP/1.1 200 ") ? text.slice(text.indexOf("\r\n\r\n") + 4) : undefined;
    }),
  );
}

/** Every name in upper and lower case, letter by letter: 2^8 spellings, of which we take every third. */
const CASES = Array.from({ length: 85 }, (_, i) =>
  [..."cafetail"].map((letter, bit) => (((i * 3) >> bit) & 1 ? letter.toUpperCase() : letter)).join(""),
).map((mixed) => `${mixed.slice(0, 4)}.${mixed.slice(4)}.tEsT`);

const OURS = [
  ...CASES,
  ...["", ":", ":80", ":1", ":443", ":65535", ":00080"].flatMap((port) => [GATE + port, `${GATE}.${port}`]),
  ...["100.64.0.1", "100.64.0.1:80", "[fd7a:115c:a1e0::1]", "[FD7A:115C:A1E0::1]:80", "[fd7a:115c:a1e0:0:0:0:0:1]"],
  // Upstream: a bare name is one of the own tailnet.
  ...["cafe", "CAFE", "cafe:80"],
];

const NOBODYS = [
  ...["cafe.tail.test..", "cafe..tail.test", ".cafe.tail.test", "..", ".", "-", "_", "cafe.tail", "cafe.tail.", "test"],
  ...["cafetail.test", "cafe-tail.test", "cafe_tail.test", "cafe.tail.test.evil.example", "evil.example", "cafe.test"],
  ...["cafe.tail.test:0", "cafe.tail.test:65536", "cafe.tail.test:80:80", "cafe.tail.test:-1", "cafe.tail.test:http"],
  ...["cafe.tail.test:+80", "cafe.tail.test:8 0", "cafe.tail.test :80", ":80", "::", "[]", "[cafe]", "[CAFE]:80"],
  ...["[cafe.tail.test]", "[cafe", "cafe]", "[[cafe]]", "cafe.tail.test]", "[::1]", "[fd7a:115c:a1e0::2]", "[fd7a::1]"],
  ...[
    "fd7a:115c:a1e0::1",
    "100.64.0.2",
    "100.64.0.10",
    "100.64.0",
    "100.64.1",
    "0x64.64.0.1",
    "1681915905",
    "100.064.0.1",
  ],
  ...["[fd7a:115c:a1e0::1%25eth0]", "user@cafe.tail.test", "cafe.tail.test/", "cafe.tail.test?x", "cafe.tail.test#x"],
  ...["cafe.tail.test\\", "cafe.tail.test,", "cafe.tail.test;", "cafe.tail.test, evil.example", "cafe%2etail.test"],
  ...["cafe%00.tail.test", "%63afe.tail.test", "cafe.tail.test%00", "http://cafe.tail.test", "//cafe.tail.test"],
  ...[
    "*",
    "*.tail.test",
    "cafe.*.test",
    "cafe.tail.test\0",
    "cafe.tail.test\t\0",
    "cafe\u00ad.tail.test",
    "c\u00e1fe.tail.test",
  ],
  ...["xn--cafe.tail.test", "\u0441afe.tail.test", "ca\ufb01e.tail.test", "cafe\u3002tail.test", "\u212aafe.tail.test"],
  ...[
    "localhost",
    "127.0.0.1",
    "0.0.0.0",
    "constructor",
    "__proto__",
    "toString",
    "__proto__:80",
    `${"a".repeat(5000)}`,
  ],
  ...[
    "cafe\uff0etail.test",
    "cafe\uff61tail.test",
    "\u202ecafe.tail.test",
    "cafe.tail.test\u200b",
    "caf\u00e9.tail.test",
  ],
  ...[
    "cafe.tail.te\u017ft",
    "CAFE\u0307.tail.test",
    "cafe.t\u0430il.test",
    "cafe.tail.test:80@evil",
    "cafe.tail.test|x",
  ],
  ...['"cafe.tail.test"', "cafe.tail.test'", "cafe.tail.test:0x50", "cafe.tail.test:8o"],
  ...[`${"a.".repeat(2000)}cafe.tail.test`, `cafe.tail.test${".".repeat(300)}`, `cafe.tail.test:${"0".repeat(300)}80`],
];

test("RT-3 a name means one service however it is spelled, and no other name means it", async () => {
  expect(OURS.length + NOBODYS.length).toBeGreaterThanOrEqual(200);
  const wrong = async (hosts: readonly string[], wanted: string | undefined) => {
    const found = await serviceBy(hosts);
    return hosts.flatMap((host, i) => (found[i] === wanted ? [] : [`${host}: ${found[i]}`]));
  };
  expect(await wrong(OURS, GATE)).toEqual([]);
  expect(await wrong(NOBODYS, undefined)).toEqual([]);
});

test("RT-3 names that look alike keep their own services", async () => {
  const spelled = OTHERS.filter((name) => name.endsWith(".tail.test")).flatMap((name) => [
    name,
    `${name.toUpperCase()}.:8080`,
  ]);
  const found = await serviceBy(spelled);
  expect(found).toEqual(spelled.map((name) => name.toLowerCase().replace(/\.:8080$/, "")));
});
