import { expect, test } from "vitest";
import type { ServeConfig } from "../../wire/serve-config.ts";
import { CliExit } from "../io.ts";
import { parseServeArgs, type ServeChange, translateLegacy } from "./serve-args.ts";
import { applyOff, applySet, type KindOfPath, withoutFunnel } from "./serve-change.ts";
import { cleanMount, expandTarget, forwardOf, TCP_SCHEMES, WEB_SCHEMES } from "./serve-target.ts";

const NAME = "foo.test.ts.net";
const forward = (target: string): string => forwardOf(expandTarget(target, TCP_SCHEMES, "tcp"), target);
const kindOf: KindOfPath = (path) => (path === "/missing" ? "absent" : path.startsWith("/dir") ? "directory" : "file");

/** One command line on a configuration; a quoted word may hold blanks. */
function type(config: ServeConfig, line: string): ServeConfig {
  const [command, ...args] = [...line.matchAll(/'([^']*)'|(\S+)/g)].map((match) => match[1] ?? match[2] ?? "");
  const request = parseServeArgs(command as "serve" | "funnel", args);
  if (request.action !== "set" && request.action !== "off")
    throw new CliExit(`${request.action}: ${JSON.stringify(request)}`);
  const change: ServeChange = request;
  const name = change.domain ?? NAME;
  return (change.action === "set" ? applySet(config, change, name, kindOf) : applyOff(config, change, name)).config;
}

const web = (port: number, handlers: object, kind = "HTTPS"): ServeConfig => ({
  TCP: { [port]: { [kind]: true } },
  Web: { [`${NAME}:${port}`]: { Handlers: handlers as Record<string, never> } },
});
const root = (url: string) => ({ "/": { Proxy: url } });
const P3000 = root("http://127.0.0.1:3000");
const on = (...ports: number[]) => ({
  AllowFunnel: Object.fromEntries(ports.map((port) => [`${NAME}:${port}`, true])),
});
const bar = web(8443, { "/bar": { Proxy: "http://127.0.0.1:3001" } });
const both = { TCP: { ...web(443, {}).TCP, ...bar.TCP }, Web: { ...web(443, P3000).Web, ...bar.Web } };

/** The cases of upstream's own tests (`cli/serve_v2_test.go`): command lines, one after the other, and what is stored. */
const stories: readonly [number: string, ...steps: [line: string, config: ServeConfig][]][] = [
  ["1", ["funnel --bg 3000", { ...web(443, P3000), ...on(443) }]],
  ["2", ["serve --bg localhost:3000", web(443, root("http://localhost:3000"))]],
  ["3", ["serve --bg --http=80 localhost:3000", web(80, root("http://localhost:3000"), "HTTP")]],
  ["4", ["serve --bg --https=8443 localhost:3000", web(8443, root("http://localhost:3000"))]],
  [
    "5",
    ["serve --bg --http=80 3000", web(80, P3000, "HTTP")],
    [
      "serve --bg --http=9999 --set-path=/abc http://localhost:3001",
      {
        TCP: { "80": { HTTP: true }, "9999": { HTTP: true } },
        Web: {
          [`${NAME}:80`]: { Handlers: P3000 },
          [`${NAME}:9999`]: { Handlers: { "/abc": { Proxy: "http://localhost:3001" } } },
        },
      },
    ],
    ["serve --bg --http=9999 --set-path=/abc http://localhost:3001 off", web(80, P3000, "HTTP")],
  ],
  ["8", ["serve --https=443 --bg http://192.168.1.1:3000", web(443, root("http://192.168.1.1:3000"))]],
  ["9", ["serve --bg --https=10000 text:hi", web(10000, { "/": { Text: "hi" } })]],
  ["11", ["serve --set-path=bar https://127.0.0.1:8443", web(443, { "/bar": { Proxy: "https://127.0.0.1:8443" } })]],
  ["13", ["serve --bg https+insecure://127.0.0.1:3001", web(443, root("https+insecure://127.0.0.1:3001"))]],
  ["14", ["serve --bg http://127.0.0.1:3000/foo/bar", web(443, root("http://127.0.0.1:3000/foo/bar"))]],
  [
    "15",
    [
      "serve --tls-terminated-tcp=443 --bg 5432",
      { TCP: { "443": { TCPForward: "127.0.0.1:5432", TerminateTLS: NAME } } },
    ],
  ],
  [
    "16",
    [
      "serve --tls-terminated-tcp=443 --bg tcp://localhost:5432",
      { TCP: { "443": { TCPForward: "localhost:5432", TerminateTLS: NAME } } },
    ],
    [
      "serve --tls-terminated-tcp=443 --bg tcp://127.0.0.1:8443",
      { TCP: { "443": { TCPForward: "127.0.0.1:8443", TerminateTLS: NAME } } },
    ],
  ],
  [
    "18",
    ["serve --tcp=3128 --bg unix:/var/run/app.sock", { TCP: { "3128": { TCPForward: "unix:/var/run/app.sock" } } }],
    ["serve --tcp=3128 off", {}],
  ],
  [
    "21",
    ["serve --tcp=8443 --bg 22", { TCP: { "8443": { TCPForward: "127.0.0.1:22" } } }],
    ["serve --tls-terminated-tcp=8443 off", {}],
  ],
  [
    "22",
    ["serve --bg /a.txt", web(443, { "/": { Path: "/a.txt" } })],
    [
      "serve --bg --set-path=/some/where /b.txt",
      web(443, { "/": { Path: "/a.txt" }, "/some/where": { Path: "/b.txt" } }),
    ],
  ],
  [
    "24",
    ["serve --bg --set-path=/dir /dir/x/", web(443, { "/dir/": { Path: "/dir/x" } })],
    ["serve --bg --set-path=/dir /a.txt", web(443, { "/dir": { Path: "/a.txt" } })],
    ["serve --bg --set-path=/dir /dir/x", web(443, { "/dir/": { Path: "/dir/x" } })],
  ],
  [
    "25, 26",
    ["serve --bg 3000", web(443, P3000)],
    ["funnel --bg 3000", { ...web(443, P3000), ...on(443) }],
    ["serve --bg --https=8443 --set-path=/bar 3001", { ...both, ...on(443) }],
    ["funnel --bg --https=8443 --set-path=/bar 3001", { ...both, ...on(443, 8443) }],
    ["serve --bg 3000", { ...both, ...on(8443) }],
    ["serve --bg --https=8443 --set-path=/bar off", web(443, P3000)],
  ],
  [
    "29",
    ["serve --bg --https=4545 3000", web(4545, P3000)],
    [
      "serve --bg --https=4545 --set-path=/foo 3001",
      web(4545, { ...P3000, "/foo": { Proxy: "http://127.0.0.1:3001" } }),
    ],
    ["serve --https=4545 --bg --yes localhost:3000 off", {}],
  ],
  [
    "33",
    [
      "serve --bg --accept-app-caps=example.com/cap/foo,example.com/cap/bar 3000",
      web(443, {
        "/": { Proxy: "http://127.0.0.1:3000", AcceptAppCaps: ["example.com/cap/foo", "example.com/cap/bar"] },
      }),
    ],
    [
      "serve --bg --accept-app-caps=example.com/cap/bar 3000",
      web(443, { "/": { Proxy: "http://127.0.0.1:3000", AcceptAppCaps: ["example.com/cap/bar"] } }),
    ],
  ],
  [
    "35",
    [
      "serve --bg --tcp=8000 --proxy-protocol=1 tcp://localhost:5432",
      { TCP: { "8000": { TCPForward: "localhost:5432", ProxyProtocol: 1 } } },
    ],
  ],
  [
    "36",
    ["serve --bg --tcp=8000 tcp://localhost:5432", { TCP: { "8000": { TCPForward: "localhost:5432" } } }],
    [
      "serve --bg --tcp=8000 --proxy-protocol=2 tcp://localhost:5432",
      { TCP: { "8000": { TCPForward: "localhost:5432", ProxyProtocol: 2 } } },
    ],
  ],
];
for (const [number, ...steps] of stories) {
  test(`case ${number}: ${steps[0]?.[0]}`, () => {
    let config: ServeConfig = {};
    for (const [line, wanted] of steps) {
      config = type(config, line);
      expect(config, line).toEqual(wanted);
    }
  });
}

const refused: readonly [number: string, before: ServeConfig, line: string, text: RegExp][] = [
  ["6", {}, "serve --https=443 --bg http://localhost:0", /invalid port "0"/],
  ["6", {}, "serve --https=443 --bg http://localhost:65536", /invalid port "65536"/],
  ["6", {}, "serve --https=65536 --bg 3000", /port number 65536 is too high/],
  ["7", {}, "serve --bg httpz://127.0.0.1", /supported schemes: \[http https https\+insecure unix\]/],
  ["7", {}, "serve --bg 192.168.1.1:3000", /must include a scheme/],
  ["10", {}, "serve --https=443 --set-path=/foo off", /handler does not exist/],
  ["17", {}, "serve --tls-terminated-tcp=443 --bg tcp://somehost:0", /invalid port "0"/],
  ["19", {}, "serve --tcp=3128 --proxy-protocol=1 --bg unix:/x", /not supported with unix socket/],
  ["20", { TCP: { "443": { TCPForward: "a:1" } } }, "serve --tls-terminated-tcp=8443 off", /does not exist/],
  ["23", {}, "serve --bg bad/path", /must include a scheme/],
  [
    "27",
    { TCP: { "443": { TCPForward: "a:1", TerminateTLS: NAME } } },
    "serve --https=443 --bg localhost:3000",
    /already serving TCP/,
  ],
  ["28", web(443, P3000), "serve --tls-terminated-tcp=443 --bg 5432", /already serving web on 443 for foo/],
  ["30", {}, "funnel --http=80 3000", /not defined: -http/],
  ["34", {}, "serve --accept-app-caps=example.com/cap/fine,NOTFINE 3000", /NOTFINE/],
  ["35", {}, "serve --tcp=8000 --proxy-protocol=3 5432", /invalid PROXY protocol version 3/],
  ["35", {}, "serve --https=443 --proxy-protocol=1 5432", /only supported for TCP/],
  ["as upstream", {}, "funnel --tcp=443 --set-path=/ --bg 22", /cannot mount a path/],
  ["37", {}, "serve --http=80 --https=443 3000", /multiple types/],
  ["42", web(443, P3000), "serve --tcp=443 off", /serving web, not TCP/],
  ["flags after the target", {}, "serve 3000 --bg", /invalid argument format/],
  ["a flag twice", {}, "serve --bg --bg 3000", /multiple times/],
  ["three words", {}, "serve a b c", /invalid number of arguments \(3\)/],
  ["http mount by --https", web(80, P3000, "HTTP"), "serve --https=80 off", /handler does not exist/],
  ["capabilities of a text", {}, "serve --bg --accept-app-caps=a.b/c text:x", /needs a web backend/],
];
for (const [number, before, line, text] of refused) {
  test(`case ${number}: ${line} is refused`, () => expect(() => type(before, line)).toThrow(text));
}

const caps: readonly [value: string, isFine: boolean][] = [
  ["example.com/name", true],
  ["sub.domain.com/name", true],
  ["domain.com/path/to/name", true],
  ["bücher.de/something", true],
  ["example.tw/某某某", true],
  ["one.com/foo,two.com/bar", true],
  ["domain.com/path_with_underscore", false],
  ["domain.com/", false],
  ["/path/only", false],
  ["bad/bar", false],
  ["NOTFINE", false],
  ["example.com", false],
  ["https://example.com/cap/app", false],
  ["example.com/cap/app,,", false],
];
const SHOP = "shop.example.org:10000";
const sold: ServeConfig = {
  TCP: { "10000": { TCPForward: "127.0.0.1:22" } },
  AllowFunnel: { [SHOP]: true, [`${NAME}:10000`]: false },
};
test("`serve --tcp` on a port that a domain made public said that it is the tailnet's, and it was not", () => {
  expect(type(sold, "serve --bg --tcp=10000 5432")).toEqual({
    TCP: { "10000": { TCPForward: "127.0.0.1:5432" } },
    AllowFunnel: {},
  });
  for (const line of ["serve --tcp=10000 off", "funnel --tcp=10000 --domain=shop.example.org off"])
    expect(type(sold, line), line).toEqual({});
  const both = { ...sold, AllowFunnel: { ...sold.AllowFunnel, [`${NAME}:10000`]: true } };
  expect(type(both, "funnel --tcp=10000 --domain=shop.example.org off")).toEqual({
    TCP: sold.TCP,
    AllowFunnel: { [`${NAME}:10000`]: true },
  });
});

test("--domain takes a name as it is written, and none with a port or a scheme", () => {
  const domainOf = (text: string): unknown => {
    const request = parseServeArgs("funnel", ["--domain", text, "3000"]);
    return request.action === "set" ? request.domain : undefined;
  };
  expect(
    ["Shop.Example.ORG.", "*.shop.example.org", "bücher.example.org", "*.Bücher.example.org", "ｓhop.example.org"].map(
      domainOf,
    ),
  ).toEqual([
    ...["shop.example.org", "*.shop.example.org", "xn--bcher-kva.example.org", "*.xn--bcher-kva.example.org"],
    "shop.example.org",
  ]);
  const bad = [
    "shop",
    "shop.example.org:8443",
    "https://shop.example.org",
    "10.0.0.1",
    "*.*.org",
    "a b.org",
    "",
    "ü%2e.org",
  ];
  expect(bad.map(domainOf)).toEqual(bad.map(() => undefined));
});

test("`funnel reset` left public what another terminal had made so in the foreground", () => {
  const Foreground = { one: { ...web(8443, P3000), ...on(8443) }, two: web(8080, P3000, "HTTP") };
  const { two } = Foreground;
  expect(withoutFunnel({ ...both, ...on(443), Foreground })).toEqual({ ...both, Foreground: { two } });
  expect(withoutFunnel({ ...both, ...on(443) })).toEqual(both);
});

test("--accept-app-caps takes {domain}/{name}", () => {
  for (const [value, isFine] of caps) {
    expect(parseServeArgs("serve", [`--accept-app-caps=${value}`, "3000"]).action, value).toBe(
      isFine ? "set" : "usage",
    );
  }
});

const targets: readonly [target: string, stored: string | RegExp][] = [
  ["3000", "http://127.0.0.1:3000"],
  ["0", /invalid port "0"/],
  ["unix:./x.sock", "unix:./x.sock"],
  ["unix:", /cannot be empty/],
  ["localhost:080", "http://localhost:80"],
  ["localhost:3000/foo?x=1", "http://localhost:3000/foo?x=1"],
  ["HTTP://LocalHost:3000", "http://LocalHost:3000"],
  ["https://example.com", "https://example.com"],
  ["http://[::1]:3000", "http://[::1]:3000"],
  ["::1", /invalid URL parse|port required|hostname/],
  ["127.0.0.1", /port required for localhost target "http:\/\/127.0.0.1"/],
  ["65536", /non-localhost target "http:\/\/65536" must include a scheme/],
  ["localhost:9999999", /invalid port "9999999"/],
  ["ftp://x", /supported schemes/],
  ["http://:3000", /invalid hostname or IP address ""/],
  ["localhost:abc", /invalid URL parse "http:\/\/localhost:abc": invalid port ":abc" after host/],
  ["http://user:pw@localhost:3000", /password/],
  ["", /empty target/],
];
test("a web target is stored as upstream stores it, or refused", () => {
  for (const [target, stored] of targets) {
    if (typeof stored === "string") expect(expandTarget(target, WEB_SCHEMES, "http"), target).toBe(stored);
    else expect(() => expandTarget(target, WEB_SCHEMES, "http"), target).toThrow(stored);
  }
});

test("a TCP target is a host and port, or a socket of this machine", () => {
  expect(
    ["5432", "localhost:5432", "tcp://db.internal:5432", "unix:/run/x", "tcp://localhost:1/p?q"].map(forward),
  ).toEqual(["127.0.0.1:5432", "localhost:5432", "db.internal:5432", "unix:/run/x", "localhost:1"]);
  for (const bad of ["tcp://db.internal", "http://x:1", "10.0.0.5:22", "text:hi", "/etc/hostname"]) {
    expect(() => forward(bad), bad).toThrow(CliExit);
  }
});

test("a mount point has one slash before it, and keeps all others", () => {
  expect(["", "/", "bar", "/bar", "/foo/", "//", "/a b", "/ü"].map(cleanMount)).toEqual([
    "/",
    "/",
    "/bar",
    "/bar",
    "/foo/",
    "//",
    "/a b",
    "/ü",
  ]);
  for (const bad of ["////foo", "/foo//", "/../bar", "https://x"])
    expect(() => cleanMount(bad), bad).toThrow(/invalid mount point/);
});

const legacy: readonly [words: string, translation: string | undefined][] = [
  ["https / localhost:3000", "tailscale serve --bg localhost:3000"],
  ["https / off", "tailscale serve --bg off"],
  ["https:4545 /foo off", "tailscale serve --bg --https 4545 --set-path /foo off"],
  ["https:8443 / localhost:3000", "tailscale serve --bg --https 8443 localhost:3000"],
  ["http / localhost:3000", "tailscale serve --bg --http 80 localhost:3000"],
  [
    "https:10000 /motd.txt text:Hello,_world!",
    'tailscale serve --bg --https 10000 --set-path /motd.txt "text:Hello, world!"',
  ],
  ["tcp:2222 tcp://localhost:22", "tailscale serve --bg --tcp 2222 tcp://localhost:22"],
  ["tls-terminated-tcp:443 tcp://localhost:80", "tailscale serve --bg --tls-terminated-tcp 443 tcp://localhost:80"],
  ["tls-terminated-tcp://localhost:22 off", "tailscale serve --bg --tls-terminated-tcp //localhost:22 off"],
  ["443 on", undefined],
  ["65536 off", undefined],
  ["3000", undefined],
  ["localhost:3000", undefined],
  ["/ proxy 3000", undefined],
  ["text / hi", undefined],
];
test.each([
  ["443 on", ""],
  ["65535 off", ""],
  ["65536 off", undefined],
  ["https / off", undefined],
])("funnel %s", (words, translation) => {
  expect(translateLegacy("funnel", words.split(" "))).toBe(translation);
});
for (const [words, translation] of legacy) {
  test(`case 44: ${words}`, () => {
    expect(
      translateLegacy(
        "serve",
        words.split(" ").map((word) => word.replace("_", " ")),
      ),
    ).toBe(translation);
  });
}
