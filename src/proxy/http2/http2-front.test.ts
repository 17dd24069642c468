import { once } from "node:events";
import http2 from "node:http2";
import tls from "node:tls";
import { afterEach, expect, test } from "vitest";
import {
  certificateOf,
  closeScenes,
  GATE,
  onClose,
  type ProxyScene,
  proxyScene,
  webConfig,
} from "../../../test/suites/proxy-scene.ts";
import {
  END_HEADERS,
  END_STREAM,
  FRAME,
  fieldBlock,
  frame,
  framesIn,
  opening,
} from "../../../test/suites/raw-http2.ts";
import { fieldLines, type RecordingBackend, recordingBackend } from "../../../test/suites/recording-backend.ts";

afterEach(closeScenes);

const OTHER = "other.tail.test";

interface Stage extends ProxyScene {
  readonly backend: RecordingBackend;
  secure(servername?: string, connect?: ProxyScene["visit"]): tls.TLSSocket;
}

const PRIVATE = "private.tail.test";

/** Each of these names is served on 443, two of them by one wildcard and one not to the internet. */
const NAMES = [GATE, OTHER, PRIVATE, "a.wild.test", "b.wild.test"];

async function stage(): Promise<Stage> {
  const backend = await recordingBackend();
  const config = webConfig({ "/": { Proxy: `http://127.0.0.1:${backend.port}` } });
  const site = config.Web![`${GATE}:443`]!;
  const Web = Object.fromEntries([GATE, OTHER, PRIVATE, "*.wild.test"].map((name) => [`${name}:443`, site]));
  const all = { ...config, Web, AllowFunnel: { [`${GATE}:443`]: true, [`${OTHER}:443`]: true } };
  const scene = proxyScene(all, {
    secureContext: async (name) => tls.createSecureContext(await certificateOf(name)),
  });
  const secure = (servername = GATE, connect = scene.connect): tls.TLSSocket => {
    const socket = connect(443);
    const made = tls.connect({ socket, servername, rejectUnauthorized: false, ALPNProtocols: ["h2"] });
    made.on("error", () => void made.destroy());
    onClose(() => made.destroy());
    return made;
  };
  return Object.assign(scene, { backend, secure });
}

const PSEUDO = [
  [":method", "GET"],
  [":scheme", "https"],
  [":authority", GATE],
  [":path", "/x"],
] as const;

type Fields = readonly (readonly [name: string, value: string])[];

/** One connection, as long as the server bears it, and a new one then. */
class RawCaller {
  readonly #connect: () => tls.TLSSocket;
  #socket: tls.TLSSocket | undefined;
  #stream = 1;

  constructor(connect: () => tls.TLSSocket) {
    this.#connect = connect;
  }

  /** Ends with whatever the server answers to the request, or with the connection. */
  async send(fields: Fields, body?: string): Promise<void> {
    const isNew = this.#socket === undefined || this.#socket.destroyed;
    const socket = isNew ? this.#connect() : this.#socket!;
    this.#socket = socket;
    this.#stream = isNew ? 1 : this.#stream + 2;
    const id = this.#stream;
    const answered = new Promise<void>((resolve) => {
      let all = Buffer.alloc(0);
      socket.on("data", (chunk: Buffer) => {
        all = Buffer.concat([all, chunk]);
        const frames = framesIn(all);
        if (frames.some(({ type }) => type === FRAME.goAway)) socket.destroy();
        if (frames.some(({ type, stream }) => stream === id && (type === FRAME.headers || type === FRAME.reset)))
          resolve();
      });
      socket.once("close", () => resolve());
    });
    const flags = END_HEADERS | (body === undefined ? END_STREAM : 0);
    const frames = [frame(FRAME.headers, flags, id, fieldBlock(fields))];
    if (isNew) frames.unshift(opening());
    if (body !== undefined) frames.push(frame(FRAME.data, END_STREAM, id, Buffer.from(body)));
    socket.write(Buffer.concat(frames));
    await answered;
    socket.removeAllListeners("data").removeAllListeners("close");
  }
}

const INJECTIONS = ["\r\n", "\n", "\r", "\0", "\r\n\r\n", "\n\n", ":", "\r\n ", "\x0b", "\x7f", "\x80", " ", "\t"];

/** A byte sequence that could end a line, in every place of every field. */
function variants(): Fields[] {
  const smuggled = `Injected: yes${"\r\n"}GET /injected HTTP/1.1`;
  const around = INJECTIONS.flatMap((mark) => [mark, `a${mark}`, `${mark}a`, `a${mark}a`, `a${mark}${smuggled}`]);
  const all: Fields[] = [];
  for (const text of around) {
    all.push([...PSEUDO, ["x-value", text]], [...PSEUDO, [text, "value"]], [...PSEUDO, [`x${text}`, "value"]]);
    all.push([...PSEUDO, ["cookie", text]], [...PSEUDO, ["te", text]], [...PSEUDO, ["content-length", text]]);
    for (const [name, value] of PSEUDO)
      all.push(PSEUDO.map((pair) => (pair[0] === name ? ([name, `${value}${text}`] as const) : pair)));
  }
  return all;
}

test("H2-7: nothing that could end a line gets into the text of HTTP/1", async () => {
  const { backend, secure } = await stage();
  const all = variants();
  expect(all.length).toBeGreaterThanOrEqual(500);
  const caller = new RawCaller(() => secure());
  for (const fields of all) await caller.send(fields);
  expect(backend.requests.length).toBeGreaterThan(50); // those whose odd bytes were dropped, or are none
  for (const request of backend.requests) {
    expect(request).toMatch(/^GET \/x[!-~]* HTTP\/1\.1\r\n/);
    expect(request).not.toMatch(/(?:^|[\r\n])\s*(?:injected|GET \/injected)/i);
    for (const [name, value] of fieldLines(request)) {
      expect(name).toMatch(/^[A-Za-z0-9-]+$/);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there
      expect(value).not.toMatch(/[\x00-\x08\x0a-\x1f\x7f]/);
    }
  }
});

test.each([
  ["longer", "3", "hello"],
  ["shorter", "10", "hello"],
])("H2-7: a body %s than its length is no request for the backend", async (_, length, body) => {
  const { backend, secure } = await stage();
  const fields: Fields = [[":method", "POST"], ...PSEUDO.slice(1), ["content-length", length]];
  await new RawCaller(() => secure()).send(fields, body);
  await new Promise(setImmediate);
  expect(backend.requests).toEqual([]);
});

async function statusOf(session: http2.ClientHttp2Session, fields: http2.OutgoingHttpHeaders): Promise<number> {
  const stream = session.request({ ":path": "/x", ...fields });
  const [head] = (await once(stream, "response")) as [http2.IncomingHttpHeaders];
  stream.resume();
  return Number(head[":status"]);
}

function sessionOn(socket: tls.TLSSocket, name: string): http2.ClientHttp2Session {
  const session = http2.connect(`https://${name}`, { createConnection: () => socket });
  session.on("error", () => {});
  onClose(() => session.destroy());
  return session;
}

const SPELLINGS: readonly ((name: string) => string)[] = [
  (name) => name,
  (name) => name.toUpperCase(),
  (name) => `${name}.`,
  (name) => `${name}:443`,
  (name) => `${name}:8443`,
  (name) => `${name.toUpperCase()}.:443`,
];
const CONNECTIONS: readonly (readonly [name: string, who: string])[] = [
  ...NAMES.map((name) => [name, "peer"] as const),
  [GATE, "visitor"],
  [OTHER, "visitor"],
];

test.each(CONNECTIONS)(
  "H2-8: on a connection for %s another authority is 421, the backend not reached, for a %s",
  async (name, who) => {
    const { backend, secure, connect, visit } = await stage();
    const session = sessionOn(secure(name, who === "peer" ? connect : visit), name);
    for (const asked of [...NAMES, "gw", "100.64.0.1", "*.wild.test"]) {
      for (const spelled of SPELLINGS) {
        backend.requests.length = 0;
        const status = await statusOf(session, { ":authority": spelled(asked) });
        const wanted = asked === name ? 200 : asked.startsWith("*") ? 400 : 421;
        expect([spelled(asked), status]).toEqual([spelled(asked), wanted]);
        expect(backend.requests).toHaveLength(asked === name ? 1 : 0);
      }
    }
  },
);

test("H2-9: `host` that differs from `:authority` is 400", async () => {
  const { backend, secure } = await stage();
  const session = sessionOn(secure(), GATE);
  for (const host of [OTHER, `${GATE}:443`, `${GATE}.`, GATE.toUpperCase(), `${GATE} `, "", "evil"]) {
    const status = await statusOf(session, { ":authority": GATE, host }).catch(() => 400); // Node refuses some by itself
    expect([host, status]).toEqual([host, host.trim() === GATE ? status : 400]);
  }
  expect(await statusOf(session, { ":authority": GATE, host: GATE })).toBe(200);
  for (const request of backend.requests) expect(request).toContain(`\r\nHost: ${GATE}\r\n`);
});
