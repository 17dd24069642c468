import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { linkSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import path from "node:path";
import { PassThrough } from "node:stream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { scratchFolder } from "../../test/suites/scratch.ts";
import type { BackendPlace } from "../proxy/options.ts";
import type { ServeConfig } from "../wire/serve-config.ts";
import { guardedDial, ProtectedPaths } from "./protected-paths.ts";

const root = scratchFolder();
const state = path.join(root, "var", "state");
const socket = path.join(root, "run", "api.sock");
const key = path.join(root, "etc", "auth.key");
const server = createServer();
const guarded = new ProtectedPaths([state, socket, key]);
const UNSHARE = ["--mount", "--propagation", "private", ...(process.getuid?.() === 0 ? [] : ["--map-root-user"])];

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

test("RT-9 a place of ours that is not there yet is known by its name", () => {
  const early = new ProtectedPaths([path.join(root, "later", "state")]);
  const refusal = (name: string): string | undefined =>
    early.refusal({ Web: { "gw:443": { Handlers: { "/": { Path: path.join(root, name) } } } } });
  for (const name of ["later", "later/state", "later/state/keys"]) expect(refusal(name), name).toMatch(/cannot serve/);
  for (const name of ["later/state2", "lat", "www"]) expect(refusal(name), name).toBeUndefined();
  expect(early.mayOpen(path.join(root, "later", "state", "keys"))).toBe(false);
  expect(early.mayOpen(path.join(root, "later"))).toBe(true);
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

  test.each(["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0"])("the port of our own pages at %s", (host) => {
    let page: number | undefined;
    const pages = new ProtectedPaths([], () => page);
    const web: ServeConfig = { Web: { "gw:80": { Handlers: { "/": { Proxy: `http://${host}:4040` } } } } };
    const tcp: ServeConfig = { TCP: { "80": { TCPForward: `${host}:4040` } } };
    for (const config of [web, tcp]) expect(pages.refusal(config)).toBeUndefined();
    page = 4040;
    for (const config of [web, tcp]) expect(pages.refusal(config)).toMatch(/listens there itself/);
    const elsewhere = { TCP: { "80": { TCPForward: "192.0.2.1:4040" } } };
    expect(pages.refusal(elsewhere)).toBeUndefined();
    page = 4041;
    for (const config of [web, tcp]) expect(pages.refusal(config)).toBeUndefined();
  });

  const whyNot = spawnSync("unshare", [...UNSHARE, "true"]).status === 0 ? "" : " (no mount namespace to be had here)";

  // In a mount namespace of its own: what a test that is killed has mounted is gone with it.
  test.skipIf(whyNot !== "")(`bind mounts, also of the folders around, made after it was configured${whyNot}`, () => {
    const www = path.join(root, "www");
    for (const name of ["bound", "run", "var"]) mkdirSync(path.join(www, name));
    writeFileSync(path.join(www, "bound.sock"), "");
    writeFileSync(path.join(www, "bound.key"), "");
    writeFileSync(path.join(state, "deep", "node.key"), "secret");
    const script = `
      import { execFileSync } from "node:child_process";
      import { ProtectedPaths, guardedDial } from ${JSON.stringify(path.join(import.meta.dirname, "protected-paths.ts"))};
      const [www, mounts, places] = ${JSON.stringify([
        www,
        [
          [socket, `${www}/bound.sock`],
          [key, `${www}/bound.key`],
          [state, `${www}/bound`],
          [path.dirname(socket), `${www}/run`],
          [path.dirname(state), `${www}/var`],
        ],
        [state, socket, key],
      ])};
      const guarded = new ProtectedPaths(places);
      const sockets = ["bound.sock", "run/api.sock"].map((name) => www + "/" + name);
      const files = ["bound", "bound/deep/node.key", "bound.key", "var/state/deep/node.key"].map((name) => www + "/" + name);
      const look = async () => ({
        set: [...sockets.map((one) => ({ TCP: { 80: { TCPForward: "unix:" + one } } })),
          ...files.map((one) => ({ Web: { "gw:443": { Handlers: { "/": { Path: one } } } } }))].map((one) => guarded.refusal(one) !== undefined),
        dialled: await Promise.all(sockets.map((one) => new Promise((resolve) => {
          const refused = guardedDial(() => void resolve(false), guarded)({ path: one });
          refused?.once("error", ({ code }) => resolve(code === "GATEWAY_TARGET_REFUSED"));
        }))),
        opened: files.map((one) => !guarded.mayOpen(one)),
      });
      const before = await look();
      for (const [from, to] of mounts) execFileSync("mount", ["--bind", from, to]);
      console.log(JSON.stringify([before, await look()]));`;
    const words = [process.execPath, "--disable-warning=ExperimentalWarning", "--input-type=module", "-e", script];
    const { stdout, stderr } = spawnSync("unshare", [...UNSHARE, ...words], { encoding: "utf8" });
    expect(stderr).toBe("");
    const [no, yes] = [false, true].map((all) => ({
      set: Array(6).fill(all),
      dialled: Array(2).fill(all),
      opened: Array(4).fill(all),
    }));
    expect(JSON.parse(stdout)).toEqual([no, yes]);
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

  test.each([
    ...["2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518", "１６９.254.169.254", "169。254。169。254"],
    ...["169.254.169.254.", "0XE0000001", "224.1"],
  ])("TCP to an address that is spelled %s was refused only when it was dialled", (host) => {
    expect(guarded.refusal({ TCP: { "22": { TCPForward: `${host}:80` } } })).toMatch(/no backend is there/);
  });

  test.each(["127.1", "0x7f000001", "2130706433", "１２７.0.0.1", "0"])(
    "TCP to the port of our own pages at %s",
    (host) => {
      const pages = new ProtectedPaths([], () => 4040);
      expect(pages.refusal({ TCP: { "22": { TCPForward: `${host}:4040` } } })).toMatch(/listens there itself/);
      expect(pages.refusal({ TCP: { "22": { TCPForward: `${host}:22` } } })).toBeUndefined();
    },
  );

  test.each(["3000", "localhost:3000", "http://10.0.0.5", "https://backend.internal:8443", "http://0.0.0.0:3000"])(
    "%s is one",
    (target) => {
      expect(guarded.refusal({ Web: { "gw:80": { Handlers: { "/": { Proxy: target } } } } })).toBeUndefined();
    },
  );
});

test("RT-7 one refused target that stood there before does not let a second one in", () => {
  const web = (...places: readonly string[]): ServeConfig => ({
    Web: { "gw:443": { Handlers: Object.fromEntries(places.map((Path) => [`${Path}/`, { Path }])) } },
  });
  expect(guarded.refusal(web(state), web(state))).toBeUndefined();
  expect(guarded.refusal(web(state, key), web(state))).toMatch(/cannot serve/);
  expect(guarded.refusal(web(key, state), web(state))).toMatch(/cannot serve/);
});
