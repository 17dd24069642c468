import { spawnSync } from "node:child_process";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { scratchFolder } from "../../../test/suites/scratch.ts";
import { silentLog } from "../../base/log.ts";
import { opensLocalFiles } from "../../config/serve-rules.ts";
import { EMPTY_PREFS, type StoredServeConfig } from "../../wire/ipn.ts";
import type { ServeConfig } from "../../wire/serve-config.ts";
import { permissionOf, refusalOfCall } from "./admission.ts";
import type { LocalApiBackend } from "./backend.ts";
import { openLocalApi } from "./server.ts";

const OWNER = 1000;
const OPERATOR = 1001;
const OTHER = 65_534;

describe("CF-5 the caller's user decides", () => {
  test.each([
    [0, true, true],
    [OWNER, true, true],
    [OPERATOR, true, false],
    [OTHER, false, false],
    [4_294_967_295, false, false],
  ])("uid %d: write %s, local admin %s", (uid, write, localAdmin) => {
    expect(permissionOf(uid, OWNER, OPERATOR)).toEqual({ write, localAdmin });
  });

  test.each([
    ["POST", "serve-config", "serve config denied"],
    ["PATCH", "prefs", "prefs write access denied"],
    ["POST", "logout", "logout access denied"],
    ["GET", "cert/gw.mesh.test", "cert access denied"],
    ["POST", "certificates/renew", "cert access denied"],
    ["POST", "certificates/revoke", "cert access denied"],
    ["POST", "certificates/roll-key", "cert access denied"],
    ["POST", "certificates/advice", "cert access denied"],
    ["GET", "certificates", undefined],
    ["GET", "serve-config", undefined],
    ["GET", "status", undefined],
    ["GET", "whois", undefined],
  ])("who may only read: %s %s", (method, name, refusal) => {
    expect(refusalOfCall(method, name, { write: false, localAdmin: false })).toBe(refusal);
    expect(refusalOfCall(method, name, { write: true, localAdmin: false })).toBeUndefined();
  });

  const web = (handler: object): ServeConfig => ({ Web: { "gw:443": { Handlers: { "/": handler } } } });
  test.each<[string, ServeConfig, boolean]>([
    ["a proxy", web({ Proxy: "http://127.0.0.1:3000" }), false],
    ["a text", web({ Text: "hi" }), false],
    ["a path", web({ Path: "/srv" }), true],
    ["a unix socket", web({ Proxy: "unix:/run/app.sock" }), true],
    ["a unix socket by TCP", { TCP: { "80": { TCPForward: "unix:/run/app.sock" } } }, true],
    ["a path in the foreground", { Foreground: { s: web({ Path: "/srv" }) } }, true],
    ["a path of a Service", { Services: { "svc:a": web({ Path: "/srv" }) as object } }, true],
  ])("cases 62 to 64: %s needs a local admin: %#", (_, config, needs) => {
    expect(opensLocalFiles(config)).toBe(needs);
  });
});

// Only root can become somebody else, and only where node:ffi asks the kernel does the socket admit them.
const canAsk = process.getuid?.() === 0 && process.getBuiltinModule("node:ffi") !== undefined;

describe.skipIf(!canAsk)("CF-5 another user of this machine", () => {
  const folder = scratchFolder();
  const socketPath = path.join(folder, "s", "api.sock");
  let config: StoredServeConfig = null;
  let operator: number | undefined;
  let api: { close(): Promise<void> };
  const backend = {
    serveConfig: () => ({ config, etag: "x" }),
    setServeConfig: async (next: StoredServeConfig) => {
      config = next;
    },
    prefs: () => EMPTY_PREFS,
    operatorUid: () => operator,
    watch: () => ({ session: "0", close: () => undefined }),
  } as Partial<LocalApiBackend> as LocalApiBackend;

  beforeEach(async () => {
    spawnSync("chmod", ["755", folder]);
    config = null;
    api = await openLocalApi({ socketPath, backend, log: silentLog });
  });
  afterEach(() => api.close());

  /** Status of one call, made by curl under another user. */
  async function ask(uid: number, method: string, name: string, body?: string): Promise<string> {
    const { spawn } = await import("node:child_process");
    const data = body === undefined ? [] : ["--data", body];
    const url = `http://local-tailscaled.sock/localapi/v0/${name}`;
    const curl = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", socketPath, "-X", method];
    const child = spawn("setpriv", [`--reuid=${uid}`, `--regid=${uid}`, "--clear-groups", ...curl, ...data, url]);
    let text = "";
    child.stdout.on("data", (chunk) => {
      text += String(chunk);
    });
    await new Promise((resolve) => child.on("close", resolve));
    return text;
  }

  const text = '{"Web":{"gw:80":{"Handlers":{"/":{"Text":"hi"}}}}}';
  const file = '{"Web":{"gw:80":{"Handlers":{"/":{"Path":"/etc"}}}}}';

  test("reads, and changes nothing", async () => {
    operator = undefined;
    expect(await ask(OTHER, "GET", "serve-config")).toBe("200");
    for (const [method, name] of [
      ["POST", "serve-config"],
      ["PATCH", "prefs"],
      ["POST", "logout"],
      ["POST", "start"],
      ["GET", "cert/gw.mesh.test"],
    ] as const) {
      expect(await ask(OTHER, method, name, text), name).toBe("403");
    }
    expect(config).toBeNull();
    expect(await ask(0, "POST", "serve-config", file)).toBe("200");
  });

  test("as the operator serves a port or a text, and no file", async () => {
    operator = OTHER;
    expect(await ask(OTHER, "POST", "serve-config", text)).toBe("200");
    expect(await ask(OTHER, "POST", "serve-config", file)).toBe("401");
    expect(config).toEqual(JSON.parse(text));
  });
});
