import { once } from "node:events";
import type http2 from "node:http2";
import fc from "fast-check";
import { afterEach, expect, test } from "vitest";
import {
  ALICE,
  closeScenes,
  GATE,
  http2Client,
  onClose,
  proxyScene,
  read,
  webConfig,
} from "../../test/suites/proxy-scene.ts";
import { fieldLines, type RecordingBackend, recordingBackend } from "../../test/suites/recording-backend.ts";
import type { Proof } from "../base/conn.ts";
import { connPair } from "../base/conn-pair.ts";
import { asDuplex, type ConnDuplex } from "../base/duplex.ts";
import { Fault } from "../base/fault.ts";
import type { Caller, Callers } from "../identity/caller.ts";
import { foldName, isForwarding, isReserved } from "../identity/reserved.ts";
import type { ReverseProxy } from "./proxy.ts";

afterEach(closeScenes);

/** Of each kind of caller; `SALLYPORT_FUZZ`: all of the row. */
const VARIANTS = process.env["SALLYPORT_FUZZ"] === undefined ? 300 : 3000;
const SEED = 20261121;
const VISITOR = "203.0.113.9";

const TAGGED: Caller = { kind: "tagged", nodeKey: "cc", nodeName: "ci", tags: ["tag:ci"], address: "100.64.0.3" };
const ROUTED: Caller = { kind: "routed", via: "dd", address: "10.1.0.7" };
const GUEST: Caller = { kind: "guest", issuer: "https://id.example", subject: "7", address: VISITOR };
const STRANGER: Caller = { kind: "anonymous", address: VISITOR };

type Wanted = Readonly<Record<string, string>>;

const CAPABILITIES = '{"a":[1]}';
const USER_FIELDS: Wanted = {
  "tailscale-user-login": ALICE.login,
  "tailscale-user-name": ALICE.displayName,
  "tailscale-user-profile-pic": "",
  "tailscale-headers-info": "https://tailscale.com/s/serve-headers",
};

const CALLERS: readonly [name: string, caller: Caller, isFunnel: boolean, reserved: Wanted][] = [
  [
    "user",
    ALICE,
    false,
    { ...USER_FIELDS, "tailscale-app-capabilities": CAPABILITIES, "sallyport-caller-kind": "user" },
  ],
  ["tagged", TAGGED, false, { "tailscale-app-capabilities": CAPABILITIES, "sallyport-caller-kind": "tagged" }],
  ["routed", ROUTED, false, { "tailscale-app-capabilities": CAPABILITIES, "sallyport-caller-kind": "routed" }],
  ["funnel", STRANGER, true, { "tailscale-funnel-request": "?1", "sallyport-caller-kind": "anonymous" }],
  [
    "guest",
    GUEST,
    true,
    {
      "tailscale-funnel-request": "?1",
      "sallyport-caller-kind": "guest",
      "sallyport-guest": '{"iss":"https://id.example","sub":"7"}',
    },
  ],
];

interface Stage {
  readonly backend: RecordingBackend;
  readonly proxy: ReverseProxy;
  connect(port: number): ConnDuplex;
}

async function stage(caller: () => Caller | Fault, isFunnel = false): Promise<Stage> {
  const backend = await recordingBackend();
  const target = `http://127.0.0.1:${backend.port}`;
  const callers: Callers = {
    of: caller,
    capabilities: (_, __, names) => JSON.stringify(Object.fromEntries(names.map((name) => [name, [1]]))),
    epoch: 0,
    revoked: () => new AbortController().signal,
  };
  const config = webConfig({
    "/": { Proxy: target, AcceptAppCaps: ["a"] },
    "/b": { Proxy: target, AcceptAppCaps: ["b"] },
  });
  // Forged fields of 7 KiB, five times, must meet more than a limit.
  const { proxy } = proxyScene(config, { callers, publicLimits: { headBytes: 64 * 1024 } });
  const connect = (port: number): ConnDuplex => {
    const [near, far] = connPair(proofOf(isFunnel, port));
    proxy.accept(far, port);
    const client = asDuplex(near);
    client.on("error", () => void client.destroy());
    onClose(() => client.destroy());
    return client;
  };
  return { backend, proxy, connect };
}

function proofOf(isFunnel: boolean, port: number): Proof {
  const destination = { address: "100.64.0.1", port };
  const source = { address: "100.64.0.2", port: 40_000 };
  if (isFunnel) return { kind: "ingress", nodeKey: "ee", visitor: { address: VISITOR, port: 4 }, destination };
  return { kind: "mesh", nodeKey: "aa", source, destination };
}

/** One after the other on one connection; the statuses of the answers. */
async function ask(client: ConnDuplex, requests: readonly string[]): Promise<string[]> {
  const done = read(
    client,
    (text) => [...text.matchAll(/HTTP\/1\.1 [2-5]\d\d/g)].length >= requests.length && /(?:ok|\n)$/.test(text),
  );
  for (const request of requests) client.write(request, "latin1");
  return [...(await done).text.matchAll(/HTTP\/1\.1 ([2-5]\d\d)/g)].map((match) => match[1]!);
}

const get = (fields: string, path = "/x"): string => `GET ${path} HTTP/1.1\r\nHost: ${GATE}\r\n${fields}\r\n`;

const NAMES = [
  ...[
    "User-Login",
    "User-Name",
    "User-Profile-Pic",
    "Headers-Info",
    "App-Capabilities",
    "Funnel-Request",
    "Anything",
  ].map((name) => `Tailscale-${name}`),
  ...["Caller-Kind", "Guest", "Assertion", "Proof", "Door-Token"].map((name) => `Sallyport-${name}`),
];

interface Forged {
  readonly name: string;
  readonly value: string;
  readonly times: number;
  readonly place: "first" | "between" | "last";
}

const forged: fc.Arbitrary<Forged> = fc
  .record({
    name: fc.constantFrom(...NAMES),
    cases: fc.array(fc.boolean(), { minLength: 30, maxLength: 30 }),
    marks: fc.array(fc.constantFrom("-", "-", "_", ".", "'", "~", "!", "^", "+", "--", "_-", "|", "`"), {
      minLength: 4,
      maxLength: 4,
    }),
    edge: fc.constantFrom("", "", "", "_", "-", "."),
    value: fc.constantFrom("forged", "", "forged ".repeat(1024).trim()),
    times: fc.constantFrom(1, 1, 2, 5),
    place: fc.constantFrom("first" as const, "between" as const, "last" as const),
  })
  .map(({ name, cases, marks, edge, ...rest }) => {
    let i = 0;
    const spelled = name.replace(/-/g, () => marks[i++ % marks.length]!);
    const cased = [...spelled].map((c, at) => (cases[at % cases.length] === true ? c.toUpperCase() : c.toLowerCase()));
    return { ...rest, name: edge + cased.join("") };
  });

function fieldsOf({ name, value, times, place }: Forged): string {
  const lines = `${name}: ${value}\r\n`.repeat(times);
  if (place === "between") return `X-One: 1\r\n${lines}X-Two: 2\r\n`;
  return place === "first" ? `${lines}X-One: 1\r\n` : `X-One: 1\r\n${lines}`;
}

/** Every field that folds to a reserved name is one of ours, once, with our value. */
function expectOurs(request: string, ofCaller: Wanted): void {
  const reserved = { ...ofCaller, "sallyport-hops": "1" };
  const found = fieldLines(request).filter(([name]) => isReserved(name));
  expect(Object.fromEntries(found.map(([name, value]) => [name.toLowerCase(), value]))).toEqual(reserved);
  expect(found).toHaveLength(Object.keys(reserved).length);
  expect(request).not.toContain("forged");
}

test.each(CALLERS)(
  "ID-1, ID-7, ID-20, WS-4: no spelling of a reserved name survives, caller is %s",
  async (_, caller, isFunnel, reserved) => {
    const { backend, connect } = await stage(() => caller, isFunnel);
    const all = fc.sample(forged, { numRuns: VARIANTS, seed: SEED });
    const [overHttp2, upgrades, plain] = [
      all.slice(0, VARIANTS / 5),
      all.slice(VARIANTS / 5, VARIANTS * 0.4),
      all.slice(VARIANTS * 0.4),
    ];

    expect(
      new Set(
        await ask(
          connect(80),
          plain.map((one) => get(fieldsOf(one))),
        ),
      ),
    ).toEqual(new Set(["200"]));

    const session = await http2Client({ connect });
    for (const { name, value, times } of overHttp2) {
      const stream = session.request({
        ":path": "/x",
        [name.toLowerCase()]: Array.from({ length: times }, () => value),
      });
      const [head] = (await once(stream, "response")) as [http2.IncomingHttpHeaders];
      expect(head[":status"]).toBe(200);
      stream.resume();
    }

    for (const one of upgrades) {
      const client = connect(80);
      client.write(get(`${UPGRADE}${fieldsOf(one)}`));
      expect((await read(client, (text) => text.includes("\r\n\r\n"))).text).toMatch(/^HTTP\/1.1 101/);
    }

    expect(backend.requests).toHaveLength(VARIANTS);
    for (const request of backend.requests) expectOurs(request, reserved);
  },
);

const UPGRADE =
  "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

const unknown = new Fault("IDENTITY_UNKNOWN_PEER", "not in the map");
const LOOKUPS: readonly [name: string, lookup: () => Caller | Fault, isServed: boolean][] = [
  ["tagged", () => TAGGED, true],
  ["routed", () => ROUTED, true],
  ["anonymous", () => STRANGER, true],
  ["unknown", () => unknown, false],
  ["expired", () => new Fault("IDENTITY_EXPIRED", "expired"), false],
  ["without a profile", () => new Fault("IDENTITY_UNKNOWN_USER", "no profile"), false],
  [
    "lookup throws",
    () => {
      throw new Error("broken");
    },
    false,
  ],
  [
    "lookup throws nothing",
    () => {
      throw undefined;
    },
    false,
  ],
];

test.each(LOOKUPS)(
  "ID-3: deletion is unconditional, and in doubt no backend is contacted: %s",
  async (_, lookup, isServed) => {
    const { backend, connect } = await stage(lookup);
    const requests = Object.keys(USER_FIELDS).map((name) => get(`${name}: forged\r\n`));
    expect(new Set(await ask(connect(80), requests))).toEqual(new Set([isServed ? "200" : "503"]));
    expect(backend.requests).toHaveLength(isServed ? requests.length : 0);
    for (const request of backend.requests) {
      expect(fieldLines(request).filter(([name]) => name.toLowerCase() in USER_FIELDS)).toEqual([]);
    }
  },
);

const FORWARDED = [
  ...[
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
  ],
  ...["X-Forwarded-Server", "X-Real-IP", "True-Client-IP", "X-Client-IP", "X-Original-URL", "X-Rewrite-URL"],
  ...["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"],
];

test("ID-4: what a caller says of where it came from is removed, ours is one address", async () => {
  const { backend, connect } = await stage(() => ALICE);
  const marks = ["-", "_", ".", "--", "~"];
  const spellings = FORWARDED.flatMap((name) =>
    marks.flatMap((mark) => [name, name.toLowerCase(), name.toUpperCase()].map((one) => one.replaceAll("-", mark))),
  );
  expect(spellings.length).toBeGreaterThan(200);
  await ask(
    connect(80),
    spellings.map((name) => get(`${name}: forged, 1.2.3.4\r\n`)),
  );
  expect(backend.requests).toHaveLength(spellings.length);
  for (const request of backend.requests) {
    const found = fieldLines(request).filter(([name]) => isForwarding(name));
    expect(found).toEqual([
      ["X-Forwarded-For", ALICE.address],
      ["X-Forwarded-Host", GATE],
    ]);
  }
});

test("ID-5: our fields cannot be deleted as hop-by-hop", async () => {
  const { backend, connect } = await stage(() => ALICE);
  const names = ["Tailscale-User-Login", "X-Forwarded-For", "Sallyport-Caller-Kind", "Tailscale-App-Capabilities"];
  const forms = [
    (list: string[]) => `Connection: ${list.join(", ")}\r\n`,
    (list: string[]) => `Connection: keep-alive,${list.join(",")}\r\n`,
    (list: string[]) => list.map((name) => `Connection: ${name}\r\n`).join(""),
    (list: string[]) => `connection: \t${list.join(" ,\t")} \r\n`,
    (list: string[]) => `CONNECTION: ${list.map((name) => `"${name}"`).join(",")}\r\n`,
  ];
  const lists = names.flatMap((name) => [[name], [name.toLowerCase()], [name.toUpperCase()], names, [name, "X-Own"]]);
  const requests = forms.flatMap((form) => lists.map((list) => get(form(list))));
  expect(requests.length).toBeGreaterThanOrEqual(100);
  await ask(connect(80), requests);
  expect(backend.requests).toHaveLength(requests.length);
  for (const request of backend.requests) {
    expect(request).toContain(`Tailscale-User-Login: ${ALICE.login}\r\n`);
    expect(request).toContain(`X-Forwarded-For: ${ALICE.address}\r\n`);
    expect(request).toContain("Sallyport-Caller-Kind: user\r\n");
    expect(request).toContain(`Tailscale-App-Capabilities: ${CAPABILITIES}\r\n`);
  }
});

test("ID-6: trailers carry nothing reserved, over HTTP/1 and HTTP/2", async () => {
  const { backend, connect } = await stage(() => ALICE);
  const names = [...NAMES, ...FORWARDED, "Tailscale_User_Login", "tailscale.user.login"].slice(0, 25);
  const requests = names.flatMap((name) =>
    ["", "TE: trailers\r\n"].map(
      (te) =>
        `POST /x HTTP/1.1\r\nHost: ${GATE}\r\n${te}Trailer: ${name}\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n${name}: forged\r\n\r\n`,
    ),
  );
  await ask(connect(80), requests);
  const session = await http2Client({ connect });
  for (const name of names) {
    const stream = session.request({ ":path": "/x", ":method": "POST", te: "trailers" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ [name.toLowerCase()]: "forged" }));
    stream.end("hi");
    await once(stream, "response");
    stream.resume();
  }
  expect(backend.requests).toHaveLength(requests.length + names.length);
  for (const request of backend.requests) {
    expect(request).not.toContain("forged");
    expect(request).toMatch(/2\r\nhi\r\n0\r\n\r\n$/);
    expect(
      fieldLines(request).filter(([name, value]) => name.toLowerCase() === "trailer" && isReserved(value)),
    ).toEqual([]);
  }
});

test("ID-9: capabilities belong to the request: two mounts interleaved on one HTTP/2 connection", async () => {
  const { backend, connect } = await stage(() => ALICE);
  const session = await http2Client({ connect });
  const streams = Array.from({ length: 300 }, (_, i) =>
    session.request({ ":path": i % 2 === 0 ? `/x${i}` : `/b/${i}` }),
  );
  await Promise.all(streams.map((stream) => once(stream.resume(), "end")));
  expect(backend.requests).toHaveLength(300);
  for (const request of backend.requests) {
    // The mount /b is cut off on the way: what is left of its paths begins with a digit.
    const wanted = /^GET \/\d/.test(request) ? '{"b":[1]}' : '{"a":[1]}';
    expect(fieldLines(request)).toContainEqual(["Tailscale-App-Capabilities", wanted]);
  }
});

test("ID-13: 2,000 ports that nobody serves reach nothing", async () => {
  let dials = 0;
  const { proxy } = proxyScene(webConfig({ "/": { Proxy: "http://127.0.0.1:1" } }), {
    dialBackend: () => {
      dials++;
      return undefined;
    },
  });
  for (let i = 0; i < 2000; i++) {
    const port = 1 + ((i * 32_719) % 65_535);
    if (port === 80 || port === 443) continue;
    const [near, far] = connPair(proofOf(false, port));
    const aborted = once(asDuplex(near).resume(), "error");
    expect(proxy.serves(port)).toBe(false);
    proxy.accept(far, port);
    expect((await aborted)[0]).toBeInstanceOf(Fault);
  }
  expect(dials).toBe(0);
});

/** How programs behind a gateway turn field names into variables. */
const FOLDINGS: Readonly<Record<string, (name: string) => string>> = {
  "CGI (RFC 3875)": (name) => name.toUpperCase().replaceAll("-", "_"),
  "a CGI that folds all punctuation": (name) => name.toUpperCase().replace(/[^A-Z0-9]/g, "_"),
  "WSGI, Rack, PSGI": (name) => name.toUpperCase().replaceAll("-", "_"),
  PHP: (name) => name.toUpperCase().replace(/[-. ]/g, "_"),
  "Go and Node": (name) => name.toLowerCase(),
  "runs of punctuation as one": (name) => foldName(name),
};

test.each(Object.entries(FOLDINGS))(
  "ID-17: as %s folds names, each variable has our value or is absent",
  async (_, fold) => {
    const { backend, connect } = await stage(() => TAGGED);
    const variants = fc.sample(forged, { numRuns: VARIANTS, seed: SEED + 1 });
    await ask(
      connect(80),
      variants.map((one) => get(fieldsOf(one))),
    );
    expect(backend.requests).toHaveLength(VARIANTS);
    const reserved = new Set(NAMES.map(fold));
    for (const request of backend.requests) {
      const variables = fieldLines(request).map(([name, value]) => [fold(name), value] as const);
      expect(variables.filter(([name]) => reserved.has(name)).sort()).toEqual([
        [fold("Sallyport-Caller-Kind"), "tagged"],
        [fold("Tailscale-App-Capabilities"), CAPABILITIES],
      ]);
    }
  },
);
