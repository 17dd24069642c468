import { describe, expect, test } from "vitest";
import { isSecretName, redactBody, redactFields, redactTarget } from "./redaction.ts";

test.each([
  "Authorization",
  "Proxy-Authorization",
  "Cookie",
  "Set-Cookie",
  "X-Api-Key",
  "X_API_KEY",
  "api.key",
  "apiKey",
  "X-Auth-Token",
  "access_token",
  "accessToken",
  "id_token",
  "refresh-token",
  "client_secret",
  "password",
  "new_passwd",
  "sessionid",
  "PHPSESSID-session",
  "X-Amz-Security-Token",
  "X-Amz-Signature",
  "X-Hub-Signature-256",
  "X-CSRF-Token",
  "Sallyport-Assertion",
  "Sallyport-Door-Token",
  "code",
  "state",
  "sig",
  "otp",
  "pin",
])("SE-1 %s is secret", (name) => {
  expect(isSecretName(name)).toBe(true);
});

test.each([
  "Accept",
  "User-Agent",
  "Content-Type",
  "X-Keyboard",
  "page",
  "postcode",
  "author",
  "monkey",
  "shipping",
  "design",
])("%s is not", (name) => {
  expect(isSecretName(name)).toBe(false);
});

describe("SE-1 what is shown has no secret in it", () => {
  test.each([
    ["/a?token=abc&x=1", "/a?token=REDACTED&x=1"],
    ["/a?x=1&access_token=a%20b#id_token=y", "/a?x=1&access_token=REDACTED#id_token=REDACTED"],
    ["/a?%74oken=abc", "/a?%74oken=REDACTED"],
    ["/a?token", "/a?token"],
    ["/a?q=a=b;api-key=c", "/a?q=a=b;api-key=REDACTED"],
    ["/token=abc", "/token=abc"],
    ["/a?%zz=1&code=2", "/a?%zz=1&code=REDACTED"],
  ])("target %s", (given, shown) => {
    expect(redactTarget(given)).toBe(shown);
  });

  test("fields, and addresses in them", () => {
    expect(
      redactFields(
        [
          ["Cookie", "a=1"],
          ["Referer", "https://a.example/?token=x"],
          ["X-Gate", "x"],
          ["Accept", "*/*"],
        ],
        ["x_gate"],
      ),
    ).toEqual([
      ["Cookie", "REDACTED"],
      ["Referer", "https://a.example/?token=REDACTED"],
      ["X-Gate", "REDACTED"],
      ["Accept", "*/*"],
    ]);
  });

  test.each([
    ["application/x-www-form-urlencoded", "user=carol&password=hunter2", "user=carol&password=REDACTED"],
    [
      "application/json",
      '{"user":"carol","password": "hun\\"ter2","n":1}',
      '{"user":"carol","password": "REDACTED","n":1}',
    ],
    ["application/json", '{"access_token":"ey', '{"access_token":"REDACTED"'],
    ["application/vnd.api+json", '[{"pin":1234},{"pin" : null}]', '[{"pin":"REDACTED"},{"pin" : "REDACTED"}]'],
    [
      "multipart/form-data; boundary=x",
      '--x\r\nContent-Disposition: form-data; name="password"\r\n\r\nhunter2',
      "REDACTED",
    ],
    ["multipart/form-data; boundary=x", '--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1', undefined],
    ["text/plain", "password=hunter2 is what a text may say", undefined],
    ["application/json", '{"a":1,"tokens":["x","y"]}', "REDACTED"],
    ["application/json", '{"user":{"password":"x","n":1}}', '{"user":{"password":"REDACTED","n":1}}'],
    ["application/json", '{"a":[{"b":[{"pin":1}]}]}', '{"a":[{"b":[{"pin":"REDACTED"}]}]}'],
    ["application/json", '{"a": [ "x" , {"sid" : "y"}]}', '{"a": [ "x" , {"sid" : "REDACTED"}]}'],
    ["application/json", '{"a":{"b":{"secret":{"c":1}}}}', "REDACTED"],
    ["application/json", '{"pass\\u0077ord":"x"}', '{"pass\\u0077ord":"REDACTED"}'],
    ["application/json", '{"secret" : {"a":"x"}}', "REDACTED"],
  ])("%s body (%#)", (type, given, shown) => {
    expect(redactBody(given, type)).toBe(shown ?? given);
  });
});

test("RT-4 a long body costs no more than its length", () => {
  for (const unit of ["a", "=", "&", '"', '"a"', '"a" ', "\\", "name=", "{", '"token":']) {
    for (const type of ["application/json", "application/x-www-form-urlencoded", "multipart/form-data"]) {
      const started = performance.now();
      redactBody(unit.repeat(65_536 / unit.length), type);
      expect(performance.now() - started, `${unit} as ${type}`).toBeLessThan(5000);
    }
  }
});
