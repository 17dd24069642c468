import { expect, test } from "vitest";
import type { ServeConfig } from "../../wire/serve-config.ts";
import { settledLeases } from "./lease-marks.ts";

const OWN = "web.mesh.example";
const tcp = (target: string): ServeConfig => ({ TCP: { 2222: { TCPForward: target } } });
const LEASED: ServeConfig = { ...tcp("localhost:22"), AllowFunnel: { "*:2222": true, [`${OWN}:2222`]: false } };
const RENAMED: ServeConfig = {
  ...tcp("localhost:22"),
  AllowFunnel: { "*:2222": true, "old.mesh.example:2222": false },
};
const UNMARKED: ServeConfig = { ...tcp("localhost:22"), AllowFunnel: { "*:2222": true } };

const after = (given: ServeConfig, before: ServeConfig | null, isEdit = true): ServeConfig =>
  settledLeases(given, { before, ownName: OWN, isEdit });

test("a new lease is marked, so that it can be seen whether somebody set the port anew", () => {
  expect(after(UNMARKED, null)).toEqual(LEASED);
  expect(after(LEASED, null)).toEqual(LEASED);
  expect(after({ Foreground: { a: UNMARKED } }, {})).toEqual({ Foreground: { a: LEASED } });
  expect(settledLeases(UNMARKED, { before: null, ownName: "", isEdit: false })).toEqual(UNMARKED);
});

// What upstream's programs write (serve_v2.go): they keep `*:2222`, and take out or turn on `<own name>:2222`.
test.each<[what: string, given: ServeConfig, before: ServeConfig]>([
  ["serve --tcp 2222 elsewhere", { ...tcp("localhost:23"), AllowFunnel: { "*:2222": true } }, LEASED],
  ["serve --tcp 2222, the same again", UNMARKED, LEASED],
  ["serve --tcp 2222 over a lease of the node's name before", { ...RENAMED, ...tcp("localhost:23") }, RENAMED],
  ["serve --tcp 2222 off", { AllowFunnel: { "*:2222": true } }, LEASED],
  ["serve --https 2222", { TCP: { 2222: { HTTPS: true } }, AllowFunnel: { "*:2222": true } }, LEASED],
])("the port is not public after %s", (_what, given, before) => {
  const { AllowFunnel, ...rest } = after(given, before);
  expect(AllowFunnel).toBeUndefined();
  expect(rest.TCP).toEqual(given.TCP);
  expect(after({ Foreground: { a: given } }, { Foreground: { a: before } }).Foreground?.["a"]).toEqual(rest);
});

test("funnel --tcp 2222 makes it public by name, and by that alone", () => {
  const named = { ...tcp("localhost:23"), AllowFunnel: { "*:2222": true, [`${OWN}:2222`]: true } };
  expect(after(named, LEASED).AllowFunnel).toEqual({ [`${OWN}:2222`]: true });
});

test.each<[what: string, given: ServeConfig, before: ServeConfig]>([
  ["another port is served", { ...LEASED, TCP: { ...LEASED.TCP, 80: { HTTP: true } } }, LEASED],
  ["its owner says it again, of something else", { ...LEASED, ...tcp("localhost:23") }, LEASED],
  ["the node has another name by now", RENAMED, RENAMED],
])("it stays public when %s", (_what, given, before) => {
  expect(after(given, before)).toEqual({ ...LEASED, TCP: given.TCP });
});

test("each port has its own mark: what upstream does to one lease is said of no other", () => {
  const both: ServeConfig = {
    TCP: { 2222: { TCPForward: "localhost:22" }, 2223: { TCPForward: "localhost:23" } },
    AllowFunnel: { "*:2222": true, "*:2223": true },
  };
  const marked = after(both, null);
  const [first, second] = [{ [`${OWN}:2222`]: false }, { [`${OWN}:2223`]: false }];
  expect(marked).toEqual({ ...both, AllowFunnel: { ...both.AllowFunnel, ...first, ...second } });
  expect(after(marked, marked)).toEqual(marked);
  // `serve --tcp 2222 localhost:22`, and 2223 as it was.
  const again = { ...both, AllowFunnel: { ...both.AllowFunnel, ...second } };
  expect(after(again, marked)).toEqual({ ...both, AllowFunnel: { "*:2223": true, ...second } });
});

test("a raw port is one of TCP: what becomes a website there is not public by the lease, whoever says so", () => {
  const web = { TCP: { 2222: { HTTPS: true } } };
  expect(after({ ...web, AllowFunnel: LEASED.AllowFunnel! }, LEASED)).toEqual(web);
  expect(after({ ...web, AllowFunnel: LEASED.AllowFunnel! }, null)).toEqual(web);
});

test("who never read the configuration keeps a lease as long as it is for the same thing", () => {
  expect(after(UNMARKED, LEASED, false)).toEqual(LEASED);
  expect(after({ ...UNMARKED, ...tcp("localhost:23") }, LEASED, false)).toEqual(tcp("localhost:23"));
});

test("a name's entry that is off says nothing, and goes with the lease", () => {
  expect(after({ ...tcp("localhost:22"), AllowFunnel: { [`${OWN}:2222`]: false } }, LEASED)).toEqual(
    tcp("localhost:22"),
  );
  const others = { [`${OWN}:443`]: false, [`${OWN}:8443`]: true };
  expect(after({ AllowFunnel: others }, {})).toEqual({ AllowFunnel: others });
});

const SHOP = "shop.example.org:2222";
const domain = (target: string, open: Record<string, boolean>): ServeConfig => ({ ...tcp(target), AllowFunnel: open });
const SOLD = domain("localhost:22", { [SHOP]: true, [`${OWN}:2222`]: false });

test("a TCP port that is public under a domain is marked, and a web port is not", () => {
  expect(after(domain("localhost:22", { [SHOP]: true }), null)).toEqual(SOLD);
  const web = { TCP: { 2222: { HTTPS: true } }, AllowFunnel: { [SHOP]: true } };
  expect(after(web, null)).toEqual(web);
});

// `tailscale serve --tcp 2222` said that it is the tailnet's, and it was the Internet's by the domain.
test.each<[what: string, given: ServeConfig, before: ServeConfig]>([
  ["serve --tcp 2222 elsewhere", domain("localhost:23", { [SHOP]: true }), SOLD],
  ["serve --tcp 2222, the same again", domain("localhost:22", { [SHOP]: true }), SOLD],
  ["serve --tcp 2222 off, and again", domain("localhost:23", { [SHOP]: true }), { AllowFunnel: { [SHOP]: true } }],
])("a port of a domain is not public after %s", (_what, given, before) => {
  expect(after(given, before)).toEqual({ TCP: given.TCP });
});

test.each<[what: string, given: ServeConfig, before: ServeConfig, open: Record<string, boolean>]>([
  ["its owner says it again, of something else", { ...SOLD, ...tcp("localhost:23") }, SOLD, SOLD.AllowFunnel!],
  [
    "funnel --tcp makes it public under the node's name, too",
    domain("localhost:23", { [SHOP]: true, [`${OWN}:2222`]: true }),
    SOLD,
    { [SHOP]: true, [`${OWN}:2222`]: true },
  ],
])("it stays the domain's when %s", (_what, given, before, open) => {
  expect(after(given, before)).toEqual({ ...given, AllowFunnel: open });
});
