import { expect, test } from "vitest";
import { FakeClock } from "../../base/clock.ts";
import { SignIns } from "./sign-ins.ts";

const attempt = { url: new URL("https://id.test"), redirectUri: "", state: "", nonce: "", codeVerifier: "" };

test("4,096 sign-ins that nobody ended locked everybody else out for ten minutes", () => {
  const signIns = new SignIns(new FakeClock());
  const begin = (i: number): string =>
    signIns.begin({ door: "friends", to: `/${i}`, attempt }, `2001:db8:${(i >> 3).toString(16)}::1`);
  const [first, second] = [begin(0), begin(1)];
  for (let i = 2; i < 4097; i++) begin(i);
  expect(signIns.take(first, ""), "the oldest made room").toBeUndefined();
  expect(signIns.take(second, "")).toMatchObject({ to: "/1" });
});
