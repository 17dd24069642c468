import { readFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { readSent, withoutDots } from "./request.ts";
import { type Fixture, routeOf } from "./route.ts";
import { RULES } from "./rules.ts";

const FIXTURE: Fixture = {
  setup: {
    TCP: { 80: { HTTP: true } },
    Web: { "gw.tail.test:80": { Handlers: { "/": { Proxy: "http://127.0.0.1:3000" }, "/hi": { Text: "hi" } } } },
  },
  answers: { plain: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", ws: "HTTP/1.1 101 Switching Protocols\r\n\r\n" },
};

function rulesFor(...send: readonly string[]): string[] {
  const sent = readSent(send);
  const route = routeOf(sent, 80, FIXTURE);
  const names = RULES.filter((rule) => rule.applies(sent, route)).map((rule) => rule.name);
  return [...new Set(names)].filter((name) => name !== "answer-addresses"); // about every answer of a backend
}

test("every rule has its reason in docs/identity.md, and no reason is without its rule", () => {
  const text = readFileSync(path.resolve(import.meta.dirname, "../../../docs/identity.md"), "utf8");
  const rows = text.split("\n").filter((line) => line.startsWith("| `") && line.split("|").length === 6);
  const documented = rows.flatMap((line) => [...line.split("|")[1]!.matchAll(/`([^`]+)`/g)].map((match) => match[1]!));
  const inCompare = ["unserved-port"]; // nothing is compared there, so it is no entry of the table
  expect(new Set(documented)).toEqual(new Set([...RULES.map((rule) => rule.name), ...inCompare]));
});

const HEAD = "Host: gw.tail.test\r\n";

test.each([
  [`GET /plain HTTP/1.1\r\n${HEAD}\r\n`, []],
  [`POST /plain HTTP/1.1\r\n${HEAD}Content-Length: 5\r\n\r\nhello`, ["unread-bodies"]],
  [`POST /plain HTTP/1.1\r\n${HEAD}Content-Length: 0\r\n\r\n`, []],
  [`GET /plain HTTP/1.1\r\n${HEAD}\r\nGET /plain HTTP/1.1\r\n${HEAD}\r\n`, []],
  [`POST /plain HTTP/1.1\r\n${HEAD}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n`, ["unread-bodies"]],
  [`DELETE /plain HTTP/1.1\r\n${HEAD}Content-Length: 5\r\n\r\nhello`, ["unread-bodies"]],
  [`GET /hi HTTP/1.1\r\n${HEAD}Content-Length: 5\r\n\r\nhello`, []],
  [`GET /a/../b HTTP/1.1\r\n${HEAD}\r\n`, ["normal-path"]],
  [`GET /a%2f..%2fb HTTP/1.1\r\n${HEAD}\r\n`, ["normal-path"]],
  [`GET /a/%252e%252e/b HTTP/1.1\r\n${HEAD}\r\n`, ["normal-path"]],
  ...["/hi;x", "/%2568i", "/hi%00", "/%5chi", "/hi%5Cx", "/hi%3bx/y", "/hi%3Fx", "/h%09i"].map(
    (path): [string, string[]] => [`GET ${path} HTTP/1.1\r\n${HEAD}\r\n`, ["two-mounts"]],
  ),
  ...["/hi%2fx", "/a;x", "/a%2Fb;c", "/a%5cb", "/a%2520b", "/100%25", "/a%00"].map((path): [string, string[]] => [
    `GET ${path} HTTP/1.1\r\n${HEAD}\r\n`,
    [],
  ]),
  [`GET /plain HTTP/1.1\r\n${HEAD}Tailscale_User_Login: evil\r\n\r\n`, ["folded-names", "plain-names"]],
  [`GET /plain HTTP/1.1\r\nHost: GW\r\n\r\n`, ["one-host-spelling"]],
  [
    `POST /plain HTTP/1.1\r\n${HEAD}Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n`,
    ["unread-bodies", "chunk-syntax"],
  ],
  [`POST /hi HTTP/1.1\r\n${HEAD}Content-Length: 5\r\n\r\nhe`, ["early-answer"]],
  [`GET /plain HTTP/1.1\r\n${HEAD}\r\nhello`, ["no-http"]],
  ["GET", []],
])("%j is judged by its bytes alone: %j", (send, rules) => {
  expect(rulesFor(send)).toEqual(rules);
});

test.each([
  ["/a/./b", "/a/b"],
  ["/a/../b", "/b"],
  ["/..", "/"],
  ["/a/..", "/"],
  ["/a/%2E%2e/b/.", "/b/"],
  ["//a/../b", "//b"],
  ["/a//../b", "/a/b"],
  ["/...", "/..."],
])("dot segments of %s", (path, plain) => expect(withoutDots(path)).toBe(plain));
