import { mkdtempSync, rmSync, statSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { idleGateway } from "../../../test/suites/local-gateway.ts";
import { Fault } from "../../base/fault.ts";
import { silentLog } from "../../base/log.ts";
import { serveConfigEtag } from "../../config/serve-document.ts";
import { applyMaskedPrefs, EMPTY_PREFS, type Notify, type Prefs, type StoredServeConfig } from "../../wire/ipn.ts";
import { isAdmitted, parseGoDuration, parseWatchMask } from "./admission.ts";
import { type LocalApiBackend, openLocalApi } from "./index.ts";

let folder = "";
let socket = "";
let config: StoredServeConfig = null;
let prefs: Prefs = EMPTY_PREFS;
let watching: { notify: (notify: Notify) => void; closed: boolean }[] = [];
let api: { close(): Promise<void> };
const EMPTY_TAG = "74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b";

const backend: LocalApiBackend = {
  ...idleGateway,
  serveConfig: () => ({ config, etag: serveConfigEtag(config) }),
  setServeConfig: async (next, ifMatch) => {
    if (ifMatch !== undefined && ifMatch !== serveConfigEtag(config))
      throw new Fault("GATEWAY_ETAG_MISMATCH", "another");
    config = next;
  },
  prefs: () => prefs,
  editPrefs: async (change) => {
    prefs = applyMaskedPrefs(prefs, change);
    return prefs;
  },
  watch: (mask, onNotify) => {
    const one = { notify: onNotify, closed: false };
    watching.push(one);
    if ((mask & 2) !== 0) onNotify({ State: 6 });
    const session = watching.length.toString(16).padStart(16, "0");
    const close = (): void => {
      one.closed = true;
    };
    return { session, close };
  },
};

beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "sallyport-api-"));
  socket = path.join(folder, "deep", "s.sock");
  config = null;
  prefs = EMPTY_PREFS;
  watching = [];
  api = await openLocalApi({ socketPath: socket, backend, log: silentLog });
});
afterEach(async () => {
  await api.close();
  rmSync(folder, { recursive: true, force: true });
});

function open(
  method: string,
  name: string,
  body?: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const options = { socketPath: socket, method, path: name.startsWith("/") ? name : `/localapi/v0/${name}` };
    const call = request(
      { ...options, setHost: false, headers: { Host: "local-tailscaled.sock", ...headers } },
      resolve,
    );
    if (headers["Host"] === "") call.removeHeader("Host");
    call.once("error", reject);
    call.end(body);
  });
}

async function ask(method: string, name: string, body?: string, headers?: Readonly<Record<string, string>>) {
  const response = await open(method, name, body, headers);
  let text = "";
  for await (const part of response) text += String(part);
  return { status: response.statusCode, text, headers: response.headers };
}

test("CF-5 where nobody can say who connects, the socket is only for its owner", async () => {
  const blind = path.join(folder, "blind.sock");
  const opened = await openLocalApi({ socketPath: blind, backend, log: silentLog, credentials: null });
  expect(statSync(blind).mode & 0o777).toBe(0o600);
  await opened.close();
});

test("CF-5 a running gateway keeps its socket", async () => {
  await expect(openLocalApi({ socketPath: socket, backend, log: silentLog })).rejects.toThrow(
    /another gateway answers/,
  );
});

test("CF-5 something that is no socket is left alone", async () => {
  const plain = path.join(folder, "deep");
  await expect(openLocalApi({ socketPath: plain, backend, log: silentLog })).rejects.toThrow(/wanted a socket/);
});

const hosts: readonly [host: string, status: number][] = [
  ["local-tailscaled.sock", 200],
  ["", 200],
  ["localhost:9109", 403],
  ["127.0.0.1:9110", 403],
  ["[::1]:9111", 403],
  ["100.100.100.100:41112", 403],
];
for (const [host, wanted] of hosts) {
  test(`CF-5 Host "${host}" is answered with ${wanted}`, async () => {
    expect((await ask("GET", "status", undefined, { Host: host })).status).toBe(wanted);
  });
}

test("CF-5 pages in a browser are refused, bodies are bounded, CONNECT is refused", async () => {
  expect((await ask("GET", "status", undefined, { Origin: "http://evil" })).status).toBe(403);
  expect((await ask("GET", "status", undefined, { Origin: "" })).status).toBe(403);
  expect((await ask("GET", "status", undefined, { Referer: "http://evil" })).status).toBe(403);
  expect((await ask("POST", "serve-config", "x".repeat(1024 * 1024 + 1))).status).toBe(413);
  expect(isAdmitted({ host: "evil.example" })).toBe(false);
});

test("tools that ask for what a gateway does not have are told so, each in its own document", async () => {
  expect(JSON.parse((await ask("GET", "tka/status")).text)).toMatchObject({ Enabled: false, StateID: 0 });
  expect(JSON.parse((await ask("GET", "profiles/")).text)).toEqual([]);
  expect(JSON.parse((await ask("GET", "profiles/current")).text)).toEqual({});
  expect(JSON.parse((await ask("GET", "dns-config")).text)).toEqual({});
  expect(JSON.parse((await ask("GET", "suggest-exit-node")).text)).toEqual({ ID: "", Name: "" });
  expect((await ask("POST", "bugreport")).status).toBe(500);
  expect((await ask("GET", "bugreport")).status).toBe(405);
});

test("unknown names and methods", async () => {
  expect((await ask("GET", "nope")).status).toBe(404);
  expect((await ask("GET", "%zz")).status).toBe(404);
  expect((await ask("GET", "/other")).status).toBe(404);
  expect((await ask("GET", "/")).status).toBe(200);
  expect((await ask("DELETE", "serve-config")).status).toBe(405);
  expect((await ask("GET", "logout")).status).toBe(405);
  expect((await ask("POST", "logout")).status).toBe(204);
});

test("CF-4 a write with an old tag is refused (cases 58, 59)", async () => {
  const first = await ask("GET", "serve-config");
  expect([first.text, first.headers.etag]).toEqual(["null", EMPTY_TAG]);
  const body = '{"TCP":{"80":{"HTTP":true}}}';
  expect((await ask("POST", "serve-config", body, { "If-Match": EMPTY_TAG })).status).toBe(200);
  const again = await ask("POST", "serve-config", body, { "If-Match": EMPTY_TAG });
  expect([again.status, again.text]).toEqual([412, "etag mismatch\n"]);
  const second = await ask("GET", "serve-config");
  expect(second.text).toBe(body);
  expect((await ask("POST", "serve-config", "null", { "If-Match": second.headers.etag ?? "" })).status).toBe(200);
  expect((await ask("GET", "serve-config")).text).toBe("null");
});

test("what is no configuration is refused", async () => {
  for (const body of ["{", '{"TCP":{"x":{}}}', '{"TCP":{"80":{"HTTP":1}}}', "[]", '{"Web":7}']) {
    const found = await ask("POST", "serve-config", body);
    expect([found.status, JSON.parse(found.text).error]).toEqual([500, expect.stringMatching(/^decoding config: /)]);
  }
  expect(config).toBeNull();
});

async function nextLine(response: IncomingMessage): Promise<Notify> {
  for await (const part of response.iterator({ destroyOnReturn: false })) return JSON.parse(String(part)) as Notify;
  throw new Error("ended");
}

test("a foreground part lives as long as its stream (cases 60, 61)", async () => {
  const one = await open("GET", "watch-ipn-bus?mask=2");
  const first = await nextLine(one);
  expect(first).toEqual({
    Version: "sallyport",
    SessionID: "0000000000000001",
    ErrMessage: null,
    LoginFinished: null,
    State: 6,
    Prefs: null,
    NetMap: null,
    Engine: null,
    BrowseToURL: null,
    DriveShares: null,
  });
  const two = await open("GET", "watch-ipn-bus?mask=2");
  await nextLine(two);
  const part = (port: string) => ({ TCP: { [port]: { HTTP: true } } });
  const both = { Foreground: { "0000000000000001": part("80"), "0000000000000002": part("81") } };
  expect((await ask("POST", "serve-config", JSON.stringify(both))).status).toBe(200);
  const ended = new Promise((resolve) => one.once("end", resolve));
  one.resume();
  const only = { Foreground: { "0000000000000002": part("81") } };
  expect((await ask("POST", "serve-config", JSON.stringify(only))).status).toBe(200);
  await ended;
  expect(watching[1]?.closed).toBe(false);
  two.destroy();
  await expect.poll(() => config).toEqual({});
  await expect.poll(() => watching[1]?.closed).toBe(true);
});

test("a watcher that asks for what there is not is refused (case 69)", async () => {
  expect(parseWatchMask("4352")).toHaveProperty("refusal");
  expect(parseWatchMask("65536")).toHaveProperty("refusal");
  expect(parseWatchMask("x")).toEqual({ refusal: "bad mask" });
  expect(parseWatchMask("524290")).toEqual({ mask: 524290 });
  expect((await ask("GET", "watch-ipn-bus?mask=65536")).status).toBe(400);
});

test("a reader that falls behind is told and closed (case 70)", async () => {
  const slow = await open("GET", "watch-ipn-bus?mask=0");
  slow.pause();
  await expect.poll(() => watching.length).toBe(1);
  const filler = "x".repeat(200_000);
  for (let count = 0; count < 200; count += 1) watching[0]?.notify({ BrowseToURL: filler });
  let text = "";
  for await (const part of slow) text += String(part);
  const last = JSON.parse(text.trimEnd().split("\n").at(-1) ?? "") as Notify;
  expect(last.ErrMessage).toBe("IPN bus consumer fell behind; closing watch");
});

test("only what is marked changes in the preferences", async () => {
  const body = '{"Hostname":"x","HostnameSet":true,"CorpDNS":true,"AdvertiseTagsSet":true,"Config":null}';
  const found = await ask("PATCH", "prefs", body);
  expect(found.status).toBe(200);
  expect(JSON.parse(found.text)).toEqual({ ...EMPTY_PREFS, Hostname: "x" });
  expect((await ask("PATCH", "prefs", "[")).status).toBe(400);
});

test("private keys stay inside", async () => {
  prefs = { ...EMPTY_PREFS, Config: { PrivateNodeKey: "privkey:secret", NodeID: "1" } };
  expect((await ask("GET", "prefs")).text).not.toContain("secret");
});

test("a query that lacks a part, or has a wrong one, is refused", async () => {
  const cases: readonly [method: string, name: string, status: number][] = [
    ["GET", "whois", 400],
    ["GET", "whois?addr=alice", 400],
    ["GET", "whois?addr=100.64.0.1", 404],
    ["GET", "whois?addr=%5Bfd7a::1%5D:80", 404],
    ["POST", "ping?ip=x&type=disco", 400],
    ["POST", "ping?ip=100.64.0.1", 400],
    ["POST", "ping?ip=100.64.0.1&type=disco&size=-1", 400],
    ["POST", "ping?ip=100.64.0.1&type=disco", 500],
    ["POST", "query-feature", 400],
    ["GET", "cert/x.t?type=zip", 400],
    ["GET", "cert/x.t?min_validity=5", 400],
    ["GET", "cert/x.t?type=pair", 500],
  ];
  for (const [method, name, wanted] of cases) expect((await ask(method, name)).status, name).toBe(wanted);
  expect([parseGoDuration("1h30m"), parseGoDuration("0s"), parseGoDuration("5")]).toEqual([5400, 0, undefined]);
});

test("a dead gateway's socket file is replaced", async () => {
  const stale = path.join(folder, "stale.sock");
  // Binding and closing without unlink is what a crash leaves; node unlinks on close, so it is bound by a link.
  const server = createServer().listen(stale);
  await new Promise((resolve) => server.once("listening", resolve));
  const { linkSync } = await import("node:fs");
  const left = path.join(folder, "left.sock");
  linkSync(stale, left);
  await new Promise((resolve) => server.close(resolve));
  const replaced = await openLocalApi({ socketPath: left, backend, log: silentLog });
  expect(statSync(left).isSocket()).toBe(true);
  await replaced.close();
});
