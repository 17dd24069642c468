import { describe, expect, test } from "vitest";
import type { ServeConfig } from "../wire/serve-config.ts";
import { serveWarnings } from "./serve-warnings.ts";

const proxy = (target: string): ServeConfig => ({
  Web: { "gw.mesh.test:443": { Handlers: { "/": { Proxy: target } } } },
});

test("a public name is said, unless a door stands before all of its mounts", () => {
  const site = "gw.mesh.test:443";
  const Handlers = { "/": { Text: "hello" }, "/open": { Text: "hello" } };
  const session: ServeConfig = { Web: { [site]: { Handlers } }, AllowFunnel: { [site]: true } };
  for (const config of [session, { Foreground: { session } }]) {
    expect(serveWarnings(config, (_name, _port, mount) => mount === "/")).toHaveLength(1);
    expect(serveWarnings(config, (name, port) => `${name}:${port}` === site)).toEqual([]);
    expect(serveWarnings({ ...session, Web: {} }, () => true)).toHaveLength(1); // nothing, or TCP, has no door
  }
});

describe("ID-14, CF-7: what an operator should know is said", () => {
  test.each([
    ["http://127.0.0.1:3000"],
    ["http://127.1.2.3:3000"],
    ["http://[::1]:3000"],
    ["http://localhost:3000/base"],
    ["unix:/run/app.sock"],
    ["h2c://localhost:9000"],
  ])("nothing of %s", (target) => {
    expect(serveWarnings(proxy(target))).toEqual([]);
  });

  test.each([
    ["http://10.0.0.5:3000", /10\.0\.0\.5 is another machine/],
    ["http://[2001:db8::1]:3000", /2001:db8::1\] is another machine/],
    ["http://backend.internal", /backend\.internal is another machine/],
    ["http://localhost.evil.example", /another machine/],
    ["https://127.0.0.1.nip.io", /another machine/],
    ["https+insecure://localhost:8443", /certificate of localhost is not verified/],
  ])("something of %s", (target, wanted) => {
    expect(serveWarnings(proxy(target))).toEqual([expect.stringMatching(wanted)]);
    expect(serveWarnings({ Foreground: { session: proxy(target) } })).toHaveLength(1);
  });

  test.each([
    ["http://0.0.0.0:3000", /0\.0\.0\.0 is where a program listens/],
    ["http://[::]:3000", /\[::\] is where a program listens/],
    ["https://gw.mesh.test", /gw\.mesh\.test:443 is this gateway itself/],
    ["https+insecure://GW.mesh.test.:443/x", /is this gateway itself/],
    ["https://100.64.0.1", /100\.64\.0\.1:443 is this gateway itself/],
    ["https://[FD7A:115C:A1E0::1]:443", /is this gateway itself/],
    ["https://gw.mesh.test:8443", /is another machine/],
  ])("RT-8 loudly of %s", (target, wanted) => {
    const config = { ...proxy(target), TCP: { 443: { HTTPS: true } } };
    const warnings = serveWarnings(config, undefined, ["100.64.0.1", "fd7a:115c:a1e0::1"]);
    expect(warnings.filter((warning) => !warning.includes("not verified"))).toEqual([expect.stringMatching(wanted)]);
  });

  test("RT-8 loudly of a port that is forwarded to where it came from, or to no machine", () => {
    const to = (TCPForward: string) =>
      serveWarnings({ TCP: { 5432: { TCPForward } } }, undefined, ["100.64.0.1", "fd7a:115c:a1e0::1"]);
    expect(to("100.64.0.1:5432")).toEqual([expect.stringContaining("this gateway itself")]);
    expect(to("[fd7a:115c:a1e0::1]:5432")).toEqual([expect.stringContaining("this gateway itself")]);
    expect(to("0.0.0.0:5432")).toEqual([expect.stringContaining("where a program listens")]);
    expect(to("0:5432")).toEqual([expect.stringContaining("where a program listens")]);
    expect(to("127.1:5432")).toEqual([]);
  });

  test("a port alone, and a host and port without a scheme", () => {
    expect(serveWarnings(proxy("3000"))).toEqual([]);
    expect(serveWarnings(proxy("localhost:3000"))).toEqual([]);
    expect(serveWarnings(proxy("10.0.0.5:3000"))).toEqual([expect.stringContaining("10.0.0.5 is another machine")]);
  });

  test("TCP forwards, and what the internet may reach", () => {
    expect(serveWarnings({ TCP: { "22": { TCPForward: "127.0.0.1:22" }, "80": { HTTP: true } } })).toEqual([]);
    expect(serveWarnings({ TCP: { "5432": { TCPForward: "db.internal:5432" } } })).toEqual([
      expect.stringContaining("port 5432 is forwarded to db.internal"),
    ]);
    expect(serveWarnings({ AllowFunnel: { "gw:443": true, "gw:8443": false } })).toEqual([
      "gw:443 is open to the internet, without login",
    ]);
  });
});
