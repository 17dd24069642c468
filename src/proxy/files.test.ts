import { spawn, spawnSync } from "node:child_process";
import { linkSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import path from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { closeScenes, GATE, onClose, type ProxyScene, proxyScene, webConfig } from "../../test/suites/proxy-scene.ts";
import { scratchFolder } from "../../test/suites/scratch.ts";
import type { ConnDuplex } from "../base/duplex.ts";

afterEach(closeScenes);

const top = scratchFolder();
const root = path.join(top, "www");
const outside = path.join(top, "outside");
const SECRET = "SECRET of another place";
const socket = createServer();

beforeAll(async () => {
  for (const folder of ["www/sub/deep", "www/page", "www/linked-index", "outside/deep"])
    mkdirSync(path.join(top, folder), { recursive: true });
  for (const file of ["outside/a.txt", "outside/deep/b.txt", "outside/index.html", "www/.env", "beside.txt"])
    writeFileSync(path.join(top, file), SECRET);
  writeFileSync(path.join(top, "www-more.txt"), SECRET);
  for (const file of [
    "www/a.txt",
    "www/sub/b.txt",
    "www/page/index.html",
    "www/new\nline.txt",
    "www/ü.txt",
    "www/a%2Fb.txt",
  ])
    writeFileSync(path.join(top, file), "hello");
  symlinkSync(path.join(outside, "a.txt"), path.join(root, "out.txt"));
  symlinkSync("../outside", path.join(root, "out"));
  symlinkSync("/proc/self", path.join(root, "self"));
  symlinkSync("loop", path.join(root, "loop"));
  symlinkSync("a.txt", path.join(root, "in.txt"));
  symlinkSync(path.join(outside, "index.html"), path.join(root, "linked-index/index.html"));
  linkSync(path.join(root, "a.txt"), path.join(root, "hard.txt"));
  // Devices only where the system lets us make one; elsewhere these names are just not there.
  spawnSync("mknod", [path.join(root, "zero"), "c", "1", "5"]);
  spawnSync("mknod", [path.join(root, "sub/null.txt"), "c", "1", "3"]);
  spawnSync("mkfifo", [path.join(root, "pipe"), path.join(root, "sub/pipe.txt")]);
  await new Promise<void>((resolve) => socket.listen(path.join(root, "socket"), resolve));
});
afterAll(() => {
  socket.close();
});

function files(options: Parameters<typeof proxyScene>[1] = {}): ProxyScene {
  return proxyScene(webConfig({ "/": { Path: `${root}/` }, "/one": { Path: path.join(root, "a.txt") } }), options);
}

/** One request after another on a connection for as long as it stays open. */
function asker({ connect }: ProxyScene): (target: string, method?: string) => Promise<string> {
  let client: ConnDuplex | undefined;
  return (target, method = "GET") => {
    if (client?.writable !== true) client = connect(80);
    const stream = client;
    return new Promise((resolve) => {
      let text = "";
      const settle = (): void => {
        stream.off("data", onData).off("close", settle).off("end", settle);
        if (/\r\nconnection: close/i.test(text)) stream.destroy();
        resolve(text);
      };
      const onData = (bytes: Buffer): void => {
        text += bytes.toString("latin1");
        const head = text.indexOf("\r\n\r\n") + 4;
        const length = method === "HEAD" ? 0 : Number(/\r\ncontent-length: (\d+)/i.exec(text)?.[1] ?? 0);
        if (head >= 4 && text.length >= head + length) settle();
      };
      stream.on("data", onData).on("close", settle).on("end", settle);
      stream.write(`${method} ${target} HTTP/1.1\r\nHost: ${GATE}\r\n\r\n`, "latin1");
    });
  };
}

const statusOf = (text: string): string => text.slice(9, 12);

test.each([
  ["/a.txt", "200"],
  ["/in.txt", "200"], // a link that stays inside
  ["/hard.txt", "200"],
  ["/sub/b.txt", "200"],
  ["/%C3%BC.txt", "200"],
  ["/new%0Aline.txt", "200"],
  ["/a.txt/", "301"],
  ["/sub", "301"],
  ["/page/", "200"],
  ["/one", "200"],
])("RT-6 %s is served: %s", async (target, status) => {
  const text = await asker(files())(target);
  expect(statusOf(text)).toBe(status);
  if (status === "200") expect(text).toContain("hello");
  expect(text).not.toContain(SECRET);
});

test.each([
  "/out.txt",
  "/out",
  "/out/",
  "/out/a.txt",
  "/out/deep/b.txt",
  "/self/environ",
  "/self/root/etc/passwd",
  "/loop",
  "/loop/a.txt",
  "/linked-index/index.html",
  "/pipe",
  "/sub/pipe.txt",
  "/socket",
  "/zero",
  "/sub/null.txt",
  "/.env",
  "/sub/../.env",
  "/%2eenv",
  "/..%2foutside/a.txt",
  "/%2e%2e/outside/a.txt",
  "/sub/..%2f..%2foutside/a.txt",
  "/sub/%2e%2e%2f%2e%2e%2foutside%2fa.txt",
  "/%252e%252e/outside/a.txt",
  "/..%5coutside%5ca.txt",
  "/..;/outside/a.txt",
  "/.%00./outside/a.txt",
  "/a.txt%00.html",
  "/%00",
  "/sub%00/../b.txt",
  "//outside/a.txt",
  "/www-more.txt",
  "/../www-more.txt",
  "/../beside.txt",
  "/not-there",
  `/${"a".repeat(4000)}`,
  `/${"a/".repeat(2000)}`,
  "/a.txt/b",
  "/one/",
  "/one/x",
  "/one/../.env",
])("RT-6 %s is not there", async (target) => {
  const ask = asker(files());
  for (const method of ["GET", "HEAD"]) {
    const text = await ask(target, method);
    expect(statusOf(text)).toMatch(/^40[04]$/);
    expect(text).not.toContain(SECRET);
  }
});

test("RT-6 a page that is a link out of the folder is not its page", async () => {
  const text = await asker(files())("/linked-index/");
  expect(statusOf(text)).toBe("404");
  expect(text).not.toContain(SECRET);
});

test("RT-6 what is protected is not served from a folder that is, not as its page either", async () => {
  const secret = path.join(root, "page/index.html");
  const ask = asker(files({ allowPath: (file) => file !== secret }));
  expect(statusOf(await ask("/page/"))).toBe("404");
  expect(statusOf(await ask("/page/index.html"))).toBe("404");
  expect(statusOf(await ask("/a.txt"))).toBe("200");
});

test("RT-9 a target that is protected since it was set is not there, folder or file, and a device or pipe is none", async () => {
  const isSecret = new Set([path.join(root, "page"), path.join(root, "a.txt")]);
  const targets = {
    "/page": "page",
    "/one": "a.txt",
    "/link": "in.txt",
    "/pipe": "pipe",
    "/zero": "zero",
    "/sub": "sub",
  };
  const handlers = Object.entries(targets).map(([mount, name]) => [mount, { Path: path.join(root, name) }]);
  const config = webConfig(Object.fromEntries(handlers));
  const ask = asker(proxyScene(config, { allowPath: (file) => !isSecret.has(file) }));
  for (const target of ["/page/", "/page/index.html", "/page", "/one", "/link"])
    expect([target, statusOf(await ask(target))]).toEqual([target, "404"]);
  expect(statusOf(await ask("/sub/b.txt"))).toBe("200");
  expect(statusOf(await ask("/pipe"))).toBe("500");
  expect(statusOf(await ask("/zero"))).toMatch(/^(?:404|500)$/); // where nobody may make a device there is none
});

test("RT-6 a listing names what is here, in one line each, and nothing that begins with a dot", async () => {
  const text = await asker(files())("/");
  expect(statusOf(text)).toBe("200");
  expect(text).toContain('<a href="new%0Aline.txt">');
  expect(text).toContain('<a href="a%252Fb.txt">');
  expect(text).not.toContain(".env");
});

/** In a process of its own, for as long as we look on: names change hands as fast as the system can do it. */
const SWAP = `
  const fs = require("fs"), path = require("path");
  const [root, outside] = process.argv.slice(1);
  const parent = process.ppid;
  const at = (name) => path.join(root, name);
  fs.mkdirSync(at("turn"));
  fs.writeFileSync(at("turn/a.txt"), "hello");
  fs.writeFileSync(at("file.txt"), "hello");
  process.stdout.write("ready");
  while (process.ppid === parent) {
    fs.renameSync(at("turn"), at(".away"));
    fs.symlinkSync(outside, at("turn"));
    fs.symlinkSync(path.join(outside, "a.txt"), at(".link"));
    fs.renameSync(at(".link"), at("file.txt"));
    fs.unlinkSync(at("turn"));
    fs.renameSync(at(".away"), at("turn"));
    fs.writeFileSync(at(".file"), "hello");
    fs.renameSync(at(".file"), at("file.txt"));
  }
`;
/** `SALLYPORT_FUZZ`: all of the row. */
const ROUNDS = process.env["SALLYPORT_FUZZ"] === undefined ? 1500 : 10_000;

test("RT-6 names that become links between check and opening never lead outside", { timeout: 120_000 }, async () => {
  const swapped = path.join(top, "swapped");
  mkdirSync(swapped);
  const child = spawn(process.execPath, ["-e", SWAP, swapped, outside], { stdio: ["ignore", "pipe", "inherit"] });
  onClose(() => child.kill("SIGKILL"));
  await new Promise((resolve) => child.stdout.once("data", resolve));
  const ask = asker(proxyScene(webConfig({ "/": { Path: swapped } })));
  const seen = new Set<string>();
  const targets = ["/turn/a.txt", "/turn/", "/file.txt"];
  // The other process must have had its turns, too.
  const isSeen = (): boolean => targets.every((target) => seen.has(`${target} 200`) && seen.has(`${target} 404`));
  for (let i = 0; i < ROUNDS || !isSeen(); i++) {
    for (const target of targets) {
      const text = await ask(target);
      expect(text, `${target} in round ${i}`).not.toMatch(/SECRET|deep|index\.html/);
      seen.add(`${target} ${statusOf(text)}`);
    }
  }
  expect(child.exitCode).toBe(null);
});
