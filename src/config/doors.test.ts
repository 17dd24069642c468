import { describe, expect, test } from "vitest";
import { filesOfDoors } from "./doors.ts";
import { mountRules } from "./node-serve-config.ts";
import { parseServices } from "./services.ts";

const DOORS = { friends: { password: "file:/run/p" }, staff: { pin: "env:PIN" } };
const parse = (endpoints: object, doors: object = DOORS) =>
  parseServices(JSON.stringify({ version: "0.0.1", doors, node: { endpoints } }), "f");
const WEB = "http://127.0.0.1:3000";

describe("whom a door stands before", () => {
  const config = parse({
    "tcp:443": {
      target: WEB,
      door: "friends",
      guestsAsUsers: "https://id.example.com",
      mounts: {
        "/plain": WEB,
        "/staff": { target: WEB, door: "staff" },
        "/open": { target: WEB, door: null },
      },
      hosts: {
        "app.example.com": WEB,
        "open.example.com": {
          target: WEB,
          door: null,
          mounts: { "/x": WEB, "/staff": { target: WEB, door: "staff" } },
        },
      },
    },
    "tcp:8443": { target: WEB, hosts: ["b.example.com"], mounts: { "/in": { target: WEB, door: "staff" } } },
  });

  test.each([
    [443, "gw", "/", "friends"],
    [443, "gw", "/plain", "friends"],
    [443, "gw", "/staff", "staff"],
    [443, "gw", "/open", undefined],
    [443, "gw", "/mounted/by/a/command", "friends"],
    [443, "gw", "/staff/by/a/command", "staff"], // what is more than the file's is no way around a door of the file
    [443, "gw", "/open/by/a/command", "friends"],
    [443, "open.example.com", "/staff/", "staff"],
    [8443, "gw", "/in/by/a/command", "staff"],
    [8443, "gw", "/inner", undefined],
    [443, "app.example.com", "/", "friends"],
    [443, "open.example.com", "/", undefined],
    [443, "open.example.com", "/x", undefined],
    [443, "open.example.com", "/staff", "staff"],
    [8443, "gw", "/", undefined],
    [8443, "gw", "/in", "staff"],
    [8443, "b.example.com", "/in", "staff"],
    [9443, "gw", "/", undefined],
  ])("port %i of %s, %s: %s", (port, name, mount, door) => {
    expect(mountRules(config, { port, name, mount })?.door).toBe(door);
  });

  test("CF-7 the file says which guests are users, what is public without a door, and which door stands nowhere", () => {
    const warn = (endpoints: object, doors?: object) => parse(endpoints, doors).warnings;
    const place = "node / endpoints / tcp:443";
    expect(config.warnings).toEqual([`${place}: no door has guests of https://id.example.com`]);
    const asked = { friends: { oidc: { ...OIDC, domains: ["a.b"] } } };
    const mapped = { "tcp:443": { target: WEB, door: "friends", guestsAsUsers: OIDC.issuer } };
    expect(warn(mapped, asked)).toEqual([`${place}: guests of https://id.example.com are users there`]);
    expect(() => parseServices(SERVICE_WITH_DOOR, "f")).toThrow("what the node itself serves");
    expect(warn({ "tcp:443": { target: WEB, funnel: true } }, {})).toEqual([
      "node / endpoints / tcp:443: open to the internet, without login",
    ]);
    const guarded = { "tcp:443": { target: WEB, funnel: true, door: "friends" } };
    expect(warn(guarded, { friends: { links: true } })).toEqual([]);
    const half = { "tcp:443": { ...guarded["tcp:443"], mounts: { "/a": { target: WEB, door: null } } } };
    expect(warn(half, { friends: { links: true } })).toHaveLength(1);
    expect(warn({}, { friends: { links: true } })).toEqual(['door "friends" stands before nothing']);
  });
});

const SERVICE_WITH_DOOR: string = JSON.stringify({
  version: "0.0.1",
  services: { "svc:web": { endpoints: { "tcp:443": { target: WEB, door: "friends" } } } },
});
const OIDC = { issuer: "https://id.example.com", clientId: "gate", clientSecret: "env:S" };

test.each<[object, object, string]>([
  [{ "tcp:443": { target: WEB, door: "friend" } }, DOORS, 'found door "friend"'],
  [{ "tcp:443": { target: WEB, mounts: { "/a": { target: WEB, door: "x" } } } }, DOORS, "tcp:443 / mounts / /a / door"],
  [{ "tcp:80": { listen: "http", target: WEB, door: "friends" } }, DOORS, "a door on an http listener"],
  [{ "tcp:22": { target: "tcp://localhost:22", door: "friends" } }, DOORS, "a door on an tcp listener"],
  [{ "tcp:443": { target: WEB, door: 1 } }, DOORS, "expected string"],
  [{ "tcp:443": { target: WEB, guestsAsUsers: "id.example.com" } }, DOORS, "found no issuer"],
  [{}, { friends: {} }, "a door that nobody can pass"],
  [{}, { Friends: { links: true } }, "found no name"],
  [{}, { "oidc-state": { links: true } }, "found no name"],
  [{}, { "../x": { links: true } }, "found no name"],
  [{}, { a: { password: "hunter2" } }, "found a secret itself"],
  [{}, { a: { tokens: { ci: "s3cr3t" } } }, "found a secret itself"],
  [{}, { a: { links: true, tokenHeader: "Cookie" } }, "another meaning"],
  [{}, { a: { links: true, tokenHeader: "x y" } }, "found no header name"],
  [{}, { a: { links: true, idle: "soon" } }, "found no duration"],
  [{}, { a: { links: true, idle: "0m" } }, "found no duration"], // everybody was out as soon as he was in
  [{}, { a: { links: true, passwords: "env:X" } }, 'unknown member "passwords"'],
  [{}, { a: { oidc: OIDC } }, "nobody who may enter"],
  [{}, { a: { oidc: { ...OIDC, issuer: "id", domains: ["a.b"] } } }, "found no web address"],
  [{}, { a: { oidc: { ...OIDC, domains: ["@example.com"] } } }, "found no domain"],
  [{}, { a: { oidc: { ...OIDC, addresses: ["carol"] } } }, "found no mail address"],
])("CF-6 %o with doors %o: %s", (endpoints, doors, found) => {
  expect(() => parse(endpoints, doors)).toThrow(found);
  expect(() => parse(endpoints, doors)).not.toThrow(/hunter2|s3cr3t/);
});

test("RT-9 files with secrets are known, so that they are never served", () => {
  const doors = {
    a: {
      password: "file:/p",
      pin: "env:P",
      tokens: { ci: "file:/t" },
      oidc: { ...OIDC, clientSecret: "file:/o", domains: ["a.b"] },
    },
  };
  expect(filesOfDoors(doors)).toEqual(["/p", "/t", "/o"]);
});
