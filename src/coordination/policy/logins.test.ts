import { expect, test } from "vitest";
import { compilePolicy } from "./policy.ts";

test.each([
  ["mark@x.com", "mark@x.com", true],
  ["mark@x.com", "mar\u212a@x.com", false],
  ["mark@x.com", "MARK@x.com", false],
  ["jos\u00e9@x.com", "jose\u0301@x.com", false],
  ["mark@x.com", "mark@x.com.", false],
  ["mark@x.com", "mark@x.com ", false],
  ["mark@x.com", "m\u0430rk@x.com", false],
])("ID-15: a rule for %j meets %j: %s", (named, login, isMet) => {
  const engine = compilePolicy(`{"grants": [{"src": ["${named}"], "dst": ["*"], "ip": ["*"]}]}`);
  const node = (id: number, user: string): Parameters<typeof engine.filterFor>[0] => ({
    id,
    user,
    tags: [],
    addresses: [`100.64.0.${id}`],
    routes: [],
  });
  const gate = node(2, "other@x.com");
  expect(engine.filterFor(gate, [node(1, login), gate])).toHaveLength(isMet ? 1 : 0);
});
