import tls from "node:tls";
import fc from "fast-check";
import { afterEach, expect, test } from "vitest";
import {
  ask,
  cookieOf,
  type DoorScene,
  door,
  doorScene,
  enter,
  MACHINE_TOKEN,
  ORIGIN,
} from "../../../test/suites/door-scene.ts";
import { certificateOf, closeScenes, GATE } from "../../../test/suites/proxy-scene.ts";
import {
  END_HEADERS,
  END_STREAM,
  FRAME,
  fieldBlock,
  frame,
  framesIn,
  opening,
} from "../../../test/suites/raw-http2.ts";
import { tokenDigest } from "./secret-hash.ts";

const OTHER_TOKEN = "another-machine-another-token";

afterEach(closeScenes);

/** Every kind of secret that a visitor may hold, and where it leads. */
interface Secrets {
  readonly cookie: string;
  readonly link: string;
  /** Of a guest who came in by a link. */
  readonly linkCookie: string;
}

/** The door `friends` before `/`, and one before nothing, whose token stands in a field that backends use, too. */
async function scene(tokenHeader: string): Promise<{ scene: DoorScene; secrets: Secrets }> {
  const made = await doorScene({ door: { tokenHeader } });
  const tokens = [{ name: "backup", digest: tokenDigest(OTHER_TOKEN) }];
  made.keeper.setDoors([
    ...made.keeper.doors,
    await door({ name: "staff", version: "2", tokenHeader: "X-Staff-Key", tokens }),
  ]);
  const invitation = { door: "friends", name: "Carol", lifeMs: 60_000, isOnce: false };
  const { token: link } = await made.keeper.passes.create(invitation);
  const linkCookie = cookieOf(await ask(made, `/.sallyport/door/friends/link/${link}`, { form: {} }));
  return { scene: made, secrets: { cookie: await enter(made), link, linkCookie } };
}

const secretsOf = ({ cookie, link, linkCookie }: Secrets): readonly string[] => [
  ...[cookie, linkCookie].map((pair) => pair.slice(pair.indexOf("=") + 1)),
  ...[link, MACHINE_TOKEN, OTHER_TOKEN],
];

type Field = readonly [name: string, value: string];

/** Fields with secrets in all places and spellings that somebody's program, or a backend, may take for the same. */
function fieldsOf({ cookie, linkCookie, link }: Secrets, tokenHeader: string): fc.Arbitrary<Field> {
  const [name, value] = [cookie.slice(0, cookie.indexOf("=")), cookie.slice(cookie.indexOf("=") + 1)];
  const cased = (text: string): fc.Arbitrary<string> =>
    fc.constantFrom(text, text.toLowerCase(), text.toUpperCase(), text.replaceAll("-", "_"), text.replaceAll("-", "."));
  const lookAlike = fc.constantFrom(
    ...[
      name,
      name.toLowerCase(),
      name.toUpperCase(),
      name.replace("__Host-", "__Secure-"),
      name.replace("__Host-", ""),
    ],
    ...[
      name.replaceAll("-", "_"),
      `__Host-sallyport-${"x".repeat(32)}`,
      encodeURIComponent(name).replaceAll("-", "%2D"),
    ],
  );
  const pair = lookAlike.map((one) => `${one}=${value}`);
  const crumb = fc.oneof(
    pair,
    fc.constantFrom(cookie, linkCookie, "a=1", "theme=dark", `"${cookie}"`, `$Version=1, ${cookie}`),
  );
  const cookies = fc
    .array(crumb, { minLength: 1, maxLength: 4 })
    .chain((all) => fc.constantFrom("; ", ";").map((by) => all.join(by)));
  const spelled = (header: string, values: fc.Arbitrary<string>): fc.Arbitrary<Field> =>
    fc.tuple(cased(header), values);
  const bearer = tokenHeader === "Authorization" ? "Bearer " : "";
  return fc.oneof(
    fc.tuple(fc.constantFrom("Cookie", "cookie", "COOKIE"), cookies),
    spelled(tokenHeader, fc.constantFrom(MACHINE_TOKEN, `${bearer}${MACHINE_TOKEN}`, `x, ${bearer}${MACHINE_TOKEN}`)),
    spelled("Sallyport-Door-Token", fc.constantFrom(MACHINE_TOKEN, OTHER_TOKEN)),
    spelled("X-Staff-Key", fc.constantFrom(OTHER_TOKEN, `${OTHER_TOKEN} ${OTHER_TOKEN}`)),
    fc.constant<Field>(["Referer", `${ORIGIN}/.sallyport/door/friends/link/${link}`]),
    fc.constant<Field>(["X-Kept", "kept"]),
  );
}

/** Waits for the answer's beginning: whatever the backend is to hear, it has heard then. */
async function told(made: DoorScene, protocol: string, bytes: Uint8Array): Promise<void> {
  const { cert } = await certificateOf(GATE);
  const socket = tls.connect({ socket: made.connect(443), servername: GATE, ca: cert, ALPNProtocols: [protocol] });
  socket.on("error", () => undefined);
  let heard = Buffer.alloc(0);
  socket.on("data", (chunk: Buffer) => {
    heard = Buffer.concat([heard, chunk]);
  });
  const isAnswered = (): boolean =>
    protocol === "h2"
      ? framesIn(heard).some(({ type }) => [FRAME.headers, FRAME.reset, FRAME.goAway].some((one) => one === type))
      : heard.includes("\r\n\r\n");
  socket.write(bytes);
  await expect.poll(() => isAnswered() || socket.destroyed, { timeout: 30_000, interval: 1 }).toBe(true);
  socket.destroy();
}

/** With trailers, the fields stand in both places. */
function http1(path: string, fields: readonly Field[], hasTrailers: boolean): Buffer {
  const lines = fields.map(([name, value]) => `${name}: ${value}`);
  const body = hasTrailers ? ["Transfer-Encoding: chunked", "", "2", "hi", "0", ...lines, "", ""] : ["", ""];
  const line = `${hasTrailers ? "POST" : "GET"} ${path} HTTP/1.1`;
  return Buffer.from([line, `Host: ${GATE}`, `Origin: ${ORIGIN}`, ...lines, ...body].join("\r\n"), "latin1");
}

/** Cookies as crumbs, each a field of its own (RFC 9113 section 8.2.3). */
function http2(path: string, fields: readonly Field[], hasTrailers: boolean): Buffer {
  const all = fields.flatMap(([name, value]): Field[] => {
    const lower = name.toLowerCase();
    return lower === "cookie" ? value.split("; ").map((crumb) => [lower, crumb] as const) : [[lower, value]];
  });
  const pseudo: Field[] = [
    ...([[":method", hasTrailers ? "POST" : "GET"]] as const),
    ...([
      [":scheme", "https"],
      [":authority", GATE],
      [":path", path],
      ["origin", ORIGIN],
    ] as const),
  ];
  const head = frame(FRAME.headers, END_HEADERS | (hasTrailers ? 0 : END_STREAM), 1, fieldBlock([...pseudo, ...all]));
  const trailers = frame(FRAME.headers, END_HEADERS | END_STREAM, 1, fieldBlock(all));
  return Buffer.concat([
    opening(),
    head,
    ...(hasTrailers ? [frame(FRAME.data, 0, 1, Buffer.from("hi")), trailers] : []),
  ]);
}

const UPGRADE: readonly Field[] = [
  ...([
    ["Connection", "Upgrade"],
    ["Upgrade", "websocket"],
    ["Sec-WebSocket-Version", "13"],
  ] as const),
  ["Sec-WebSocket-Key", "MDEyMzQ1Njc4OWFiY2RlZg=="],
];
const TOKEN_HEADERS = ["Sallyport-Door-Token", "X-Api-Key", "Authorization"];
const PATHS = ["/", "/open", "/%C3%A9", "/.sallyport/door/staff/x", "/.sallyport/door/nobody"];

test.each(TOKEN_HEADERS)(
  "ID-20 property: no cookie, token or link of any door reaches a backend, in whatever spelling and place (%s)",
  async (tokenHeader) => {
    const { scene: made, secrets } = await scene(tokenHeader);
    let reached = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fieldsOf(secrets, tokenHeader), { maxLength: 6 }),
        fc.constantFrom(...PATHS),
        fc.boolean(),
        fc.boolean(),
        fc.boolean(),
        async (fields, path, hasTrailers, isHttp2, isUpgrade) => {
          made.backend.requests.length = 0;
          const all: Field[] = [["Cookie", secrets.cookie], ...fields];
          if (isUpgrade && !isHttp2 && !hasTrailers) all.push(...UPGRADE);
          await told(made, isHttp2 ? "h2" : "http/1.1", (isHttp2 ? http2 : http1)(path, all, hasTrailers));
          for (const request of made.backend.requests) {
            reached++;
            for (const secret of secretsOf(secrets)) expect(request).not.toContain(secret);
          }
        },
      ),
      { numRuns: 150 },
    );
    expect(reached).toBeGreaterThan(75);
  },
);

test("ID-20 a link that is opened where its door does not stand is not told to what stands there", async () => {
  const made = await doorScene();
  const staff = { door: "staff", name: "Carol", lifeMs: 60_000, isOnce: true };
  made.keeper.setDoors([...made.keeper.doors, await door({ name: "staff", version: "2" })]);
  const { token } = await made.keeper.passes.create(staff);
  const cookie = await enter(made);
  for (const method of ["GET", "POST", "PUT", "OPTIONS"]) {
    for (const path of [`/.sallyport/door/staff/link/${token}`, `/.sallyport/%64oor/staff/link/${token}`]) {
      expect((await ask(made, path, { method, headers: { cookie, origin: ORIGIN } })).status).toBe(404);
    }
  }
  expect(made.backend.requests).toEqual([]);
  expect((await ask(made, "/.sallyport/other", { headers: { cookie } })).status).toBe(200); // the backend's own
});

test("ID-20 a link with a slash too many was told to the backend, unspent", async () => {
  const { scene: made, secrets } = await scene("Authorization");
  const { cookie, link } = secrets;
  const spelled = [
    "//.sallyport/door/friends/link/",
    "/.sallyport//door/friends/link/",
    "/.sallyport/door/friends//link/",
  ];
  spelled.push(
    "/open/.sallyport/door/friends/link/",
    "/.Sallyport/Door/Friends/Link/",
    "/.sallyport%2Fdoor/friends/link/",
  );
  spelled.push("/%252Esallyport/door/friends/link/");
  for (const path of spelled) {
    expect((await ask(made, path + link, { headers: { cookie } })).status, path).toBe(404);
    // The page that says so is asked for an icon, and the browser says where it comes from.
    const referer = `${ORIGIN}${path.replace("%2F", "/").replace("%25", "%")}${link}`;
    await ask(made, "/favicon.ico", { headers: { cookie, referer } });
  }
  expect(made.backend.requests).toHaveLength(spelled.length);
  expect(made.backend.requests.join("")).not.toContain(link);
});

test("a field that backends use, too, passes where no door's token is in it", async () => {
  const { scene: made, secrets } = await scene("Authorization");
  const headers = { cookie: secrets.cookie, authorization: "Bearer mine", "x-staff-key": "mine" };
  await ask(made, "/", { headers });
  await ask(made, "/open", { headers });
  for (const request of made.backend.requests) {
    expect(request).toContain("authorization: Bearer mine\r\n");
    expect(request).toContain("x-staff-key: mine\r\n");
  }
  expect(made.backend.requests).toHaveLength(2);
});

test("ID-20 a password that a script sent to the form's address with a slash too many was told to the backend", async () => {
  const made = await doorScene();
  const cookie = await enter(made);
  for (const path of [
    "/.sallyport/door/friends/enter/",
    "/open/.sallyport/door/friends/enter",
    "//.sallyport/door/friends/enter",
  ]) {
    for (const method of ["POST", "PUT"]) {
      const form = { way: "password", secret: "correct horse" };
      expect((await ask(made, path, { method, form, headers: { cookie } })).status, path).toBe(404);
    }
  }
  expect(made.backend.requests).toEqual([]);
});

test("30,000 words in a field that may hold a token were all hashed: a visitor's request cost the gateway 100 ms", async () => {
  const { scene: made } = await scene("Authorization");
  const many = (words: number): Record<string, string> => ({ "x-staff-key": Array(words).fill("a").join(" ") });
  for (const words of [60, 1000]) expect((await ask(made, "/open", { headers: many(words) })).status).toBe(200);
  const seen = made.backend.requests.map((request) => /x-staff-key: a a/i.test(request));
  expect(seen, "what was not looked at does not pass").toEqual([true, false]);
});
