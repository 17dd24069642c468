import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import { afterEach, describe, expect, test, vi } from "vitest";
import { extension, helloMessage, inRecords, nameExtension } from "../../test/suites/client-hellos.ts";
import { publicName } from "../../test/suites/ingress-scene.ts";
import { parsePrefix } from "../base/address.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { Gauges } from "./gauges.ts";
import { Ingress } from "./ingress.ts";
import { NameTable } from "./public-names.ts";

// Time tells what is not public only where more or other work is done for it (FN-3). So it is the work that is compared
// here, which a busy machine does not change; `bench/alert-times.ts` has the times.

afterEach(() => vi.restoreAllMocks());

const LENGTH = 900;
const UNRECOGNIZED = "alert 15030300020270";

/** All of one length: what is longer takes longer, whatever it says. */
function helloOf(...before: readonly Buffer[]): Buffer {
  const bare = helloMessage({ before }).length;
  return inRecords(helloMessage({ before, after: [extension(21, Buffer.alloc(LENGTH - bare - 4))] }));
}
const named = (name: string): Buffer => helloOf(nameExtension(name));

/** What the ingress does for one visitor, step by step. */
function stepsFor(hello: Buffer, names: NameTable): readonly string[] {
  const steps: string[] = [];
  const step =
    <A extends unknown[], R>(what: string, work: (...args: A) => R) =>
    (...args: A): R => {
      steps.push(what);
      return work(...args);
    };
  const clock: Clock = {
    now: step("clock", () => 0),
    wall: step("wall clock", () => 0),
    at: step("timer", () => step("no timer", () => undefined)),
  };
  const log = new Proxy({} as Log, { get: (_, level) => step(`log ${String(level)}`, () => log) });
  for (const of of ["find", "named"] as const) {
    const look = NameTable.prototype[of] as (...args: unknown[]) => unknown;
    vi.spyOn(NameTable.prototype, of).mockImplementation(function (this: NameTable, ...args: unknown[]) {
      steps.push(`names: ${of}`);
      return look.apply(this, args);
    } as never);
  }
  const gauge = Gauges.prototype.of;
  vi.spyOn(Gauges.prototype, "of").mockImplementation(function (this: Gauges, key) {
    steps.push("gauge");
    return gauge.call(this, key);
  });
  const ingress = new Ingress({
    names: step("names", () => names),
    dial: step("dial", () => Promise.reject(new Error("nobody is delivered here"))),
    clock,
    log,
  });
  const socket = Object.assign(new Duplex({ read() {}, write: (_bytes, _encoding, done) => done() }), {
    remoteAddress: "192.0.2.7",
    remotePort: 4711,
    resetAndDestroy: step("reset", () => undefined),
    pause: step("pause", () => undefined),
    resume: step("resume", () => undefined),
  });
  vi.spyOn(socket, "end").mockImplementation(((bytes: Uint8Array) => {
    steps.push(`alert ${Buffer.from(bytes).toString("hex")}`);
    return socket;
  }) as never);
  ingress.accept(socket as unknown as Socket, 443); // no kernel below it: what is done to it is all that is looked at
  steps.length = 0;
  socket.emit("data", hello);
  vi.restoreAllMocks();
  // Whatever is here by now was done in the turn in which the hello came: nothing was waited for.
  return [...steps];
}

const deny = new Map([["shy.mesh.test:443", { deny: [parsePrefix("192.0.2.0/24")!] }]]);
const table = new NameTable([
  publicName("web.mesh.test"),
  publicName("*.demo.mesh.test"),
  publicName("odd.mesh.test", { ports: new Set([8443]) }),
  publicName("shy.mesh.test", { rules: deny }),
]);
const UNKNOWN = stepsFor(named("stranger.mesh.test"), table);
const LABEL = "x".repeat(63);

describe("FN-3 the same alert by the same work, at once", () => {
  test("which is a look at the table of public names, and the alert: no other node, no file, no certificate, no log", () => {
    expect(UNKNOWN.filter((step) => step !== "clock" && step !== "pause")).toEqual([
      "names",
      "names: find",
      "names: named",
      UNRECOGNIZED,
      "resume",
      "timer",
    ]);
  });

  test.each<[kind: string, hello: Buffer]>([
    ["unknown, of another length", named("a.test")],
    ["private: a node of the mesh, of whose name no ingress is told", named("payroll.mesh.test")],
    ["below a public name", named("x.web.mesh.test")],
    ["two levels below a wildcard", named("a.b.demo.mesh.test")],
    ["the domain of a wildcard", named("demo.mesh.test")],
    ["public, on another port", named("odd.mesh.test")],
    ["not ours, with a dot at its end", named("stranger.mesh.test.")],
    ["not ours, in capitals", named("STRANGER.Mesh.Test")],
    ["not ours, IDN as it should be", named("xn--bcher-kva.example")],
    ["IDN as raw UTF-8", named(Buffer.from("bücher.example").toString("latin1"))],
    ["an IPv4 address", named("203.0.113.9")],
    ["an IPv6 address", named("2001:db8::9")],
    ["an IPv6 address in brackets", named("[2001:db8::9]")],
    ["a name of 253", named(`${LABEL}.${LABEL}.${LABEL}.${"y".repeat(61)}`)],
    ["a name of 254", named(`${LABEL}.${LABEL}.${LABEL}.${"y".repeat(62)}`)],
    ["a name of 255", named(`${LABEL}.${LABEL}.${LABEL}.${LABEL}`)],
    ["a name of 256", named("z".repeat(256))],
    ["a name of 512", named("z".repeat(512))],
    ["a label of 64", named(`x${LABEL}.test`)],
    ["a public name with a zero byte behind it", named("web.mesh.test\0.evil.test")],
    ["an asterisk", named("*.demo.mesh.test")],
    ["odd text", named("../../etc/passwd")],
    ["a dot", named(".")],
    ["no name at all", helloOf()],
  ])("%s", (_kind, hello) => {
    expect(hello.length).toBe(LENGTH + 5);
    expect(stepsFor(hello, table)).toEqual(UNKNOWN);
  });

  test("a visitor whom the owner of a public name keeps out hears it at once, too", () => {
    expect(stepsFor(named("shy.mesh.test"), table)).toEqual(UNKNOWN);
  });

  test("with nothing public at all, and with ten thousand names", () => {
    const many = Array.from({ length: 10_000 }, (_, i) => publicName(`n${i}.mesh.test`));
    for (const names of [new NameTable([]), new NameTable(many)])
      for (const hello of [named("stranger.mesh.test"), named("203.0.113.9"), helloOf()])
        expect(stepsFor(hello, names)).toEqual(UNKNOWN);
  });

  test.each(["web.mesh.test", "web.mesh.test.", "WEB.Mesh.test", "x.demo.mesh.test"])(
    "%s is another matter",
    (name) => {
      expect(stepsFor(named(name), table)).toContain("dial");
    },
  );
});

test.each([
  ["an empty list of names", extension(0, Buffer.of(0, 0))],
  ["an empty extension", extension(0)],
  ["an empty name", nameExtension("")],
  ["two names", nameExtension("web.mesh.test", "payroll.mesh.test")],
  ["a name of another kind", extension(0, Buffer.of(0, 4, 1, 0, 1, 0x61))],
])("FN-3 %s is no TLS (RFC 6066 section 3), whatever is public", (_kind, part) => {
  const steps = stepsFor(helloOf(part), table);
  expect(steps).toContain("alert 15030300020232");
  expect(steps).not.toContain("names");
  expect(stepsFor(helloOf(part), new NameTable([]))).toEqual(steps);
});
