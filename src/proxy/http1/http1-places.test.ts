import { METHODS } from "node:http";
import { afterEach, describe, expect, test } from "vitest";
import { H, http1Stage, refusalOf } from "../../../test/suites/http1-stage.ts";
import { closeScenes, GATE } from "../../../test/suites/proxy-scene.ts";

afterEach(closeScenes);

/** Every form of what a row of the matrix names, each in every place: with which statuses it is refused. */
type Forms = Readonly<Record<string, string>>;

const control = (code: number): string => String.fromCharCode(code);
const range = (from: number, to: number): string[] =>
  Array.from({ length: to - from + 1 }, (_, i) => control(from + i));
const CONTROLS = [...range(0, 0x1f), "\x7f"];
const HIGH = range(0x80, 0xff);
const SPELLINGS = [
  (name: string) => name,
  (name: string) => name.toLowerCase(),
  (name: string) => name.toUpperCase(),
  (name: string) =>
    name.replace(/[a-z]/gi, (letter, at: number) => (at % 2 === 0 ? letter.toUpperCase() : letter.toLowerCase())),
];
/** As a request would begin that is hidden in a body. */
const BODY = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
const framed = (fields: string, method = "POST"): string => `${method} / HTTP/1.1\r\n${H}${fields}\r\n${BODY}`;
const head = (line: string, fields = H): string => `${line}\r\n${fields}\r\n`;
const forms = (texts: Iterable<string>, statuses = "400"): Forms =>
  Object.fromEntries(Array.from(texts, (text) => [text, statuses]));

function* bothFramings(): Iterable<string> {
  const codings = ["chunked", "Chunked", "CHUNKED", "\tchunked", "chunked \t", "gzip", "identity", "xchunked"];
  for (const length of SPELLINGS) {
    for (const coding of SPELLINGS) {
      for (const value of [...codings, "gzip, chunked", "chunked, chunked", "chunked;q=1", ""]) {
        const one = `${length("Content-Length")}: ${BODY.length}\r\n`;
        const other = `${coding("Transfer-Encoding")}:${value}\r\n`;
        for (const pair of [
          [one, other],
          [other, one],
        ]) {
          for (const between of ["", "X: y\r\n"])
            for (const by of ["POST", "GET"]) yield framed(pair.join(between), by);
        }
      }
    }
  }
}

const NO_LENGTHS = [
  ..."+5 -5 -0 0x5 0X5 5h 0b101 0o5 5_ 5_0 1_0 5.0 5. .5 5e0 1e1 5/5 5:5 (5) '5' \"5\" five NaN Infinity ∞ ５ ٥".split(
    " ",
  ),
  ...[
    "",
    " ",
    "\t",
    "5 5",
    "5\t5",
    "5,",
    ",5",
    ",",
    "5,5",
    "5, 5",
    "5 ,5",
    "5;",
    "5;5",
    "5; q=1",
    "5\x0b",
    "\x0c5",
    "\xa05",
  ],
  ...Array.from({ length: 15 }, (_, i) => "9".repeat(16 + i)),
  ...[
    `${"0".repeat(20)}5`,
    "9".repeat(100),
    "9007199254740992",
    "9223372036854775808",
    "18446744073709551621",
    "4294967301x",
  ],
].map((value) =>
  Buffer.from(value, /[\x80-\xff]/.test(value) && !/[^\0-\xff]/.test(value) ? "latin1" : "utf8").toString("latin1"),
);

function* badLengths(): Iterable<string> {
  for (const method of ["POST", "GET", "DELETE"]) {
    for (const value of NO_LENGTHS) yield framed(`Content-Length: ${value}\r\n`, method);
    for (const first of SPELLINGS) {
      for (const second of SPELLINGS) {
        for (const [one, other] of [
          [5, 5],
          [5, 6],
          [0, 5],
          [5, 0],
        ]) {
          for (const between of ["", "X: y\r\n"]) {
            const lines = [`${first("Content-Length")}: ${one}\r\n`, `${second("Content-Length")}: ${other}\r\n`];
            yield framed(lines.join(between), method);
          }
        }
      }
    }
  }
}

function* startLines(): Iterable<string> {
  for (let major = 0; major < 10; major++)
    for (let minor = 0; minor < 10; minor++) if (major !== 1 || minor > 1) yield head(`GET / HTTP/${major}.${minor}`);
  const odd =
    "HTTP HTTP/ HTTP/1 HTTP/1. HTTP/.1 HTTP/11 HTTP/1.10 HTTP/01.1 HTTP/1.01 HTTP/1,1 HTTP/1.1.1 HTTP/1.1x HTTP//1.1";
  const others =
    "HTTP/+1.1 HTTP/-1.1 HTTP/1.1; HTTP-1.1 http/1.1 Http/1.1 HTTPS/1.1 XHTTP/1.1 HTP/1.1 RTSP/1.0 RTSP/1.1 ICE/1.0 SIP/2.0";
  for (const version of `${odd} ${others}`.split(" ")) yield head(`GET / ${version}`);
  for (const method of ["GET", "POST", "OPTIONS", "SOURCE", "DESCRIBE"])
    for (const version of ["RTSP/1.0", "ICE/1.0", "HTTP/0.9", "HTTP/2.0"]) yield head(`${method} / ${version}`);
  yield* [
    "GET /\r\n\r\n",
    "GET / \r\n\r\n",
    "GET\r\n\r\n",
    "\r\n\r\n",
    " \r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
  ];
  for (const gap of ["  ", "\t", " \t", "\t ", "\x0b", "\x0c", "\r", " \r", "\xa0", "\0", "   "]) {
    yield head(`GET${gap}/ HTTP/1.1`);
    yield head(`GET /${gap}HTTP/1.1`);
    yield head(`${gap}GET / HTTP/1.1`);
    yield head(`GET / HTTP/1.1${gap}`);
  }
  for (const line of ["\r\n", "\n", "\r", "\r\n\r\n"]) yield line + head("GET / HTTP/1.1");
}

function* targets(): Iterable<string> {
  const lines = [
    ...[
      "http://evil/",
      "http://evil",
      `http://${GATE}.evil/`,
      `http://evil@${GATE}/`,
      `http://${GATE}@evil/`,
      "http:///",
    ],
    ...[
      `http://${GATE}:81/`,
      `ftp://${GATE}/`,
      `ws://${GATE}/`,
      `file:///etc/passwd`,
      `http:/${GATE}/`,
      `http:${GATE}/`,
    ],
    ...[
      `//${GATE}:80`.slice(2),
      GATE,
      "evil:443",
      "a",
      "?a",
      "",
      "*a",
      "**",
      `httpx://${GATE}/`,
      "javascript:0",
      `http://${GATE}\\@evil/`,
    ],
  ];
  for (const target of lines)
    for (const method of ["GET", "POST", "OPTIONS"]) yield head(`${method} ${target} HTTP/1.1`);
  const others = METHODS.filter((method) => !["OPTIONS", "CONNECT", "TRACE"].includes(method));
  for (const method of others) yield head(`${method} * HTTP/1.1`);
  for (const byte of [...CONTROLS, " ", "#", "\\", ...HIGH]) {
    for (const target of [
      `/${byte}`,
      `/a${byte}b`,
      `/a?${byte}`,
      `/a?b${byte}c`,
      `http://${GATE}/a${byte}`,
      `${byte}/a`,
    ])
      yield head(`GET ${target} HTTP/1.1`);
  }
}

function* hosts(): Iterable<string> {
  const line = "GET / HTTP/1.1";
  yield head(line, "");
  for (const one of SPELLINGS)
    for (const other of SPELLINGS)
      for (const value of [GATE, "evil", ""]) {
        yield head(line, `${one("Host")}: ${GATE}\r\n${other("Host")}: ${value}\r\n`);
        yield head(line, `${one("Host")}: ${value}\r\nX: y\r\n${other("Host")}: ${GATE}\r\n`);
      }
  const values = [
    ...[
      "",
      `${GATE},evil`,
      `${GATE}, ${GATE}`,
      `${GATE} evil`,
      `evil@${GATE}`,
      `${GATE}@evil`,
      `${GATE}/`,
      `${GATE}/x`,
      `${GATE}?x`,
      `${GATE}#x`,
    ],
    ...[
      ":0",
      ":65536",
      ":99999",
      ":100000",
      ":-1",
      ":+80",
      ":0x50",
      ":8_0",
      ":http",
      ":80:80",
      "::80",
      ":80 80",
      ":80/",
      ":８０",
    ].map((port) => GATE + port),
    ...[
      "[::1",
      "::1",
      "[::1]x",
      "[gw]",
      "[]",
      "[::1]:0",
      "[fe80::1%25eth0]",
      `http://${GATE}`,
      "%67w",
      "gw.t\u00e4il.test",
      `${GATE}\\`,
    ],
  ];
  for (const value of values) yield head(line, `Host: ${Buffer.from(value).toString("latin1")}\r\n`);
  for (const byte of [...CONTROLS, ..." \"#$%&'()*+,/;<=>?@\\^`{|}~!", ...HIGH]) {
    yield head(line, `Host: gw${byte}${GATE}\r\n`);
    if (byte !== " " && byte !== "\t")
      for (const value of [`${byte}${GATE}`, `${GATE}${byte}`]) yield head(line, `Host: ${value}\r\n`);
  }
}

function* controls(): Iterable<string> {
  const line = "GET / HTTP/1.1";
  for (const byte of CONTROLS) {
    for (const name of [`${byte}X`, `X${byte}`, `X${byte}Y`, `X${byte} `]) yield head(line, `${H}${name}: z\r\n`);
    for (const start of [`${byte}GET /`, `G${byte}ET /`, `GET${byte} /`, `GET ${byte}/`, `GET /${byte}`])
      yield head(`${start} HTTP/1.1`);
    for (const version of [`${byte}HTTP/1.1`, `HTTP/1${byte}.1`, `HTTP/1.1${byte}`]) yield head(`GET / ${version}`);
    if (byte === "\t") continue;
    for (const field of ["X", "Host", "Content-Length", "Transfer-Encoding", "Cookie", "Connection"])
      for (const value of [`${byte}a`, `a${byte}`, `a${byte}b`, `a ${byte} b`])
        yield head(line, `${H}${field}: ${value}\r\n`);
  }
  for (const name of ["X", "Host", "Content-Length", "Transfer-Encoding", "Expect"]) {
    for (const blank of [" ", "\t", "  ", "\t "]) {
      yield head(line, `${H}${name}${blank}: 5\r\n`);
      yield head(line, `${H}X: y\r\n${blank}${name}: 5\r\n`);
      yield head(line, `${H}${name}:\r\n${blank}5\r\n`);
      yield head(line, `${blank}${name}: 5\r\n${H}`);
      yield head(line, `${H}${name}: 5\r\n${blank}\r\n`);
    }
    for (const end of ["\n", "\r", "\n\r", "\r\r\n", "\r\n\n"]) yield head(line, `${H}${name}: 5${end}Y: z\r\n`);
  }
  for (const empty of [": 5", ":", " : 5", ":X: 5", "X", "=", "\xa0: 5"]) yield head(line, `${H}${empty}\r\n`);
}

function* expectations(): Iterable<string> {
  const values = "x 100 100- 100-continued x100-continue 200-ok 101-continue 100-continue;q=1 100_continue 417".split(
    " ",
  );
  const more = [
    "100 continue",
    "100-continue, y",
    "y, 100-continue",
    "100-continue,",
    ",100-continue",
    "100-continue 100-continue",
  ];
  const fields = [...values, ...more].map((value) => `Expect: ${value}\r\n`);
  for (const one of SPELLINGS)
    for (const other of ["100-continue", "x"])
      fields.push(`${one("Expect")}: 100-continue\r\nX: y\r\nExpect: ${other}\r\n`);
  for (const field of fields) {
    for (const method of ["POST", "PUT", "GET", "DELETE"]) {
      yield framed(`${field}Content-Length: ${BODY.length}\r\n`, method);
      yield framed(`Transfer-Encoding: chunked\r\n${field}`, method);
      yield head(`${method} / HTTP/1.1`, H + field);
    }
  }
}

const ROWS: Readonly<Record<string, Forms>> = {
  "H1-1 a length and a coding": forms(bothFramings()),
  "H1-1 a length that is none, or two": forms(badLengths()),
  "H1-6 versions and start lines": forms(startLines(), "400 505"),
  "H1-7 targets": forms(targets(), "400"),
  "H1-7 methods": forms(
    ["/", `http://${GATE}/`, `${GATE}:80`, "*"].flatMap((target) =>
      ["CONNECT", "TRACE"].map((method) => head(`${method} ${target} HTTP/1.1`, `${H}Connection: close\r\n`)),
    ),
    "400 405",
  ),
  "H1-8 Host": forms(hosts()),
  "H1-10 expectations": forms(expectations(), "417"),
  "H1-9 control bytes, folds and blanks": forms(controls()),
};

describe.each(["connect", "visit"] as const)("every form, by `%s`", (by) => {
  test.each(Object.entries(ROWS))("%s: refused, the connection closed, the backend not reached", async (_, rows) => {
    const stage = await http1Stage();
    const found: unknown[] = [];
    for (const [bytes, statuses] of Object.entries(rows)) {
      const status = await refusalOf(stage, bytes, by);
      if (!statuses.split(" ").includes(status)) found.push([bytes, status]);
    }
    expect(found).toEqual([]);
  });
});
