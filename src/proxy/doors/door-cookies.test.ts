import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { answerFields, requestFields } from "../fields.ts";
import { setCookie, withoutDoorCookies } from "./door-cookies.ts";

const TOKEN = "t".repeat(43);

describe("ID-20 door cookies never reach a backend", () => {
  test.each([
    [`__Host-sallyport-friends=${TOKEN}`, ""],
    [`a=1; __Host-sallyport-friends=${TOKEN}`, "a=1"],
    [`__Host-sallyport-friends=${TOKEN}; a=1`, "a=1"],
    [`a=1; __Host-sallyport-friends=${TOKEN}; b=2`, "a=1; b=2"],
    [`a=1;__Host-sallyport-friends=${TOKEN};b=2`, "a=1;b=2"],
    [`__Host-sallyport-a=${TOKEN}; __Host-sallyport-b=${TOKEN}`, ""],
    [`a=1; __Host-sallyport-friends`, "a=1"],
    [`a=1; __host-SALLYPORT-friends=${TOKEN}`, "a=1"],
    [`a=1; sallyport=${TOKEN}`, "a=1"],
    [`a=1; __Secure_sallyport_x=${TOKEN}`, "a=1"],
    [`a=1; __Host%2Dsallyport%2dfriends=${TOKEN}`, "a=1"],
    [`a=1, __Host-sallyport-friends=${TOKEN}`, ""],
    [`a="1 __Host-sallyport-friends=${TOKEN}"; b=2`, "b=2"],
    [`a=1; =__Host-sallyport-friends=${TOKEN}`, "a=1"],
  ])("%s → %s", (sent, left) => {
    expect(withoutDoorCookies(sent)).toBe(left);
  });

  test.each([
    "a=1; b=2",
    "visited=sallyport",
    "a=sallyport; b=__Host-x",
    "my-sallyport=1",
    "sallyports=1",
    "a=100%; b=%2D",
    "a=x=__Host; b=",
    " ;; =; a",
    '__Host-session="q w"; a=1',
  ])("other cookies are untouched, byte for byte: %s", (sent) => {
    expect(withoutDoorCookies(sent)).toBe(sent);
  });

  test("300 spellings that fold into one, each among others, in each place, over HTTP/1 and HTTP/2", () => {
    const separator = fc.constantFrom("-", "_", ".", "%2d", "%5F", "[", "__", "*");
    const cased = fc.array(fc.boolean(), { minLength: 13, maxLength: 13 });
    const others = fc.array(fc.constantFrom("a=1", "b=__x", "sid=sallyportish", "c"), { maxLength: 3 });
    let tried = 0;
    fc.assert(
      fc.property(separator, separator, separator, cased, others, others, (one, two, three, upper, before, after) => {
        const letters = [..."hostsallyport"]
          .map((letter, i) => (upper[i] === true ? letter.toUpperCase() : letter))
          .join("");
        const name = `${one}${letters.slice(0, 4)}${two}${letters.slice(4)}${three}friends`;
        const cookie = `${name}=${TOKEN}`;
        const whole = requestFields(["Cookie", [...before, cookie, ...after].join("; ")], false);
        const crumbs = requestFields(
          [...before, cookie, ...after].flatMap((crumb) => ["cookie", crumb]),
          false,
        );
        const kept = [...before, ...after].join("; ");
        for (const fields of [whole, crumbs]) {
          expect(fields.map(([, value]) => value)).toEqual(kept === "" ? [] : [kept]);
        }
        tried++;
      }),
      { numRuns: 300 },
    );
    expect(tried).toBe(300);
  });

  test("property: whatever the field, no reserved name is left and every other pair is", () => {
    const pair = fc
      .tuple(fc.string({ maxLength: 12 }), fc.string({ maxLength: 12 }))
      .map(([name, value]) => `${name}=${value}`);
    const cookies = fc.array(fc.oneof(pair, fc.constant(`__Host-sallyport-x=${TOKEN}`)), { maxLength: 6 });
    fc.assert(
      fc.property(cookies, (all) => {
        const left = withoutDoorCookies(all.join("; "));
        expect(left).not.toContain(TOKEN);
        for (const one of all.join("; ").split(";")) {
          if (!/sallyport|%/i.test(one)) expect(left).toContain(one.trim());
        }
      }),
    );
  });
});

test("ID-20 a backend cannot set or take a door's cookie", () => {
  const own = setCookie("friends", TOKEN, 60);
  const sent = ["Set-Cookie", "a=1; Path=/", "set-cookie", own, "Set-Cookie", "__host-Sallyport-friends=; Max-Age=0"];
  expect(answerFields(sent, (_, value) => value)).toEqual([["Set-Cookie", "a=1; Path=/"]]);
  expect(own).toMatch(/^__Host-sallyport-friends=t{43}; Path=\/; Max-Age=60; HttpOnly; Secure; SameSite=Lax$/);
});
