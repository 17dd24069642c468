import { expect, test } from "vitest";
import type { ServeConfig, TcpPortHandler } from "../wire/serve-config.ts";
import { decodeServeConfig, encodeServeConfig, serveConfigEtag } from "./serve-document.ts";
import { endedSessions, isFunnelOn, refusalOfServeChange, withoutSession } from "./serve-rules.ts";

const http: TcpPortHandler = { HTTP: true };
const to = (target: string): TcpPortHandler => ({ TCPForward: target });
const node = (handler: TcpPortHandler): ServeConfig => ({ TCP: { "80": handler } });
const service = (handler: TcpPortHandler): ServeConfig => ({ Services: { "svc:x": { TCP: { "80": handler } } } });
const tun: ServeConfig = { Services: { "svc:x": { Tun: true } } };
const foreground = (name: string): ServeConfig => ({ Foreground: { [name]: node(http) } });

const rows: readonly [
  name: string,
  before: ServeConfig | null,
  after: ServeConfig | null,
  refusal: string | undefined,
][] = [
  ["nothing before", null, node(http), undefined],
  [
    "TUN with listeners",
    null,
    { Services: { "svc:x": { Tun: true, TCP: { "80": http } } } },
    "cannot configure TUN mode in combination with TCP or web handlers for svc:x",
  ],
  [
    "a new stream on a background port",
    node(http),
    { ...node(http), ...foreground("s") },
    "listener already exists for port 80",
  ],
  [
    "a new stream on another stream's port",
    foreground("a"),
    { Foreground: { a: node(http), b: node(http) } },
    "listener already exists for port 80",
  ],
  [
    "background on a stream's port",
    foreground("s"),
    { ...foreground("s"), ...node(http) },
    "foreground listener already exists for port 80",
  ],
  [
    "http becomes https",
    node(http),
    node({ HTTPS: true }),
    'want to serve "https", but port 80 is already serving "http"',
  ],
  ["http becomes tcp", node(http), node(to("a:1")), 'want to serve "tcp", but port 80 is already serving "http"'],
  [
    "tcp becomes TLS",
    node(to("a:1")),
    node({ ...to("a:1"), TerminateTLS: "n" }),
    'want to serve "tls-terminated-tcp", but port 80 is already serving "tcp"',
  ],
  ["another target", node(to("a:1")), node(to("b:1")), undefined],
  [
    "a service's http becomes tcp",
    service(http),
    service(to("a:1")),
    'want to serve "tcp", but port 80 is already serving "http" for svc:x',
  ],
  ["node and service have the same port", node(http), { ...node(http), ...service(to("a:1")) }, undefined],
  ["a service turns to TUN", service(http), tun, "cannot turn on TUN mode with existing TCP or web handlers for svc:x"],
  [
    "a TUN service gets listeners",
    tun,
    service(http),
    "cannot add TCP or web handlers as TUN mode is enabled for svc:x",
  ],
  ["a wipe", node(http), {}, undefined],
  ["null", node(http), null, undefined],
];
for (const [name, before, after, refusal] of rows) {
  test(`case 58: ${name}`, () => expect(refusalOfServeChange(before, after)).toBe(refusal));
}

test("case 66: funnel is on by one target that is, in the background or in a session", () => {
  const on = { AllowFunnel: { "a:443": true } };
  expect([null, {}, on, { AllowFunnel: { "a:443": false } }, { Foreground: { s: on } }].map(isFunnelOn)).toEqual([
    false,
    false,
    true,
    false,
    true,
  ]);
});

test("a session that ends is named, and leaves nothing", () => {
  const both: ServeConfig = { Foreground: { a: node(http), b: node(http) } };
  expect(endedSessions(both, withoutSession(both, "a"))).toEqual(["a"]);
  expect(withoutSession(foreground("a"), "a")).toEqual({});
});

test("the document is written as upstream writes it", () => {
  const text =
    '{"TCP":{"2222":{"TCPForward":"a:1","ProxyProtocol":2},"443":{"HTTPS":true},"80":{"HTTP":true}},"Web":{"n:443":{"Handlers":{"/":{"Text":"\\u003cb\\u003e \\u0026"}}},"n:80":{"Handlers":null}}}';
  expect(encodeServeConfig(decodeServeConfig(text))).toBe(text);
  expect(serveConfigEtag(null)).toBe("74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b");
});

test("CF-1 __proto__ is a name like any other", () => {
  const read = decodeServeConfig('{"Web":{"__proto__":{"Handlers":{}}},"AllowFunnel":{"__proto__":true}}');
  expect(Object.getPrototypeOf(read?.Web ?? {})).toBe(Object.prototype);
  expect(({} as Record<string, unknown>)["Handlers"]).toBeUndefined();
});
