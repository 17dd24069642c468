import { expect, test } from "vitest";
import { FakeClock } from "../base/clock.ts";
import { Assertions } from "./assertions.ts";
import type { Caller } from "./caller.ts";
import { decodeHeaderValue } from "./header-reader.ts";
import { encodeHeaderValue, identityHeaders } from "./headers.ts";
import { assertionVerifier, readIdentity } from "./index.ts";

const ALICE: Caller = {
  kind: "user",
  nodeKey: "aa",
  nodeName: "laptop.example.test",
  login: "älice@example.com",
  displayName: "Älice Árchitect 建筑师 with a long name that needs several words",
  profilePicture: "https://example.com/a.png",
  address: "100.64.0.2",
};
const CI: Caller = {
  kind: "tagged",
  nodeKey: "bb",
  nodeName: "ci.example.test",
  tags: ["tag:ci"],
  address: "100.64.0.3",
};
const GUEST: Caller = { kind: "guest", issuer: "https://id.example", subject: "ü7", address: "192.0.2.1" };
const CAPABILITIES = '{"example.com/cap/app":[{"action":["lösen"]}]}';

function headersOf(caller: Caller, assertion?: string): Record<string, string> {
  const facts = { caller, capabilities: CAPABILITIES, isFunnel: false, isTls: true, host: "app", assertion, hops: 0 };
  return Object.fromEntries(identityHeaders(facts).map(([name, value]) => [name.toLowerCase(), value]));
}

test.each([
  [
    ALICE,
    {
      kind: "user",
      login: ALICE.login,
      name: ALICE.displayName,
      picture: ALICE.profilePicture,
      address: ALICE.address,
    },
  ],
  [CI, { kind: "tagged", address: CI.address }],
  [GUEST, { kind: "guest", issuer: GUEST.issuer, subject: GUEST.subject, address: GUEST.address }],
])("what the gateway writes is read back: $kind", (caller, wanted) => {
  for (const headers of [headersOf(caller), new Headers(headersOf(caller))]) {
    const identity = readIdentity(headers);
    expect(identity?.caller).toEqual(wanted);
    expect(identity?.capabilities["example.com/cap/app"]).toEqual([{ action: ["lösen"] }]);
    expect(identity?.capabilities["constructor"]).toBeUndefined();
  }
});

test.each([
  ["nothing", {}],
  ["no kind", { "sallyport-caller-kind": undefined }],
  ["an unknown kind", { "sallyport-caller-kind": "root" }],
  ["two kinds", { "sallyport-caller-kind": ["user", "user"] }],
  ["a user without a login", { "tailscale-user-login": undefined }],
  ["capabilities that are no JSON", { "tailscale-app-capabilities": "{" }],
  ["capabilities that are no lists", { "tailscale-app-capabilities": '{"a":1}' }],
])("fields that do not fit are nobody's: %s", (name, change) => {
  expect(readIdentity(name === "nothing" ? {} : { ...headersOf(ALICE), ...change })).toBeUndefined();
});

test("ASCII text that looks like an encoded word stays what it is", () => {
  expect(decodeHeaderValue("=?utf-8?q?alice=40example.com?=")).toBe("=?utf-8?q?alice=40example.com?=");
  expect(decodeHeaderValue(encodeHeaderValue("jürgen_?="))).toBe("jürgen_?=");
});

test("an assertion holds for its time, issuer, audience and key only", async () => {
  const clock = new FakeClock();
  const assertions = await Assertions.create("https://gate.test", clock);
  const token = await assertions.sign(ALICE, "https://app.test", CAPABILITIES);
  const good = {
    jwks: assertions.jwks,
    issuer: "https://gate.test",
    audience: "https://app.test",
    wall: () => clock.wall(),
  };
  const headers = headersOf(ALICE, token);
  const identity = await assertionVerifier(good)(headers);
  expect(identity).toMatchObject({ kind: "user", subject: ALICE.login, node: ALICE.nodeName, address: ALICE.address });
  expect(identity.capabilities["example.com/cap/app"]).toEqual([{ action: ["lösen"] }]);
  const other = await Assertions.create("https://gate.test", clock);
  const wrong = { code: "IDENTITY_ASSERTION" };
  await expect(assertionVerifier({ ...good, issuer: "https://other.test" })(headers)).rejects.toMatchObject(wrong);
  await expect(assertionVerifier({ ...good, audience: "https://other.test" })(headers)).rejects.toMatchObject(wrong);
  await expect(assertionVerifier({ ...good, jwks: other.jwks })(headers)).rejects.toMatchObject(wrong);
  await expect(assertionVerifier(good)({})).rejects.toMatchObject(wrong);
  clock.advance(61_000);
  await expect(assertionVerifier(good)(headers)).rejects.toMatchObject(wrong);
});
