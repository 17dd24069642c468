import fc from "fast-check";
import { afterEach, expect, test } from "vitest";
import { closeScenes, GATE, proxyScene, read, webConfig } from "../../test/suites/proxy-scene.ts";
import { recordingBackend } from "../../test/suites/recording-backend.ts";
import { findMount, readTarget } from "./path.ts";
import type { Mount, Site } from "./serve-lookup.ts";

afterEach(closeScenes);

const siteOf = (...points: readonly string[]): Site =>
  new Map<string, Mount>(points.map((point) => [point, { point, handler: { Text: point } }]));

test.each([
  ["/foobar", ["/", "/foo"], "/"],
  ["/foobar", ["/foo"], undefined],
  ["/foo", ["/", "/foo"], "/foo"],
  ["/foo/", ["/", "/foo"], "/foo"],
  ["/foo/bar", ["/", "/foo"], "/foo"],
  ["/foo.bar", ["/", "/foo"], "/"],
  ["/foo-bar", ["/", "/foo"], "/"],
  ["/foo;bar", ["/", "/foo"], "/"],
  ["/fo", ["/", "/foo"], "/"],
  ["/fo/o", ["/", "/foo"], "/"],
  ["/foobar/baz", ["/", "/foo", "/foobar"], "/foobar"],
  ["/foobar", ["/foo/", "/foobar/"], "/foobar/"],
  ["/foo", ["/foo/"], "/foo/"],
  ["/foo/bar", ["/foo", "/foo/b"], "/foo"],
  ["/foo/b", ["/foo", "/foo/b"], "/foo/b"],
  ["/foo/b/c", ["/foo", "/foo/b"], "/foo/b"],
  ["/Foo", ["/", "/foo"], "/"],
  ["/foo/../foobar", ["/", "/foo"], "/"],
  ["/foo%2Fbar", ["/", "/foo"], "/foo"],
  ["/foo%2fbar", ["/", "/foo", "/foo/bar"], "/foo/bar"],
  ["/%66oo", ["/", "/foo"], "/foo"],
  ["/foo%62ar", ["/", "/foo"], "/"],
  ["/f%C3%B6%C3%B6", ["/", Buffer.from("/föö").toString("latin1")], Buffer.from("/föö").toString("latin1")],
])("RT-2 a prefix is whole segments: %s among %j belongs to %s", (path, points, wanted) => {
  expect(findMount(siteOf(...points), readTarget(path)!.decoded)?.point).toBe(wanted);
});

/** Has the one answer come with all of its body? */
function isWhole(text: string): boolean {
  const head = text.indexOf("\r\n\r\n") + 4;
  return head >= 4 && text.length >= head + Number(/\r\ncontent-length: (\d+)/i.exec(text)?.[1]);
}

/** A proxy whose every mount leads to a folder of one backend, named after the mount. */
async function stage(mounts: Readonly<Record<string, string>>) {
  const backend = await recordingBackend();
  const handlers = Object.entries(mounts).map(([point, base]) => [
    point,
    { Proxy: `http://127.0.0.1:${backend.port}${base}` },
  ]);
  const { connect } = proxyScene(webConfig(Object.fromEntries(handlers)));
  let client = connect(80);
  /** What the backend was asked for, or the status of the refusal. */
  const ask = async (path: string): Promise<string> => {
    if (!client.writable) client = connect(80);
    const before = backend.requests.length;
    const answer = read(client, isWhole);
    client.write(`GET ${path} HTTP/1.1\r\nHost: ${GATE}\r\n\r\n`, "latin1");
    const { text } = await answer;
    if (/\r\nconnection: close/i.test(text)) client = connect(80);
    const asked = backend.requests.slice(before);
    expect(asked.length).toBe(text.startsWith("HTTP/1.1 200 ") ? 1 : 0);
    return asked[0]?.split(" ")[1] ?? text.slice(9, 12);
  };
  return ask;
}

test.each([
  ["/foo", "/f"],
  ["/foo/bar", "/f/bar"],
  ["/foobar", "/r/foobar"],
  ["/foo%2fbar", "/f/%2fbar"], // below the mount, whether the backend takes it for a slash or not
  ["/foo%2Fdeep", "404"], // of another mount, which is not how it is spelled
  ["/%66oo/bar", "404"],
  ["/foo/deep/x", "/d/x"],
  ["/foo/deeper", "/f/deeper"],
  ["//foo/bar", "404"],
])("RT-2 %s belongs to one mount only: the backend is asked for %s", async (path, wanted) => {
  const ask = await stage({ "/": "/r", "/foo": "/f", "/foo/deep": "/d" });
  expect(await ask(path)).toBe(wanted);
});

test.each(["/admin%3f", "/admin%3Fx/y", "/admin%23", "/admin%253fx", "/a%09dmin", "/admin%0D%0a/x"])(
  "%s was asked of the backend behind `/`, which read a path of `/admin`",
  async (path) => {
    const ask = await stage({ "/": "/r", "/admin": "/a" });
    expect(await ask(path)).toBe("400");
    expect(await ask(path.replace("a", "o")), "of no mount").toBe(`/r${path.replace("a", "o")}`);
  },
);

/** As the most lenient of backends read a path, step by step: every way to walk through these habits counts. */
function everyReading(path: string): Set<string> {
  const decode = (text: string): string =>
    text.replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  const resolve = (text: string): string => {
    const stack: string[] = [];
    for (const segment of text.split("/").slice(1)) {
      if (segment === "..") stack.pop();
      else if (segment !== ".") stack.push(segment);
    }
    return `/${stack.join("/")}`;
  };
  const habits = [
    decode,
    (text: string) => text.replaceAll("\\", "/"),
    (text: string) => text.split(/[\0?#]/)[0]!,
    (text: string) => text.replace(/[\t\n\r]/g, ""),
    (text: string) => text.replace(/;[^/\\]*/g, ""),
    (text: string) => text.replace(/\/{2,}/g, "/"),
    resolve,
  ];
  const found = new Set([decode(path), decode(decode(path))]);
  for (let round = 0; round < 3; round++)
    for (const habit of habits.slice(1)) for (const reading of [...found]) found.add(habit(reading));
  return found;
}

const PIECES = [
  ..."foo,bar,admin,a,foobar,.,..,...,%2e,%2E%2e,.%2e,%252e%252e,%252e,..;,..;x=y,;x,admin;x,foo;,%3badmin".split(","),
  ..."%2f,%2F,%5c,%5C,%252f,%255c,%00,admin%00,%2500,%61dmin,%2561dmin,%41,foo%2fbar,%2fadmin,%5cadmin,".split(","),
  ..."..%2f,..%5c,%2e%2e%2f,..%00,%252e%252e%252fadmin,..%255c,admin%20,%20,%c0%af,%c0%ae%c0%ae,%e0%80%af,:,@".split(
    ",",
  ),
  ..."admin%3f,%3f,foo%23x,%253f,ad%09min,%2509admin,fo%0ao".split(","),
];
const MOUNTS = ["/", "/foo", "/foo/bar", "/admin", "/a/", "/foobar"] as const;

/** Whose place a path is, by whole segments, slash by slash. */
function mountOf(reading: string): string {
  const segments = reading.split("/").filter((segment) => segment !== "");
  for (let count = segments.length; count > 0; count--) {
    const prefix = `/${segments.slice(0, count).join("/")}`;
    const found = MOUNTS.find((mount) => mount === prefix || mount === `${prefix}/`);
    if (found !== undefined) return found;
  }
  return "/";
}

test("RT-1 2,000 paths over 6 mounts: however a backend reads what it is asked for, that is where the rights were asked", async () => {
  const bases = Object.fromEntries(MOUNTS.map((mount, i) => [mount, `/base${i}`]));
  const ask = await stage(bases);
  const path = fc
    .array(fc.constantFrom(...PIECES), { minLength: 1, maxLength: 5 })
    .map((pieces) => `/${pieces.join("/")}`);
  const outcomes = { passed: 0, refused: 0 };
  for (const asked of fc.sample(path, { numRuns: 2000, seed: 22 })) {
    const got = await ask(asked);
    if (/^40[04]$/.test(got)) {
      outcomes.refused++;
      continue;
    }
    outcomes.passed++;
    const base = /^\/base\d/.exec(got)![0];
    const mount = MOUNTS.find((one) => bases[one] === base)!;
    for (const reading of everyReading(got)) expect(`${reading}/`, `${asked} as ${got}`).toMatch(`${base}/`);
    // The mount's point in front again: what a backend with one tree for all mounts is asked for.
    const whole = `${mount === "/" ? "" : mount.replace(/\/$/, "")}${got.slice(base.length)}`;
    for (const reading of everyReading(whole)) expect(mountOf(reading), `${asked} as ${whole}`).toBe(mount);
  }
  expect(outcomes.passed).toBeGreaterThan(300);
  expect(outcomes.refused).toBeGreaterThan(300);
}, 60_000);
