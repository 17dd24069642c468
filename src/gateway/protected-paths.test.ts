import { once } from "node:events";
import { linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { PassThrough } from "node:stream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { BackendPlace } from "../proxy/options.ts";
import { guardedDial, ProtectedPaths } from "./protected-paths.ts";

const root = mkdtempSync(path.join(tmpdir(), "sallyport-protected-"));
const state = path.join(root, "var", "state");
const socket = path.join(root, "run", "api.sock");
const key = path.join(root, "etc", "auth.key");
const server = createServer();
const guarded = new ProtectedPaths([state, socket, key]);

beforeAll(async () => {
  for (const folder of ["var/state/deep", "run", "etc", "www"]) mkdirSync(path.join(root, folder), { recursive: true });
  writeFileSync(key, "secret");
  writeFileSync(path.join(root, "www", "index.html"), "hello");
  symlinkSync(state, path.join(root, "www", "state"));
  symlinkSync(socket, path.join(root, "www", "link.sock"));
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  linkSync(socket, path.join(root, "www", "hard.sock"));
  linkSync(key, path.join(root, "www", "hard.key"));
});
afterAll(() => {
  server.close();
  rmSync(root, { recursive: true, force: true });
});

describe("RT-9 a target never exposes ourselves", () => {
  test.each([
    ["var/state", true],
    ["var/state/deep", true],
    ["var/state/not-yet", true],
    ["var", true],
    [".", true],
    ["www/state", true],
    ["etc/auth.key", true],
    ["etc", true],
    ["www", false],
    ["www/index.html", false],
    ["not-there", false],
  ])("%s is refused: %s", (name, isRefused) => {
    const config = { Web: { "gw:443": { Handlers: { "/": { Path: path.join(root, name) } } } } };
    expect(guarded.refusal(config) !== undefined).toBe(isRefused);
    expect(guarded.refusal({ Foreground: { session: config } }) !== undefined).toBe(isRefused);
  });

  test.each(["/", "/proc", "/proc/self/environ", "/dev/mem", "/sys/kernel"])("%s is refused", (place) => {
    expect(guarded.refusal({ Web: { "gw:443": { Handlers: { "/": { Path: place } } } } })).toMatch(/cannot serve/);
  });

  test("asked again for each file: the folder above may be served by then, the secret in it not", () => {
    expect(guarded.mayOpen(path.join(root, "www", "index.html"))).toBe(true);
    expect(guarded.mayOpen(path.join(state, "deep"))).toBe(false);
    expect(guarded.mayOpen(key)).toBe(false);
    expect(guarded.mayOpen(path.join(root, "www", "hard.key"))).toBe(false);
    expect(guarded.mayOpen(path.join(root, "etc"))).toBe(true);
  });
});

test("RT-9 a secret that a services file names when it is read again", () => {
  const later = new ProtectedPaths([]);
  const config = { Web: { "gw:443": { Handlers: { "/": { Path: path.join(root, "etc") } } } } };
  expect(later.refusal(config)).toBeUndefined();
  later.add([key]);
  later.add([state]);
  expect(later.refusal(config)).toMatch(/cannot serve/);
  expect(later.mayOpen(key)).toBe(false);
});

describe("RT-7 our own sockets are never backends", () => {
  test.each(["run/api.sock", "www/link.sock", "www/hard.sock", "www/../run/api.sock"])("%s", (name) => {
    const target = path.join(root, name);
    expect(guarded.mayDial(target)).toBe(false);
    expect(guarded.refusal({ TCP: { "80": { TCPForward: `unix:${target}` } } })).toMatch(/own admin socket/);
    const web = { "gw:80": { Handlers: { "/": { Proxy: `unix:${target}` } } } };
    expect(guarded.refusal({ Services: { "svc:a": { Web: web } } })).toMatch(/own admin socket/);
  });

  test("asked again at every dial, as what a name leads to may have changed", async () => {
    const dialled: BackendPlace[] = [];
    const dial = guardedDial((place) => {
      dialled.push(place);
      return new PassThrough();
    }, guarded);
    const later = path.join(root, "www", "later.sock");
    dial({ path: later });
    symlinkSync(socket, later);
    const refused = dial({ path: later });
    expect((await once(refused!, "error"))[0]).toMatchObject({ code: "GATEWAY_TARGET_REFUSED" });
    dial({ host: "127.0.0.1", port: 80 });
    expect(dialled).toEqual([{ path: later }, { host: "127.0.0.1", port: 80 }]);
  });

  test("an abstract name is none of our files", () => {
    expect(guarded.mayDial(`\0${socket}`)).toBe(true);
  });

  test("another socket is a backend", () => {
    expect(guarded.mayDial(path.join(root, "run", "other.sock"))).toBe(true);
  });
});

describe("RT-8 where no backend is, none is configured", () => {
  test.each([
    ["http://169.254.169.254/latest/meta-data", /link-local/],
    ["169.254.169.254", /link-local/],
    ["http://2852039166/", /link-local/],
    ["https+insecure://[fe80::1]:443", /link-local/],
    ["http://239.1.2.3", /multicast/],
  ])("%s", (target, reason) => {
    const web = { "gw:80": { Handlers: { "/": { Text: "hello" }, "/x": { Proxy: target } } } };
    expect(guarded.refusal({ Web: web })).toMatch(reason);
    expect(guarded.refusal({ Services: { "svc:a": { Web: web } } })).toMatch(reason);
  });

  test.each(["169.254.169.254:80", "[fe80::1]:22", "255.255.255.255:9"])("TCP to %s", (target) => {
    expect(guarded.refusal({ TCP: { "22": { TCPForward: target } } })).toMatch(/no backend is there/);
  });

  test.each(["3000", "localhost:3000", "http://10.0.0.5", "https://backend.internal:8443", "http://0.0.0.0:3000"])(
    "%s is one",
    (target) => {
      expect(guarded.refusal({ Web: { "gw:80": { Handlers: { "/": { Proxy: target } } } } })).toBeUndefined();
    },
  );
});
