import path from "node:path";
import { expect, test } from "vitest";
import { Fault } from "../base/fault.ts";
import { mountRules, nodeServeConfig } from "./node-serve-config.ts";
import { serveDifference } from "./serve-difference.ts";
import { parseServices, readServices } from "./services.ts";

const NAME = "gw.tail.test";
const ofNode = (endpoints: unknown) =>
  nodeServeConfig(parseServices(JSON.stringify({ version: "0.0.1", node: { endpoints } }), "s.hujson"), NAME);

test("the example at the root of the repository is the configuration of the demo", async () => {
  const file = path.resolve(import.meta.dirname, "../../services.example.hujson");
  expect(nodeServeConfig(await readServices(file), NAME)).toEqual({
    TCP: { "443": { HTTPS: true } },
    Web: {
      "gw.tail.test:443": {
        Handlers: { "/": { Proxy: "http://127.0.0.1:3000", AcceptAppCaps: ["example.com/cap/app"] } },
      },
    },
  });
});

test("what a mount asks beyond upstream's configuration belongs to that mount", () => {
  const config = parseServices(
    JSON.stringify({
      version: "0.0.1",
      node: {
        endpoints: {
          "tcp:443": {
            target: "http://localhost:3000",
            crossSite: "deny",
            mounts: { "/hooks": { target: "http://localhost:3001", otherNames: ["webhook_id"], bodyBytes: 1024 } },
          },
        },
      },
    }),
    "s.hujson",
  );
  expect(mountRules(config, { port: 443, name: NAME, mount: "/" })).toEqual({ crossSite: "deny" });
  expect(mountRules(config, { port: 443, name: NAME, mount: "/hooks" })).toEqual({
    otherNames: ["webhook_id"],
    bodyBytes: 1024,
  });
  expect(mountRules(config, { port: 80, name: NAME, mount: "/" })).toBeUndefined();
  for (const bad of ['"crossSite": "maybe"', '"otherNames": ["a b"]', '"bodyBytes": -1', '"bodyBytes": 1.5']) {
    const text = `{"version":"0.0.1","node":{"endpoints":{"tcp:443":{"target":"http://localhost:3000",\n${bad}}}}}`;
    expect(() => parseServices(text, "s.hujson"), bad).toThrow(/line 2, column \d+/);
  }
});

test("for whose connections an operator vouches is said with the backend, which a command may put another in place of", () => {
  const read = (member: string) => parseServices(`{"version":"0.0.1","node":{"endpoints":{${member}}}}`, "s.hujson");
  const config = read(`
    "tcp:8000-8001": {"listen":"http","target":"http://localhost:9000-9001","keepAliveAfterBody":true,"mounts":{"/a":"text:hello"}},
    "tcp:80": {"listen":"http","target":"unix:/run/app.sock","crossSite":"deny","keepAliveAfterBody":true}`);
  const at = (port: number, mount = "/") => mountRules(config, { port, name: NAME, mount });
  expect(at(8001)).toEqual({ keepAliveAfterBody: "http://localhost:9001" });
  expect(at(8001, "/a")).toEqual({});
  expect(at(80)).toEqual({ crossSite: "deny", keepAliveAfterBody: "unix:/run/app.sock" });
  const bad = `"tcp:80": {"listen":"http","target":"file:///srv","keepAliveAfterBody":true}`;
  expect(() => read(bad)).toThrow(/keepAliveAfterBody/);
});

const accepted: readonly [name: string, endpoints: unknown, config: unknown][] = [
  [
    "http means plain HTTP on both sides, as upstream has it",
    { "tcp:80": "http://localhost:3000" },
    {
      TCP: { "80": { HTTP: true } },
      Web: { "gw.tail.test:80": { Handlers: { "/": { Proxy: "http://localhost:3000" } } } },
    },
  ],
  [
    "https+insecure",
    { "443": "https+insecure://localhost:8443" },
    {
      TCP: { "443": { HTTPS: true } },
      Web: { "gw.tail.test:443": { Handlers: { "/": { Proxy: "https+insecure://localhost:8443" } } } },
    },
  ],
  [
    "a range maps one to one",
    { "tcp:8000-8001": "tcp://10.0.0.7:9000-9001" },
    { TCP: { "8000": { TCPForward: "10.0.0.7:9000" }, "8001": { TCPForward: "10.0.0.7:9001" } } },
  ],
  [
    "a socket behind TLS",
    { "tcp:5432": "tls-terminated-tcp://unix:/run/pg.sock" },
    { TCP: { "5432": { TCPForward: "unix:/run/pg.sock", TerminateTLS: NAME } } },
  ],
  [
    "PROXY protocol",
    { "tcp:22": { target: "tcp://localhost:22", proxyProtocol: 2 } },
    { TCP: { "22": { TCPForward: "localhost:22", ProxyProtocol: 2 } } },
  ],
  [
    "mounts",
    {
      "tcp:443": { mounts: { "/": "http://localhost:3000/base", "/docs/": "file:///srv/docs/", "/hi": "text:hello" } },
    },
    {
      TCP: { "443": { HTTPS: true } },
      Web: {
        "gw.tail.test:443": {
          Handlers: {
            "/": { Proxy: "http://localhost:3000/base" },
            "/docs/": { Path: "/srv/docs" },
            "/hi": { Text: "hello" },
          },
        },
      },
    },
  ],
];
for (const [name, endpoints, config] of accepted)
  test(`accepts ${name}`, () => expect(ofNode(endpoints)).toEqual(config));

const refused: readonly (readonly [name: string, text: string, line: number, message: RegExp])[] = [
  ["a missing version", '{\n"services": {}}', 1, /version/],
  ["an unknown version", '{"version": "9.9.9"}', 1, /version/],
  ["an unknown member", '{"version": "0.0.1",\n"nope": 1}', 2, /unknown member "nope"/],
  [
    "an unknown member inside",
    '{"version": "0.0.1", "node": {"endpoints": {"tcp:1":\n{"target": "text:x",\n "nope": 1}}}}',
    3,
    /unknown member "nope"/,
  ],
  [
    "funnel where no visitor comes",
    '{"version": "0.0.1", "node": {"endpoints": {"tcp:80":\n{"listen": "http", "target": "text:x",\n "funnel": true}}}}',
    3,
    /plain HTTP listener, wanted https or TCP/,
  ],
  ["UDP", '{"version": "0.0.1", "node": {"endpoints": {\n"udp:53": "tcp://h:53"}}}', 2, /source ports must be TCP/],
  ["port 0", '{"version": "0.0.1", "node": {"endpoints": {\n"tcp:0": "tcp://h:53"}}}', 2, /wanted 1 to 65535/],
  [
    "unequal ranges",
    '{"version": "0.0.1", "node": {"endpoints": {\n"tcp:1-2": "tcp://h:53"}}}',
    2,
    /another number of ports/,
  ],
  [
    "overlap",
    '{"version": "0.0.1", "node": {"endpoints": {"tcp:1-5": "tcp://h:1-5",\n"tcp:5": "tcp://h:5"}}}',
    2,
    /earlier entry/,
  ],
  ["a password", '{"version": "0.0.1", "node": {"endpoints": {"tcp:1": "http://u:p@h:1/"}}}', 1, /user or password/],
  ["TUN with ports", '{"version": "0.0.1", "services": {"svc:x": {"endpoints": {"tcp:1": "TUN"}}}}', 1, /TUN/],
  ["a service name", '{"version": "0.0.1", "services": {"web": {"endpoints": {"*": "TUN"}}}}', 1, /service name/],
  ["no endpoints", '{"version": "0.0.1", "services": {"svc:x": {"endpoints": {}}}}', 1, /no endpoints/],
  [
    "capabilities with text",
    '{"version": "0.0.1", "node": {"endpoints": {"tcp:1": {"target": "text:x", "acceptAppCaps": ["a.b/c"]}}}}',
    1,
    /no headers/,
  ],
  [
    "a bad capability",
    '{"version": "0.0.1", "node": {"endpoints": {"tcp:1": {"target": "http://h:1", "acceptAppCaps": ["ab/c"]}}}}',
    1,
    /capability "ab\/c"/,
  ],
  [
    "a mount that climbs",
    '{"version": "0.0.1", "node": {"endpoints": {"tcp:1": {"mounts": {"/../x": "text:x"}}}}}',
    1,
    /mount point/,
  ],
  ...(
    [
      ["a lease of HTTPS", '"tcp:443": {"target": "text:x", "lease": true}', /found it on an https listener/],
      ["a lease beside funnel", '"tcp:22": {"target": "tcp://h:22", "lease": true, "funnel": true}', /beside funnel/],
      ["a socket that nobody finds", '"tcp:80": "unix:app.sock"', /found "app\.sock", wanted an absolute path/],
      ["TLS that was silently none", '"tcp:443": "https://unix:/app.sock"', /found https over a socket, wanted http/],
      ["a PROXY version", '"tcp:22": {"target": "tcp://h:22", "proxyProtocol": 3}', /expected 1 or 2$/],
      ["a number", '"tcp:22": 3000', /expected string or object, received number$/],
      [
        "another word",
        '"tcp:443": {"target": "text:x", "funnel": "on"}',
        /expected boolean or object, received string$/,
      ],
      [
        "a wrong list inside",
        '"tcp:443": {"target": "text:x", "funnel": {"allow": 1}}',
        /\/ allow: Invalid input: expected array/,
      ],
      ["a lease of another port", '"tcp:22": {"target": "tcp://h:22", "lease": 2222}', /found port 2222, wanted true/],
    ] as const
  ).map(
    ([name, endpoint, why]) => [name, `{"version": "0.0.1", "node": {"endpoints": {\n${endpoint}}}}`, 2, why] as const,
  ),
  ["a broken document", '{"version": \n', 2, /line 2/],
];
for (const [name, text, line, message] of refused) {
  test(`CF-1 refuses ${name}, with its place`, () => {
    let thrown: unknown;
    try {
      parseServices(text, "s.hujson");
    } catch (fault) {
      thrown = fault;
    }
    expect(thrown).toBeInstanceOf(Fault);
    expect((thrown as Fault).message).toMatch(message);
    expect((thrown as Fault).line).toBe(line);
  });
}

test.each<readonly [unknown, readonly number[]]>([
  [true, [7000, 7001]],
  [7001, [7001]],
  [{ allow: ["203.0.113.0/24"] }, [7000, 7001]],
  [false, []],
  [undefined, []],
])("lease: %j makes ports public as they are", (lease, ports) => {
  const config = ofNode({ "tcp:7000-7001": { target: "tcp://127.0.0.1:7000-7001", lease } });
  expect(Object.keys(config.AllowFunnel ?? {})).toEqual(ports.map((port) => `*:${port}`));
});

test("services are checked and wait for an address", () => {
  const text = '{"version": "0.0.1", "services": {"svc:lan": {"endpoints": {"*": "TUN"}, "advertised": false}}}';
  const read = parseServices(text, "s.hujson");
  expect(read.services.get("svc:lan")).toEqual({ endpoints: "tun", advertised: false });
  expect(read.warnings).toHaveLength(1);
});

test("CF-2 a difference names only what changes", () => {
  const before = ofNode({
    "tcp:80": "http://localhost:1",
    "tcp:81": "http://localhost:2",
    "tcp:82": "http://localhost:3",
  });
  const after = ofNode({
    "tcp:80": "http://localhost:1",
    "tcp:81": "http://localhost:9",
    "tcp:83": "http://localhost:3",
  });
  expect(serveDifference(before, after)).toEqual({
    added: ["tcp:83", "gw.tail.test:83/"],
    removed: ["tcp:82", "gw.tail.test:82/"],
    changed: ["gw.tail.test:81/"],
  });
  expect(serveDifference(before, before)).toEqual({ added: [], removed: [], changed: [] });
});

test("CF-1 ten thousand broken files give a Fault with a place or a configuration, nothing else", async () => {
  const whole = `{"version": "0.0.1", "node": {"endpoints": {"tcp:443": {"target": "http://127.0.0.1:3000", "acceptAppCaps": ["a.b/c"],
    "mounts": {"/x": "text:x"}}, "tcp:1-3": "tcp://h:1-3"}}, "services": {"svc:x": {"endpoints": {"*": "TUN"}}}, /* c */}`;
  const pieces = [
    "{",
    "}",
    "[",
    "]",
    ",",
    '"',
    "\\",
    "\u0000",
    "\ud800",
    '"__proto__": {}',
    "1e999",
    "null",
    "//",
    "/*",
    "\ufeff",
    ":",
    "-",
    "::",
  ];
  let seed = 1;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return seed % below;
  };
  let refused = 0;
  for (let count = 0; count < 10_000; count += 1) {
    const at = random(whole.length);
    const text = whole.slice(0, at) + (pieces[random(pieces.length)] ?? "") + whole.slice(at + random(6));
    try {
      nodeServeConfig(parseServices(text, "s.hujson"), NAME);
    } catch (thrown) {
      if (!(thrown instanceof Fault && thrown.line !== undefined && thrown.column !== undefined)) throw thrown;
      refused++;
    }
  }
  expect(refused).toBeGreaterThan(5000);
  expect(refused).toBeLessThan(25_000); // what is broken in a comment, for one
});

test("CF-1 a file with an entry for every port held the gateway up for half a minute", () => {
  const entries = Array.from({ length: 65_535 }, (_, at) => `"tcp:${at + 1}":"text:x"`).join(",");
  const text = (more: string) => `{"version":"0.0.1","node":{"endpoints":{${entries}${more}}}}`;
  const begun = performance.now();
  expect(parseServices(text(""), "s.hujson").node).toHaveLength(65_535);
  expect(() => parseServices(text(',"tcp:7-9":"text:x"'), "s.hujson")).toThrow(/that an earlier entry has \(7-7\)/);
  expect(performance.now() - begun).toBeLessThan(25_000);
});
