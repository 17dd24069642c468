import { writeFileSync } from "node:fs";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { scratchFolder } from "../../test/suites/scratch.ts";
import { Screen } from "../../test/suites/typed-command.ts";
import { readSecretFile } from "./given-file.ts";
import { leasesOf, limitsOf, listenersOf } from "./ingress.ts";
import { main } from "./main.ts";
import { portFlag } from "./port-flag.ts";
import { parseServerArgs } from "./server/server-flags.ts";
import { derpPortOf, ingressOf } from "./server/server-ingress.ts";

const server = (...args: readonly string[]) => ingressOf(parseServerArgs(args).values);

test("ports for TLS, and one that sends on to them", () => {
  expect(listenersOf("203.0.113.5", "443,8443", "80")).toEqual([
    { address: "203.0.113.5", port: 443 },
    { address: "203.0.113.5", port: 8443 },
    { address: "203.0.113.5", port: 80, isPlain: true },
  ]);
  expect(listenersOf("", "443", "0")).toEqual([{ address: "", port: 443 }]);
});

test.each([
  ["here", "443", "80"],
  ["127.0.0.1", "443,", "80"],
  ["127.0.0.1", "0", "80"],
  ["127.0.0.1", "65536", "80"],
  ["127.0.0.1", "443", "http"],
])("refused: address %j, ports %j, plain %j", (address, ports, plain) => {
  expect(() => listenersOf(address, ports, plain)).toThrow(/^Cannot take visitors /);
});

test("raw ports that may be leased, and none that the ingress has itself", async () => {
  const listeners = listenersOf("", "443,8443", "80");
  expect(leasesOf(undefined, "", listeners)).toEqual({});
  expect(leasesOf("2222,7000-7010", "203.0.113.5", listeners)).toEqual({
    leases: {
      ranges: [
        { first: 2222, last: 2222 },
        { first: 7000, last: 7010 },
      ],
      address: "203.0.113.5",
    },
  });
  for (const text of ["ssh", "", "2222-", "0"])
    expect(() => leasesOf(text, "", listeners)).toThrow(/^Cannot lease ports /);
  for (const text of ["443", "8000-9000", "1-100"])
    expect(() => leasesOf(text, "", listeners)).toThrow(/listens on it/);
  const { relay } = await server("--address", "203.0.113.5", "--ingress-ports", "443", "--lease-ports", "2222");
  expect(relay?.leases).toEqual({ ranges: [{ first: 2222, last: 2222 }], address: "203.0.113.5" });
});

test.each([
  [
    ["--address", "0.0.0.0", "--lease-ports", "8000-8100"],
    "Cannot lease port 8080: the server itself listens on it (--port)",
  ],
  [["--ingress-address", "0.0.0.0", "--derp-port", "9000", "--lease-ports", "9000"], "port 9000: the server itself"],
  [
    ["--https-listen", "4443", "--lease-ports", "4000-5000"],
    "port 4443: the server itself listens on it (--https-listen)",
  ],
  [["--dns-zone", "a.example", "--dns-listen", "0.0.0.0:5353", "--lease-ports", "5353"], "(--dns-listen)"],
  [["--ingress-address", "203.0.113.5", "--dns-zone", "a.example", "--lease-ports", "53,8080"], undefined],
])(
  "a port to let that the server had itself failed when somebody leased it, in the log alone: %j",
  async (flags, found) => {
    const opened = server("--ingress-ports", "443", ...flags);
    if (found === undefined) expect((await opened).relay?.leases).toBeDefined();
    else await expect(opened).rejects.toThrow(found);
  },
);

test("limits, which a company behind one address may need larger, for an ingress alone and in the server", async () => {
  expect(limitsOf({})).toEqual({});
  const given = { "visitor-rate": "1", "name-rate": "2", "visitor-connections": "32768", "visitor-hellos": "1000" };
  const limits = {
    ...{ visitorConnectionsPerSecond: 1, nameConnectionsPerSecond: 2 },
    ...{ visitorOpen: 32_768, visitorPending: 1000 },
  };
  expect(limitsOf(given)).toEqual(limits);
  const flags = Object.entries(given).map(([flag, value]) => `--${flag}=${value}`);
  expect((await server("--address", "203.0.113.5", "--ingress-ports", "443", ...flags)).relay?.limits).toEqual(limits);
  for (const text of ["0", "1001", "1e2", "-1", "", "64 "])
    expect(() => limitsOf({ "visitor-hellos": text })).toThrow(`Cannot use --visitor-hellos "${text}": wanted`);
});

test("the server's own ingress", async () => {
  expect(await server()).toEqual({});
  expect(await server("--ingress-addresses", "203.0.113.5,2001:db8::5")).toEqual({
    relayAddresses: ["203.0.113.5", "2001:db8::5"],
  });
  const folder = scratchFolder(onTestFinished);
  for (const name of ["cert", "key"]) writeFileSync(path.join(folder, name), name);
  const tls = ["--tls-cert", path.join(folder, "cert"), "--tls-key", path.join(folder, "key")];
  expect(
    await server("--address", "203.0.113.5", "--ingress-ports", "443,8443", "--ingress-http-port", "0", ...tls),
  ).toEqual({
    funnelPorts: [443, 8443],
    relay: {
      listeners: [443, 8443].map((port) => ({ address: "203.0.113.5", port })),
      certificate: { cert: "cert", key: "key" },
    },
  });
});

test("the server's own ingress in a cloud, which cannot find out by itself where the world reaches it", async () => {
  const flags = ["--address", "10.0.0.5", "--ingress-ports", "443"];
  const { relay } = await server(...flags, "--ingress-public-address", "203.0.113.5,2001:DB8::5");
  expect(relay?.publicAddresses).toEqual(["203.0.113.5", "2001:db8::5"]);
  await expect(server(...flags, "--ingress-public-address", "web")).rejects.toThrow('Cannot be reached at "web"');
  await expect(server("--ingress-public-address", "203.0.113.5")).rejects.toThrow(
    "Cannot use --ingress-public-address",
  );
});

test.each([
  [[], 8443],
  [["--ingress-ports", "443,10000"], 8443],
  [["--ingress-ports", "443,8443,10000"], 3340],
  [["--ingress-ports", "443,8443", "--derp-port", "9000"], 9000],
])("DERP does not want a port of the ingress: %j", (args, port) => {
  expect(derpPortOf(parseServerArgs(args).values)).toBe(port);
});

test.each(["x", "65536", "", "1e3", "0x50"])("a port %j is refused", (text) => {
  expect(() => portFlag("port", text, 1)).toThrow(`Cannot use --port "${text}": wanted a port, 0 to 65535`);
});

test("a key file that is empty or missing is said, and no key at all is not meant", async () => {
  const folder = scratchFolder(onTestFinished);
  const file = path.join(folder, "key");
  await expect(readSecretFile(file, "a key")).rejects.toThrow(`Cannot read "${file}": ENOENT, wanted a key`);
  writeFileSync(file, "\n");
  await expect(readSecretFile(file, "a key")).rejects.toThrow(`Cannot use "${file}": it is empty, wanted a key`);
  writeFileSync(file, "secret\n");
  expect(await readSecretFile(file, "a key")).toBe("secret");
});

test.each([
  [["--ingress-addresses", "mesh.example.com"]],
  [["--ingress-address", "203.0.113.5"]],
  [["--lease-ports", "2222"]],
  [["--drain", "5"]],
  [["--visitor-hellos", "500"]],
  [["--ingress-ports", "443", "--visitor-hellos", "0"]],
  [["--ingress-ports", "443", "--tls-cert", "/nothing"]],
  [["--tls-cert", "/nothing", "--tls-key", "/nothing"]],
  [["--ingress-ports", "443", "--tls-cert", "/nothing", "--tls-key", "/nothing"]],
])("refused: %j", async (args) => {
  await expect(server(...args)).rejects.toThrow(/^Cannot (?:use|read) /);
});

test.each<readonly [string, ...string[]]>([
  ["ingress", "--prots", "443"],
  ["ingress", "more"],
  ["ingress", "--login-server", "http://127.0.0.1:1", "--ports", "0"],
  ["ingress", "--login-server", "http://127.0.0.1:1", "--lease-ports", "ssh"],
  ["run", "--prots"],
  ["run", "--login-server", "http://127.0.0.1:1", "--trust-ingress", "relay"],
  ["server", "--prots"],
])("a wrong flag had the exit status of a refusal: %s %s %s %s %s", async (...words) => {
  const screen = new Screen();
  expect(await main(words, screen.io)).toBe(2);
  expect(screen.stderr).not.toBe("");
});
