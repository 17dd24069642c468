import { once } from "node:events";
import { afterEach, describe, expect, test } from "vitest";
import {
  C,
  chunked,
  H,
  head,
  hello,
  http1Stage,
  OFFER,
  post,
  refusalOf,
  servedOf,
  statusesIn,
} from "../../../test/suites/http1-stage.ts";
import { closeScenes, GATE, read } from "../../../test/suites/proxy-scene.ts";
import { fieldLines } from "../../../test/suites/recording-backend.ts";

afterEach(closeScenes);

/** As Http11Probe groups them: what must be refused, with which statuses. */
const REFUSED: Readonly<Record<string, readonly [name: string, bytes: string, statuses?: string][]>> = {
  "smuggling by length": [
    ["length and coding", post(`Content-Length: 5\r\n${C}`, hello)],
    ["coding and length", post(`${C}Content-Length: 5\r\n`, hello)],
    ["two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello")],
    ["two equal lengths", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello")],
    ["listed", post("Content-Length: 5, 5\r\n", "hello")],
    ["plus", post("Content-Length: +5\r\n", "hello")],
    ["minus", post("Content-Length: -5\r\n", "hello")],
    ["minus nothing", post("Content-Length: -0\r\n", "")],
    ["hex", post("Content-Length: 0x5\r\n", "hello")],
    ["underscore", post("Content-Length: 1_0\r\n", "hello")],
    ["decimal point", post("Content-Length: 5.0\r\n", "hello")],
    ["exponent", post("Content-Length: 1e1\r\n", "hello")],
    ["blank within", post("Content-Length: 5 5\r\n", "hello")],
    ["empty", post("Content-Length: \r\n", "hello")],
    ["quoted", post('Content-Length: "5"\r\n', "hello")],
    ["21 digits", post("Content-Length: 100000000000000000005\r\n", "hello")],
    ["16 digits", post("Content-Length: 9007199254740993\r\n", "hello")],
    ["blank before the colon", post("Content-Length : 5\r\n", "hello")],
    ["folded", post("Content-Length:\r\n 5\r\n", "hello")],
    ["full-width digit", post("Content-Length: \xef\xbc\x95\r\n", "hello")],
  ],
  "smuggling by coding": [
    ["blank before the colon", post("Transfer-Encoding : chunked\r\n", hello)],
    ["tab before the colon", post("Transfer-Encoding\t: chunked\r\n", hello)],
    ["folded", post("Transfer-Encoding:\r\n chunked\r\n", hello)],
    ["behind a fold", post("X: y\r\n Transfer-Encoding: chunked\r\n", hello)],
    ["a name in front", post("\x0bTransfer-Encoding: chunked\r\n", hello)],
    ["no coding", post("Transfer-Encoding: \r\n", hello), "400 501"],
    ["twice", post(`${C}${C}`, hello), "400 501"],
    ["twice in one", post("Transfer-Encoding: chunked, chunked\r\n", hello)],
    ["in HTTP/1.0", `POST / HTTP/1.0\r\n${H}${C}\r\n${hello}`],
    ["bare CR in front", post("X: y\rTransfer-Encoding: chunked\r\n", hello)],
  ],
  "lines and names": [
    ["bare LF after the request line", `GET / HTTP/1.1\n${H}\r\n`],
    ["bare LF after a field", `GET / HTTP/1.1\r\nHost: ${GATE}\nX: y\r\n\r\n`],
    ["bare LF at the end", `GET / HTTP/1.1\r\n${H}\n`],
    ["CR alone", `GET / HTTP/1.1\rHost: ${GATE}\r\r`],
    ["folded first field", `GET / HTTP/1.1\r\n X: y\r\n${H}\r\n`],
    ["folded field", head("X: y\r\n z\r\n")],
    ["folded by tab", head("X: y\r\n\tz\r\n")],
    ["empty name", head(": y\r\n")],
    ["no colon", head("NoColon\r\n")],
    ["blank in a name", head("X Y: z\r\n")],
    ["name in quotes", head('"X": y\r\n')],
    ["name in brackets", head("X[]: y\r\n")],
    ["name with ü", head("X\xfc: y\r\n")],
    ["name with @", head("X@Y: y\r\n")],
    ["DEL in a value", head("X: \x7f\r\n")],
  ],
  "request lines": [
    ["HTTP/0.9", "GET /\r\n\r\n"],
    ["no version", `GET / \r\n${H}\r\n`],
    ["two blanks", head("", "GET  / HTTP/1.1")],
    ["two blanks before the version", head("", "GET /  HTTP/1.1")],
    ["blank in front", head("", " GET / HTTP/1.1")],
    ["blank behind", head("", "GET / HTTP/1.1 ")],
    ["tabs", head("", "GET\t/\tHTTP/1.1")],
    ["empty lines in front", `\r\n\r\n${head("")}`],
    ["lower-case version", head("", "GET / http/1.1")],
    ["HTTP/1.2", head("", "GET / HTTP/1.2")],
    ["HTTP/2.0", head("", "GET / HTTP/2.0")],
    ["HTTP/01.1", head("", "GET / HTTP/01.1")],
    ["HTTP/1", head("", "GET / HTTP/1")],
    ["HTTPS/1.1", head("", "GET / HTTPS/1.1")],
    ["RTSP/1.0", head("", "OPTIONS / RTSP/1.0")],
    ["ICE/1.0", head("", "SOURCE / ICE/1.0")],
    ["the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    ["TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"],
    ["lower-case method", head("", "get / HTTP/1.1")],
    ["unknown method", head("", "BREW / HTTP/1.1")],
    ["method with a bracket", head("", "GE(T / HTTP/1.1")],
    ["garbage", "\x00\x01\x02garbage\r\n\r\n"],
  ],
  targets: [
    ["fragment", head("", "GET /a#b HTTP/1.1")],
    ["backslash", head("", "GET /a\\b HTTP/1.1")],
    ["another authority", head("", "GET http://evil/ HTTP/1.1")],
    ["another scheme", head("", `GET ftp://${GATE}/ HTTP/1.1`)],
    ["user-info", head("", `GET http://u:p@${GATE}/ HTTP/1.1`)],
    ["asterisk", head("", "GET * HTTP/1.1")],
    ["no slash", head("", "GET a HTTP/1.1")],
    ["authority form", head("", `GET ${GATE}:80 HTTP/1.1`)],
    ["raw ü", head("", "GET /\xfc HTTP/1.1")],
    ["NUL", head("", "GET /\x00 HTTP/1.1")],
    ["DEL", head("", "GET /\x7f HTTP/1.1")],
    ["bad escape", head("", "GET /%zz HTTP/1.1")],
    ["hidden dots", head("", "GET /a/..%2fb HTTP/1.1")],
    ["blank", head("", "GET /a b HTTP/1.1")],
    ["CONNECT", `CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\n\r\n`, "405"],
    ["TRACE", head("Connection: close\r\n", "TRACE / HTTP/1.1"), "405"],
  ],
  Host: [
    ["none", "GET / HTTP/1.1\r\n\r\n"],
    ["two", head(`Host: evil\r\n`)],
    ["two equal", head(H)],
    ["list", `GET / HTTP/1.1\r\nHost: ${GATE}, evil\r\n\r\n`],
    ["empty", "GET / HTTP/1.1\r\nHost: \r\n\r\n"],
    ["user-info", `GET / HTTP/1.1\r\nHost: u@${GATE}\r\n\r\n`],
    ["path", `GET / HTTP/1.1\r\nHost: ${GATE}/x\r\n\r\n`],
    ["blank", "GET / HTTP/1.1\r\nHost: gw tail\r\n\r\n"],
    ["port 0", `GET / HTTP/1.1\r\nHost: ${GATE}:0\r\n\r\n`],
    ["port 65536", `GET / HTTP/1.1\r\nHost: ${GATE}:65536\r\n\r\n`],
    ["port abc", `GET / HTTP/1.1\r\nHost: ${GATE}:abc\r\n\r\n`],
    ["not ASCII", "GET / HTTP/1.1\r\nHost: gw.t\xe4il.test\r\n\r\n"],
    ["blank before the colon", `GET / HTTP/1.1\r\nHost : ${GATE}\r\n\r\n`],
    ["NUL", `GET / HTTP/1.1\r\nHost: ${GATE}\x00\r\n\r\n`],
    ["behind another line end", `GET / HTTP/1.1\r\nX: y\nHost: ${GATE}\r\n\r\n`],
  ],
  expectations: [
    ["unknown", post("Expect: x\r\nContent-Length: 0\r\n", ""), "417"],
    ["more than one", post("Expect: 100-continue, y\r\nContent-Length: 0\r\n", ""), "417"],
    ["twice with an offer to switch", head(`Expect: 100-continue\r\nExpect: 100-continue\r\n${OFFER}h2c\r\n`), "417"],
    ["unknown with a WebSocket", head(`Expect: x\r\n${OFFER}websocket\r\n`), "417"],
  ],
  sizes: [
    ["a long target", head("", `GET /${"a".repeat(20_000)} HTTP/1.1`), "414"],
    ["a long field", head(`X: ${"a".repeat(200_000)}\r\n`), "431"],
    ["many fields", head("X: y\r\n".repeat(5000)), "431"],
  ],
};

describe.each(Object.entries(REFUSED))("H1-1, H1-3, H1-6, H1-7, H1-8: %s", (_, rows) => {
  test.each(rows)(
    "%s is refused, the connection closed, the backend not reached",
    async (_, bytes, statuses = "400") => {
      const status = await refusalOf(await http1Stage(), bytes);
      expect(statuses.split(" ")).toContain(status);
    },
  );
});

const SERVED: readonly [name: string, bytes: string, wanted: RegExp][] = [
  [
    "a length with zeros in front",
    post("Content-Length: 005\r\n", "hello"),
    /\r\nContent-Length: 5\r\n(?:.|\r\n)*hello$/,
  ],
  ["a length between blanks", post("Content-Length: \t5 \r\n", "hello"), /hello$/],
  ["upper-case coding", post("TRANSFER-ENCODING: CHUNKED\r\n", hello), /5\r\nhello\r\n0\r\n\r\n$/],
  [
    "chunk extensions, which end here",
    chunked('5;a=b;c="d"\r\nhello\r\n0;last\r\n\r\n'),
    /\r\n\r\n5\r\nhello\r\n0\r\n\r\n$/,
  ],
  ["trailers, which end here", chunked("5\r\nhello\r\n0\r\nX: y\r\nHost: evil\r\n\r\n"), /0\r\n\r\n$/],
  ["no body", post("Content-Length: 0\r\n", ""), /Content-Length: 0\r\n/],
  ["an absolute target", head("", `GET http://${GATE}/x HTTP/1.1`), /^GET \/x HTTP\/1\.1/],
  ["any case of a name", head("hOsT-x: y\r\n"), /\r\nhOsT-x: y\r\n/i],
  ["Latin-1 in a value", head("X: caf\xe9\r\n"), /\r\nX: caf\xe9\r\n/i],
  ["a tab in a value", head("X: a\tb\r\n"), /\r\nX: a\tb\r\n/],
  ["`__proto__` and `constructor`", head("constructor: y\r\n"), /\r\nconstructor: y\r\n/],
  ["a query with odd bytes", head("", "GET /?a=[1]&b={}|^ HTTP/1.1"), /^GET \/\?a=\[1\]&b=\{\}\|\^ /],
];

test.each(SERVED)("H1-3: %s is served, and the next request begins where it must", async (_, bytes, wanted) => {
  expect(await servedOf(await http1Stage(), bytes)).toMatch(wanted);
});

/**
 * The forms of the exhaustive set of defparam/smuggler (its `configs/exhaustive.py`: words, and each of 160 bytes at four
 * places), and more places: doubled, behind other fields and line ends, and within name and value.
 */
function codingForms(): string[] {
  const bytes = Array.from({ length: 0x100 }, (_, code) => code);
  const marks = bytes.map((code) => String.fromCharCode(code));
  const around = (mark: string): string[] => [
    `Transfer-Encoding:${mark}chunked`,
    `Transfer-Encoding${mark}: chunked`,
    `${mark}Transfer-Encoding: chunked`,
    `Transfer-Encoding: chunked${mark}`,
  ];
  const more = (mark: string): string[] => [
    `Transfer-Encoding: ${mark}${mark}chunked`,
    `${mark}Transfer-Encoding${mark}: chunked`,
    `Transfer-Encoding${mark}:${mark}chunked`,
    `Transfer${mark}Encoding: chunked`,
    `X: y${mark}Transfer-Encoding: chunked`,
    `X: y\r${mark}Transfer-Encoding: chunked`,
    `X: y${mark}\nTransfer-Encoding: chunked`,
    `Transfer-Encoding: chun${mark}ked`,
    `Transfer-Encoding: x${mark}chunked`,
    `Transfer-Encoding: chunked${mark}x`,
    `Transfer-Encoding: chunked\r${mark}X: y`,
    `Transfer-Encoding: chunked${mark}\nX: y`,
    `Transfer-Encoding: chunked\r\n${mark}X: y`,
  ];
  const isSpecial = (code: number): boolean => code < 0x22 || [0x27, 0x2c, 0x3b, 0x7f, 0x80, 0xa0, 0xff].includes(code);
  const values = [
    ...["xchunked", "chunkedx", "x chunked", "identity", "gzip", "gzip, chunked", "chunked, identity", "cow", "chunk"],
    ...["-1", "chunked;a=b", " chunked", "chunked, cow", "cow, chunked", "\n chunked", '"chunked"', "'chunked'"],
    ...["cHuNkeD", "CHUNKED", "chunked\r", "chunked\t", "cow\r\nTransfer-Encoding: chunked", "cow chunked bar"],
    ...["ch\x96nked", "chunked, chunked", "chunked,", ",chunked", "chunked\r\nTransfer-Encoding: cow", "chunked \t"],
  ];
  return [
    ...marks.flatMap((mark, code) => (isLetter(code) ? [] : around(mark))),
    ...marks.slice(0x80).flatMap((mark) => around(Buffer.from(mark).toString("latin1"))), // as it sends them
    ...marks.flatMap((mark, code) => (isSpecial(code) ? more(mark) : [])),
    ...values.map((value) => `Transfer-Encoding: ${value}`),
    ...["Transfer Encoding: chunked", "Transfer_Encoding: chunked", "Transfer Encoding:chunked"],
    ...["Content-Encoding: chunked", "Transfer\r-Encoding: chunked", "Transf\x82r-Encoding: chunked"],
    ...["TrAnSFer-EnCODinG: cHuNkeD", "TRANSFER-ENCODING: CHUNKED", "Transfer-Encoding\t:\tchunked"],
    ...["X:X\rTransfer-Encoding: chunked", "X:X\nTransfer-Encoding: chunked"],
  ];
}

const isLetter = (code: number): boolean => /[-0-9A-Za-z]/.test(String.fromCharCode(code));

const FIELD = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[\t ]*([\t\x20-\x7e\x80-\xff]*?)[\t ]*$/;
/** The codings that fields in order name (RFC 9112 section 5): `undefined` where one is not in order. */
function codingsOf(form: string): string[] | undefined {
  const fields = form.split("\r\n").map((line) => FIELD.exec(line));
  if (fields.includes(null)) return undefined;
  return fields.filter((field) => field![1]!.toLowerCase() === "transfer-encoding").map((field) => field![2]!);
}

test.each(["connect", "visit"] as const)(
  "H1-2: by `%s`, what is not exactly the coding `chunked` is refused, beside a length or without one",
  async (by) => {
    const forms = [...new Set(codingForms())];
    expect(forms.length).toBeGreaterThan(1700);
    const stage = await http1Stage();
    const { backend } = stage;
    // Whoever takes the length leaves the smuggled request in the body; whoever takes the chunks would answer it.
    const body = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    const length = `Content-Length: ${body.length}\r\n`;
    for (const method of ["POST", "GET"]) {
      for (const [i, form] of forms.filter((one) => codingsOf(one)?.length !== 0).entries()) {
        const line = `${method} / HTTP/1.1`;
        const fields = i % 2 === 0 ? `${length}${form}\r\n` : `${form}\r\n${length}`;
        expect(["400", "501"], form).toContain(await refusalOf(stage, `${head(fields, line)}${body}`, by));
        if (/^chunked$/i.test(codingsOf(form)?.join() ?? "")) continue;
        expect(["400", "501"], form).toContain(await refusalOf(stage, `${head(`${form}\r\n`, line)}0\r\n\r\n`, by));
      }
      // The name is another one, or all of it somebody's value.
      for (const form of forms.filter((one) => codingsOf(one)?.length === 0)) {
        const client = stage[by](80);
        const done = read(client, (text) => text.endsWith("ok"));
        client.write(`${head(`${length}${form}\r\n`, `${method} / HTTP/1.1`)}${body}`);
        expect(statusesIn((await done).text)).toEqual(["200"]);
        const names = fieldLines(backend.requests[0]!).map(([name]) => name);
        expect(names.join(" "), form).not.toMatch(/transfer|[^- 0-9a-z]/i);
        expect(backend.requests.splice(0)).toEqual([expect.stringContaining(`\r\n\r\n${body}`)]); // by its length
        for (const socket of backend.connections.splice(0)) socket.destroy();
      }
    }
  },
);

const CHUNK_FAULTS: readonly string[] = [
  ..."g\r\nhello,0x5\r\nhello,+5\r\nhello,-5\r\nhello,5_\r\nhello,\r\nhello,00000000000000005\r\nhello".split(","),
  ..."FFFFFFFFFFFFFFFFF\r\n,5\nhello,5\rhello,5\r\rhello,5 \r\nhello, 5\r\nhello,5\t\r\nhello,\t5\r\nhello".split(","),
  ..."5\x00\r\nhello,5\x0b\r\nhello,5;\x00\r\nhello,5;a\nb\r\nhello,5;a\rb\r\nhello,5.\r\nhello,0x\r\nhello".split(","),
  ..."5\r\nhelloX,5\r\nhello\n,5\r\nhello\r,5\r\nhello\rX,5\r\nhello0\r\n,5\r\nhelloo\r\n,5\r\nhell\r\n0\r\n".split(
    ",",
  ),
  ..."1_0\r\nhello,0_5\r\nhello,_5\r\nhello,0X5\r\nhello,0x05\r\nhello,5h\r\nhello,h5\r\nhello,5 5\r\nhello".split(","),
  ..."5\n\r\nhello,\r5\r\nhello,\n5\r\nhello,5\r\n\nhello,5\n\nhello,5\r\r\nhello,5\x0c\r\nhello,5\xa0\r\nhello".split(
    ",",
  ),
  ...`5;a="\r\nhello,5;a="\n"\r\nhello,5;a="\r"\r\nhello,5;a="x\r\n"\r\nhello,5;\r\nhello,5;;a\r\nhello,5;a=\r\nhello`.split(
    ",",
  ),
  ...`5;a=b c\r\nhello,5 ;a\r\nhello,5;a="\x7f"\r\nhello,5;a="b"c\r\nhello,5;=b\r\nhello,5;a\n\r\nhello`.split(","),
  `5;${"a".repeat(5000)}\r\nhello`,
  `5;a="${"a".repeat(4096)}"\r\nhello`,
  `${`1;${"a".repeat(2000)}\r\nx\r\n`.repeat(9)}0`,
  `${`1;a=${"b".repeat(4000)}\r\nx\r\n`.repeat(5)}0`,
  `5;a="\r\n"\r\nhello`,
  "8000000000000000\r\n",
  `${"0".repeat(17)}\r\n`,
];

const CHUNK_ENDS: readonly string[] = ["\r\n0\r\n\r\n", "\n0\n\n", ""];
const faultyBodies = (): string[] =>
  CHUNK_FAULTS.flatMap((fault) =>
    ["", "3\r\nabc\r\n", "A\r\n0123456789\r\n1\r\nx\r\n"].flatMap((before) =>
      CHUNK_ENDS.map((end) => `${before}${fault}${end}GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n`),
    ),
  );

test("H1-5: chunk lines are strict: no second request ever begins inside a body", async () => {
  const { connect, backend } = await http1Stage();
  const variants = faultyBodies();
  expect(variants.length).toBeGreaterThanOrEqual(300);
  for (const body of variants) {
    const client = connect(80);
    const done = read(client);
    client.write(chunked(body), "latin1");
    expect(statusesIn((await done).text), JSON.stringify(body)).toEqual(["400"]);
  }
  expect(backend.requests).toEqual([]);
  expect(backend.connections.filter((socket) => !socket.destroyed && !socket.readableEnded)).toHaveLength(0);
});

test("H1-5: a fault in chunks that come when their head is with the backend ends the backend's connection", async () => {
  const { connect, visit, backend } = await http1Stage();
  for (const [i, body] of faultyBodies().entries()) {
    const client = i % 2 === 0 ? connect(80) : visit(80);
    const done = read(client);
    client.write(chunked("3\r\nabc\r\n"));
    await expect.poll(() => backend.connections.length, { timeout: 20_000, interval: 1 }).toBe(1);
    const [socket] = backend.connections.splice(0);
    const closed = once(socket!, "close");
    client.write(body, "latin1");
    expect(statusesIn((await done).text), JSON.stringify(body)).toEqual(["400"]);
    await closed;
  }
  expect(backend.requests).toEqual([]);
});

test("H1-5: a body that does not end is no request", async () => {
  const { connect, backend } = await http1Stage();
  const whole = chunked(hello);
  for (let cut = whole.indexOf("\r\n\r\n") + 4; cut < whole.length; cut++) {
    const client = connect(80);
    const done = read(client);
    client.end(whole.slice(0, cut), "latin1");
    expect(statusesIn((await done).text)).not.toContain("200");
  }
  expect(backend.requests).toEqual([]);
});
