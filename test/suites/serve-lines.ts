// Command lines of `serve` and `funnel`, each story on a node that serves nothing yet. `^`: in the foreground until Ctrl+C.
// What upstream's programs say to them is in test/recordings/serve-lines-*.json.gz.

/** One command line each. */
const SINGLE: readonly string[] = [
  // The words themselves.
  ...["serve", "funnel", "serve --help", "funnel -h", "serve nope", "funnel nope", "Serve --bg 3000", "nope"],
  ...[
    "serve status",
    "funnel status",
    "serve status --json",
    "funnel status --json",
    "serve STATUS",
    "serve status extra",
  ],
  ...["serve status --nope", "serve status --json=false"],
  ...["serve reset", "funnel reset", "serve Reset", "serve reset extra", "funnel reset extra"],
  // Number and order of words.
  ...["serve 3000", "serve 3000 --bg", "serve --bg 3000 extra", "serve --bg a b c", "serve --bg 3000 off", "serve off"],
  ...[
    "serve --bg off",
    "funnel off",
    "funnel --bg 3000 off",
    "serve --bg -- 3000",
    "serve -- --bg 3000",
    "serve - 3000",
  ],
  ...["serve --bg -", "serve --socket=x 3000"],
  // Flags and their values.
  ...["serve --nope 3000", "serve --=x 3000", "serve ---bg 3000", "funnel --http=80 3000", "serve --bg --bg 3000"],
  ...["serve --bg=maybe 3000", "serve --bg=false off", "serve --bg=T 3000", "serve --bg=1 3000", "serve -bg=0 off"],
  ...[
    "serve --bg --bg=true 3000",
    "serve --https=1 --https=2 --bg 3000",
    "serve -bg -http 80 3000",
    "serve --bg --http 80 3000",
  ],
  ...["serve --https", "serve --https=abc 3000", "serve --https=-1 --bg 3000", "serve --https=0 --bg 3000"],
  ...["serve --https=0x1bb --bg 3000", "serve --https=99999999999999999999 --bg 3000", "serve --https=70000 --bg 3000"],
  ...["serve --http=70000 --bg 3000", "serve --tcp=70000 --bg 3000", "serve --https=8443 --http=8080 --bg 3000"],
  ...[
    "serve --tcp=8443 --tls-terminated-tcp=8444 --bg 3000",
    "serve --bg --yes 3000",
    "serve --yes off",
    "serve --yes=false off",
  ],
  // Funnel.
  ...[
    "funnel --bg 3000",
    "funnel --bg --https=8443 3000",
    "funnel --bg --https=10000 3000",
    "funnel --bg --https=9999 3000",
  ],
  ...["funnel --bg --tcp=10000 3000", "funnel --bg --tls-terminated-tcp=8443 5432", "funnel --bg --set-path=/x 3000"],
  ...["funnel --bg --tls-terminated-tcp=8443 --proxy-protocol=2 5432", "funnel --bg --accept-app-caps=a.b/c 3000"],
  ...[
    "funnel --bg --service=svc:x 3000",
    "funnel --tun",
    "funnel advertise svc:x",
    "funnel drain svc:x",
    "funnel clear svc:x",
  ],
  // PROXY protocol.
  ...[1, 2, 3, 0, "x"].map((version) => `serve --bg --tcp=2222 --proxy-protocol=${version} 22`),
  ...["serve --bg --proxy-protocol=1 3000", "serve --bg --tls-terminated-tcp=2222 --proxy-protocol=1 unix:/x"],
  ...["serve --bg --https=443 --proxy-protocol=2 3000 off", "serve --tcp=2222 --proxy-protocol=9 off"],
  // The grammar before 2023.
  ...[
    "serve https / localhost:3000",
    "serve https / off",
    "serve https:4545 /foo off",
    "serve https:8443 / localhost:3000",
  ],
  ...[
    "serve http / localhost:3000",
    "serve https:10000 /motd.txt 'text:Hello, world!'",
    "serve tcp:2222 tcp://localhost:22",
  ],
  ...[
    "serve tls-terminated-tcp:443 tcp://localhost:80",
    "serve tls-terminated-tcp tcp://localhost:80",
    "serve tcp:22 off",
  ],
  ...["serve tls-terminated-tcp 80 off", "serve https", "serve http", "serve tcp", "serve http:80", "serve https off"],
  ...["serve http off", "serve tcp off", "serve / proxy 3000", "serve text / hi", "serve https /foo /bar"],
  ...[
    "serve --bg https / localhost:3000",
    "serve --bg tcp:22 off",
    "serve http:8080 / 3000",
    "serve http:8080 foo 3000",
  ],
  ...[
    "serve http:8080 //x 3000",
    "serve https:443 / off",
    "serve https:80 / 3000",
    "serve http:443 / 3000",
    "serve tcp:443 off",
  ],
  ...[
    "serve https / localhost:3000 off",
    "serve tcp: tcp://localhost:22",
    "serve http: / 3000",
    "serve https:abc / 3000",
  ],
  ...["serve tls-terminated-tcp:443 off", "funnel 443 on", "funnel 443 off", "funnel 8443 on", "funnel 65536 on"],
  ...["funnel --bg 443 on", "funnel 443 status", "funnel https / 3000"],
  // Services.
  ...["advertise", "drain", "clear"].flatMap((verb) =>
    ["", " web", " svc:web", " svc:a svc:b", " --help", " --nope svc:x"].map((more) => `serve ${verb}${more}`),
  ),
  ...["svc:-x", "svc:x-", "svc:", "SVC:web", "svc:Web", "svc:a.b", "svc:a_b", "svc:ü", `svc:${"a".repeat(64)}`].flatMap(
    (name) => [`serve advertise ${name}`, `serve --service=${name} --bg 3000`],
  ),
  ...["serve --service= --bg 3000", "serve --service=svc:web --bg=false 3000", "serve --service=svc:web off"],
  ...["serve --service=svc:web --tcp=22 off", "serve --service=svc:web --tun", "serve --service=svc:web --tun off"],
  ...["serve --tun", "serve --tun=false", "serve --tun off", "serve --tun a b", "serve --tun --tcp=3 4"],
  ...["serve get-config", "serve get-config --all", "serve set-config", "serve set-config --all /nope"],
  // Mounts.
  ...[
    "bar",
    "/foo/",
    "//",
    "////foo",
    "/foo//",
    "/../bar",
    "https://x",
    "",
    "/",
    "/a b",
    "/ü",
    ".",
    "..",
    "/a/./b",
    "a/b/",
  ].map((mount) => `serve --bg '--set-path=${mount}' 3000`),
  ...["/a?b", "/a%2Fb"].map((mount) => `serve --bg --set-path=${mount} 3000`),
  ...["/x", "/", ""].map((mount) => `serve --bg --tcp=22 --set-path=${mount} 22`),
  ...["serve --set-path=/.. off", "serve --tcp=22 --set-path=/x off"],
  // Capabilities.
  ...[
    "example.com/cap",
    "a.com/x,b.com/y",
    "a.com/x, b.com/y",
    "",
    "NOTFINE",
    "a.com/x,,b.com/y",
    "bücher.de/x",
    "a.com/x_y",
  ].map((names) => `serve --bg '--accept-app-caps=${names}' 3000`),
  ...["text:hi", "--tcp=22 22", "/etc/hostname"].map((target) => `serve --bg --accept-app-caps=a.com/x ${target}`),
  ...["serve --bg --accept-app-caps=a.com/x --accept-app-caps=b.com/y 3000", "serve --accept-app-caps=a.com/x off"],
];

const TARGETS: readonly string[] = [
  ...["text:hello", "text:", "'text: '", "text:ü", `text:${"a".repeat(30)}`, "'text:a\nb'"],
  ...["/etc/hostname", "/etc", "/etc/", "/etc/../etc/hostname", "/nope", "//etc", "bad/path", "./dir", "file:///etc"],
  ...["3000", "03000", "0", "65535", "65536", "-1", "+3000", "3000/x", "''", "' '", "off"],
  ...["unix:/run/x.sock", "unix:x.sock", "unix:", "unix:///run/x.sock", "UNIX:/x"],
  ...[
    "localhost:3000",
    "localhost:3000/foo",
    "LOCALHOST:3000",
    "localhost:03000",
    "localhost:",
    "localhost",
    "localhost:abc",
  ],
  ...[
    "127.0.0.1:3000",
    "127.0.0.1",
    "127.0.0.2:3000",
    "http://127.1:3000",
    "http://0.0.0.0:3000",
    "http://localhost.:3000",
  ],
  ...["::1", "[::1]:3000", "http://[::1]:3000", "http://[::1]", "http://[::1", "http://[2001:db8::1]:80"],
  ...[
    "https://localhost:8443",
    "HTTPS://LocalHost:8443",
    "https+insecure://localhost:8443",
    "https+insecure://10.0.0.5",
  ],
  ...["https+bogus://localhost:1", "https://example.com", "http://example.com/", "http://example.com:80/a?b=c"],
  ...[
    "http://example.com/a#b",
    "http://192.168.1.1:3000",
    "example.com:80",
    "192.168.1.1:3000",
    "192.168.1:8080",
    "abc",
    "on",
  ],
  ...[
    "http://localhost:0",
    "http://localhost:65536",
    "localhost:9999999",
    "http://localhost:+80",
    "http://localhost:80:80",
  ],
  ...[
    "httpz://x",
    "ftp://localhost:1",
    "udp://localhost:1",
    "tcp://localhost:22",
    "tcp://localhost",
    "tcp://db.internal:5432",
  ],
  ...["tcp://db.internal", "tcp://localhost:22/x?y", "tcp://u:p@localhost:22", "tcp://[::1]:22", "tcp://somehost:0"],
  ...["tcp://somehost:65536", "tls-terminated-tcp://localhost:1", "10.0.0.5:22"],
  ...[
    "http://",
    "http://:3000",
    "://x",
    "http:/x",
    "http:localhost:3000",
    "//localhost:3000",
    "http://@localhost:3000",
  ],
  ...[
    "http://user@localhost:3000",
    "http://user:pw@localhost:3000",
    "'http://a b:3000'",
    "http://a_b:3000",
    "http://-a:3000",
  ],
  ...["http://a..b:3000", "http://ex%61mple.com:3000", "http://bücher.de:80", "http://localhost:3000?x=1"],
  ...["http://localhost:3000/%zz", "'http://localhost:3000/a b'", "localhost:3000/ü", "http://localhost:3000/..//x"],
  ...["http://localhost:3000/\\"],
];

const SAME_PORT = "serve --bg --tcp=2222";
const STORIES: readonly (readonly string[])[] = [
  ...TARGETS.flatMap((target) =>
    ["serve --bg", SAME_PORT, "serve --bg --tls-terminated-tcp=2222"].map((flags) => [
      `${flags} ${target}`,
      "serve status",
    ]),
  ),
  ...["3000", "/etc", "text:x", "unix:/a", "tcp://localhost:1", "http://example.com"].flatMap((target) =>
    [
      ...[
        "serve --bg --http=80",
        "serve --bg --http=8080 --set-path=/p",
        "funnel --bg",
        "serve --service=svc:web --bg",
      ],
      ...["serve --service=svc:web --tcp=99", "serve --service=svc:web --http=80 --set-path=/q"],
    ].map((flags) => [`${flags} ${target}`, "serve status", "funnel status"]),
  ),
  [
    ...[
      "serve --bg 3000",
      "serve --bg --set-path=/a 3001",
      "serve --bg --set-path=/a/ 3002",
      "serve --bg --set-path=/bb /etc",
    ],
    ...["serve status", "serve --set-path=/a off", "serve --set-path=/a/ off", "serve --set-path=/bb off"],
    ...["serve --set-path=/bb/ off", "serve status", "serve off", "serve off", "serve status"],
  ],
  [
    ...["serve --bg 3000", "serve --bg --tcp=443 22", "serve --bg --tls-terminated-tcp=443 22", "serve --tcp=443 off"],
    ...["serve --http=443 --bg 3000", "serve status", "serve --https=443 off", "serve --http=443 off"],
  ],
  [
    ...["serve --bg --tcp=2222 22", "serve --bg --https=2222 3000", "serve --https=2222 off"],
    ...[
      "serve --bg --tls-terminated-tcp=2222 23",
      "serve status",
      "serve --bg --tcp=2222 --proxy-protocol=1 24",
      "serve status",
    ],
    ...["serve --tls-terminated-tcp=2222 off", "serve --tls-terminated-tcp=2222 off"],
  ],
  [
    ...["serve --bg 3000", "funnel --bg 3000", "serve status", "funnel status", "serve --bg 3000", "funnel status"],
    ...["funnel --bg 3000", "funnel off", "funnel status", "serve status --json"],
  ],
  ["funnel --bg 3000", "serve off", "serve status --json", "serve --bg 3000", "serve status"],
  ["funnel --bg --tcp=8443 22", "funnel status", "serve --tcp=8443 off", "serve status --json"],
  [
    "funnel --bg --tls-terminated-tcp=10000 22",
    "serve status",
    "funnel --tls-terminated-tcp=10000 off",
    "serve status",
  ],
  [
    ...[
      "funnel --bg 3000",
      "funnel --bg --https=8443 --set-path=/bar 3001",
      "serve --bg --https=8443 --set-path=/longer 3002",
    ],
    ...["serve status", "funnel status", "serve --yes --https=8443 off", "serve status"],
  ],
  [
    ...[
      "serve --bg --http=80 text:a",
      "serve --bg --http=8080 text:b",
      "serve --bg text:c",
      "serve status",
      "serve --http=80 off",
    ],
    ...["serve --http=8080 --set-path=/nope off", "serve status --json", "serve reset", "serve status"],
  ],
  ["serve --bg 3000", "serve reset", "serve status", "serve reset"],
  ["funnel --bg 3000", "serve --bg --https=8443 3001", "funnel reset", "serve status --json"],
  [
    ...["serve --service=svc:web 3000", "serve status", "serve --service=svc:web --set-path=/x 3001"],
    ...[
      "serve --service=svc:web --http=80 3002",
      "serve --service=svc:web --tcp=22 22",
      "serve status",
      "serve status --json",
    ],
    ...[
      "serve --service=svc:web --tcp=22 off",
      "serve --service=svc:web --set-path=/x off",
      "serve --service=svc:web off",
    ],
    ...[
      "serve --service=svc:web --http=80 off",
      "serve --service=svc:web off",
      "serve status --json",
      "serve clear svc:web",
    ],
  ],
  ["serve --service=svc:web 3000", "serve --service=svc:web --http=443 off"],
  [
    ...[
      "serve --service=svc:web --tcp=443 22",
      "serve --service=svc:web 3000",
      "serve --service=svc:web off",
      "serve status",
    ],
    ...["serve clear svc:web", "serve status --json"],
  ],
  [
    ...["serve --service=svc:b 3000", "serve --service=svc:a --http=80 3000"],
    ...[
      "serve --service=svc:a --tls-terminated-tcp=99 unix:/x",
      "serve --bg --tcp=7 7",
      "serve status",
      "serve drain svc:a",
    ],
    ...["serve advertise svc:a", "serve clear svc:a", "serve status", "serve reset", "serve status --json"],
  ],
  ...["3000", "--http=80 text:hi", "--tcp=2222 22", "--bg=false 3000", "--set-path=/x /etc"].map((words) => [
    `^serve ${words}`,
  ]),
  ["^serve --tls-terminated-tcp=2222 --proxy-protocol=2 22"],
  ["^funnel 3000"],
  ["^funnel --tcp=8443 22"],
  ["serve --bg 3000", "^serve 3001", "serve status", "serve off"],
  ["serve --bg 3000", "^serve --set-path=/y 3001", "^serve --https=8443 3001", "serve status"],
];

export const SERVE_STORIES: readonly (readonly string[])[] = [...SINGLE.map((line) => [line]), ...STORIES];

/** As a shell takes it apart: what stands in quotes is one word. */
export function wordsOf(line: string): readonly string[] {
  return [...line.matchAll(/(?:'[^']*'|[^ '])+/g)].map(([word]) => word.replaceAll("'", ""));
}
