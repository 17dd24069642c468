import tls from "node:tls";
import { afterEach, expect, test } from "vitest";
import {
  ALICE,
  closeScenes,
  GATE,
  type ProxyScene,
  proxyScene,
  read,
  webConfig,
} from "../../test/suites/proxy-scene.ts";
import { fieldLines, type RecordingBackend, recordingBackend } from "../../test/suites/recording-backend.ts";
import { systemClock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { Assertions } from "../identity/assertions.ts";
import type { Callers } from "../identity/caller.ts";
import { assertionVerifier } from "../identity/index.ts";
import type { ProxyOptions } from "./options.ts";
import type { RouteRules } from "./route-rules.ts";

afterEach(closeScenes);

interface Stage extends ProxyScene {
  readonly backend: RecordingBackend;
  readonly events: string[];
  readonly lines: [event: string, fields: unknown][];
}

async function stage(rules: RouteRules, options: Partial<ProxyOptions> = {}): Promise<Stage> {
  const backend = await recordingBackend();
  const target = { Proxy: `http://127.0.0.1:${backend.port}`, AcceptAppCaps: ["a"] };
  const events: string[] = [];
  const lines: [string, unknown][] = [];
  const scene = proxyScene(webConfig({ "/": target, "/strict": target }), {
    rulesOf: ({ mount }) => (mount === "/strict" ? rules : undefined),
    count: (event) => events.push(event),
    log: logTo(lines),
    ...options,
  });
  return Object.assign(scene, { backend, events, lines });
}

function logTo(lines: [string, unknown][]): Log {
  const add = (event: string, fields?: unknown): void => void lines.push([event, fields]);
  return { debug: add, info: add, warn: add, error: add, with: () => logTo(lines) };
}

async function statusOf({ connect }: Stage, method: string, path: string, fields: string): Promise<string> {
  const client = connect(80);
  const done = read(client, (text) => text.includes("\r\n\r\n"));
  client.write(`${method} ${path} HTTP/1.1\r\nHost: ${GATE}\r\n${fields}\r\n`);
  const { text } = await done;
  client.destroy();
  return text.slice(9, 12);
}

const UPGRADE =
  "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const FROM: Readonly<Record<string, string>> = {
  "a program": "",
  "our own page": `Sec-Fetch-Site: same-origin\r\nOrigin: http://${GATE}\r\n`,
  "our own page, port named": `Origin: http://${GATE}:80\r\n`,
  "the address bar": "Sec-Fetch-Site: none\r\n",
  "another site": "Sec-Fetch-Site: cross-site\r\nOrigin: https://evil.example\r\n",
  "another site that hides itself": "Sec-Fetch-Site: cross-site\r\n",
  "an old browser on another site": "Origin: https://evil.example\r\n",
  "a sandboxed frame": "Origin: null\r\n",
  "our name over TLS": `Origin: https://${GATE}\r\n`,
  "another port of ours": `Origin: http://${GATE}:8080\r\n`,
  "an origin that is none": "Origin: evil\r\n",
};
const OURS = ["a program", "our own page", "our own page, port named", "the address bar"];

test.each(Object.entries(FROM))("ID-19: unsafe requests and upgrades from %s", async (from, fields) => {
  const made = await stage({ crossSite: "deny" });
  const isOurs = OURS.includes(from);
  for (const method of ["GET", "HEAD", "OPTIONS"]) expect(await statusOf(made, method, "/strict", fields)).toBe("200");
  const safe = made.backend.requests.length;
  for (const method of ["POST", "PUT", "PATCH", "DELETE"]) {
    expect([method, await statusOf(made, method, "/strict", fields)]).toEqual([method, isOurs ? "200" : "403"]);
  }
  expect(await statusOf(made, "GET", "/strict", UPGRADE + fields)).toBe(isOurs ? "101" : "403");
  expect(made.backend.requests.length - safe).toBe(isOurs ? 5 : 0);
  expect(made.events).toHaveLength(isOurs ? 0 : 5);
  // Without the rule it is the backend's business, as with upstream.
  expect(await statusOf(made, "POST", "/", fields)).toBe("200");
});

test("ID-19: 432 spellings of where a request comes from: what a foreign page could send never gets in, the rest does", async () => {
  const made = await stage({ crossSite: "deny" });
  const sites = [undefined, "same-origin", "none", "cross-site", "CROSS-SITE", "cross-site, none"];
  const origins = [undefined, `http://${GATE}`, `HTTP://${GATE.toUpperCase()}`, `http://${GATE}.evil.example`]
    .concat([`http://${GATE}@evil.example`, "null"])
    .map((origin) => ({ origin, isOurs: origin === undefined || new RegExp(`^http://${GATE}$`, "i").test(origin) }));
  const methods = ["POST", "PUT", "DELETE", "PATCH", "GET", "HEAD"];
  let asked = 0;
  for (const method of methods) {
    for (const site of sites) {
      for (const { origin, isOurs } of origins) {
        for (const name of ["Origin", "oRIGIN"]) {
          const fields = [site && `Sec-Fetch-Site: ${site}\r\n`, origin && `${name}: ${origin}\r\n`].join("");
          const isUpgrade = method === "GET";
          const hidesItself = origin === "null" && site === "same-origin" && !isUpgrade; // our own page, by its policy
          const isForeign = site?.toLowerCase().includes("cross-site") || !(isOurs || hidesItself);
          const isDenied = isForeign && method !== "HEAD";
          const wanted = isDenied ? "403" : isUpgrade ? "101" : "200";
          const status = await statusOf(made, method, "/strict", (isUpgrade ? UPGRADE : "") + fields);
          expect([method, fields, status]).toEqual([method, fields, wanted]);
          asked += isDenied ? 0 : 1;
          expect(made.backend.requests).toHaveLength(asked);
        }
      }
    }
  }
});

const OTHER_NAMES = ["Content_Length", "Transfer_Encoding", "X.Y", "webhook_id", "x~y", "X_Forwarded_For", "X!", "X'Y"];

test("ID-2: names that a backend may fold are dropped, but for listed ones, whose twins are dropped instead", async () => {
  const made = await stage({ otherNames: ["webhook_id", "Tailscale_User_Login", "X_Real_IP"] });
  const fields = `${OTHER_NAMES.map((name) => `${name}: odd\r\n`).join("")}webhook-id: twin\r\nWebhook.Id: twin\r\nTailscale_User_Login: evil\r\nX_Real_IP: evil\r\n`;
  expect(await statusOf(made, "GET", "/", fields)).toBe("200");
  expect(await statusOf(made, "GET", "/strict", fields)).toBe("200");
  const [plain, strict] = made.backend.requests.map(fieldLines);
  const isOdd = ([, value]: [string, string]): boolean => /odd|twin|evil/.test(value);
  expect(plain!.filter(isOdd)).toEqual([["webhook-id", "twin"]]);
  expect(strict!.filter(isOdd)).toEqual([["webhook_id", "odd"]]);
});

test("ID-2: over 600 names with one other character each reach no backend, and all are 400 where the operator asks for it", async () => {
  const dropping = await stage({});
  const rejecting = await stage({ onOtherName: "reject" });
  const bases = ["Content-Length", "Transfer-Encoding", "Host", "Cookie", "X-Forwarded-For", "Webhook-Id", "a"];
  const names = bases.flatMap((base) =>
    [..."!#$%&'*+._`|~^"].flatMap((mark) => [
      ...[base.replaceAll("-", mark), `${mark}${base}`, `${base}${mark}`].filter((name) => name !== base),
      ...[1, 2, 3].map((at) => `${base.slice(0, at)}${mark}${base.slice(at)}`),
      `${base.toUpperCase()}${mark}${mark}x`,
    ]),
  );
  expect(new Set(names).size).toBeGreaterThan(600);
  for (let i = 0; i < names.length; i += 60) {
    const fields = names.slice(i, i + 60).map((name) => `${name}: evil\r\n`);
    expect(await statusOf(dropping, "GET", "/strict", `${fields.join("")}X-Plain: good\r\n`)).toBe("200");
    for (const field of fields)
      expect([field, await statusOf(rejecting, "GET", "/strict", field)]).toEqual([field, "400"]);
  }
  expect(rejecting.backend.requests).toHaveLength(0);
  const seen = dropping.backend.requests.flatMap(fieldLines);
  expect(seen.filter(([, value]) => /evil/.test(value))).toEqual([]);
  expect(seen.filter(([name]) => name.toLowerCase() === "x-plain")).toHaveLength(Math.ceil(names.length / 60));
});

test.each(OTHER_NAMES)("ID-2: %s is 400 where the operator asks for it", async (name) => {
  const made = await stage({ onOtherName: "reject", otherNames: ["listed_name"] });
  expect(await statusOf(made, "GET", "/strict", `${name}: x\r\n`)).toBe("400");
  expect(await statusOf(made, "GET", "/strict", "listed_name: x\r\n")).toBe("200");
  expect(made.backend.requests).toHaveLength(1);
});

test("ID-14: a backend checks who calls by the signed assertion, which no caller can bring along", async () => {
  const assertions = await Assertions.create("https://gw.tail.test", systemClock);
  const callers: Callers = {
    of: () => ALICE,
    capabilities: () => '{"a":["ü"]}',
    epoch: 0,
    revoked: () => new AbortController().signal,
  };
  const made = await stage({}, { assertions, callers });
  const forged = await (await Assertions.create("https://gw.tail.test", systemClock)).sign(
    { ...ALICE, login: "root@example.com" },
    `http://${GATE}`,
    undefined,
  );
  expect(await statusOf(made, "GET", "/", `Sallyport-Assertion: ${forged}\r\nsallyport_assertion: ${forged}\r\n`)).toBe(
    "200",
  );
  const fields = fieldLines(made.backend.requests[0]!).map(([name, value]) => [name.toLowerCase(), value] as const);
  expect(fields.filter(([name]) => name.startsWith("sallyport-assertion"))).toHaveLength(1);
  const verify = assertionVerifier({
    jwks: assertions.jwks,
    issuer: "https://gw.tail.test",
    audience: `http://${GATE}`,
  });
  const identity = await verify(Object.fromEntries(fields));
  expect(identity).toMatchObject({ kind: "user", subject: ALICE.login, address: ALICE.address, node: ALICE.nodeName });
  expect(identity.capabilities["a"]).toEqual(["ü"]);
  await expect(verify({ "sallyport-assertion": forged })).rejects.toMatchObject({ code: "IDENTITY_ASSERTION" });
});

test("an assertion is for the service that the certificate names, whatever Host is sent over it", async () => {
  const assertions = await Assertions.create("https://gw.tail.test", systemClock);
  const made = await stage({}, { assertions });
  for (const host of [GATE, "GW.tail.test.:443", "other.tail.test", "other.tail.test:443", "gw"]) {
    const options = { socket: made.connect(443), servername: GATE, rejectUnauthorized: false };
    const client = tls.connect({ ...options, ALPNProtocols: ["http/1.1"] });
    client.on("error", () => void client.destroy());
    const done = read(client);
    client.write(`GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
    expect((await done).text).toMatch(/^HTTP\/1\.1 200 /);
    const fields = fieldLines(made.backend.requests.at(-1)!);
    const [, claims = ""] = fields.find(([name]) => name === "Sallyport-Assertion")![1].split(".");
    const { aud } = JSON.parse(Buffer.from(claims, "base64url").toString()) as { aud: string };
    expect(new URL(aud).host.replace(/\.$/, ""), host).toBe(GATE);
  }
});

test.each([
  ["capabilities", { capabilities: () => JSON.stringify({ a: ["x".repeat(9000)] }) }, "Tailscale-App-Capabilities"],
  ["a name", { of: () => ({ ...ALICE, displayName: "ü".repeat(3000) }) }, "Tailscale-User-Name"],
])("ID-8, ID-10: %s over the limit is left out, said and counted; the request is served", async (_, change, name) => {
  const callers: Callers = {
    of: () => ALICE,
    capabilities: () => undefined,
    epoch: 0,
    revoked: () => new AbortController().signal,
    ...change,
  };
  const made = await stage({}, { callers });
  expect(await statusOf(made, "GET", "/", "")).toBe("200");
  expect(fieldLines(made.backend.requests[0]!).map(([field]) => field)).not.toContain(name);
  expect(made.events).toEqual(["header_omitted"]);
  expect(made.lines).toContainEqual(["proxy.header_omitted", { name, longest: 8192 }]);
});
