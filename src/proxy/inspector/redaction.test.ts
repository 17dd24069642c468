import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { redactBody } from "./body-redaction.ts";
import { redactFields, redactTarget } from "./redaction.ts";
import { isSecretName } from "./secret-names.ts";

const JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYXJvbCJ9.c2lnbmF0dXJl-_";

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
  "X-Original-Authorization",
  "X-Authentication",
  "JSESSIONID",
  "SAMLResponse",
  "code_verifier",
  "pwd",
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
    ["/shop/cart;jsessionid=1A2B;v=2/items?x=1", "/shop/cart;jsessionid=REDACTED;v=2/items?x=1"],
    ["/cart%3BJSESSIONID%3D1A2B", "/cart%3BJSESSIONID%3DREDACTED"],
    ["/invite/token/abc", "/invite/token/REDACTED"],
    ["/api/token/refresh", "/api/token/refresh"],
    ["/password/reset/9f8e7d6c5b4a39281706", "/password/reset/REDACTED"],
    ["/verify/0b5e8a1c-99aa-4f0e-8a1c-0123456789ab?x=1", "/verify/REDACTED?x=1"],
    ["/orders/0b5e8a1c-99aa-4f0e-8a1c-0123456789ab", "/orders/0b5e8a1c-99aa-4f0e-8a1c-0123456789ab"],
    ["/services/T0001/B0002/XoXoXoXoXo1234567890abcd", "/services/T0001/B0002/REDACTED"],
    ["/bot123456789:AAFabcdefghijklmnopqrstuvwxyz012345/send", "/REDACTED/send"],
    ["/static/index-Bw3hUvVq0123456789.js", "/static/index-Bw3hUvVq0123456789.js"],
    [`/a/${JWT}/b`, "/a/REDACTED/b"],
    [`/a?x=${JWT}`, "/a?x=REDACTED"],
    ["http://carol:hunter2@gw.tail.test/a", "http://REDACTED@gw.tail.test/a"],
    ["/login?next=%2Fa%3Ftoken%3Dabc%26x%3D1", "/login?next=%2Fa%3Ftoken%3DREDACTED%26x%3D1"],
    ["/login?next=%2Fa%3Fx%3D1&y=%2F", "/login?next=%2Fa%3Fx%3D1&y=%2F"],
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
          ["X-Original-URL", "/a;jsessionid=x"],
          ["X-Upstream", "bearer abc"],
          ["X-Note", `seen ${JWT}, and Basic Y2Fyb2w6aHVudGVyMg==`],
          ["X-Proxy", "via http://carol:hunter2@proxy.example:3128"],
          ["Sec-WebSocket-Protocol", "base64url.bearer.authorization.k8s.io.c2VjcmV0, v4.channel.k8s.io"],
          ["Sec-WebSocket-Protocol", "graphql-transport-ws"],
          ["WWW-Authenticate", 'Basic realm="the shop"'],
        ],
        ["x_gate"],
      ),
    ).toEqual([
      ["Cookie", "REDACTED"],
      ["Referer", "https://a.example/?token=REDACTED"],
      ["X-Gate", "REDACTED"],
      ["Accept", "*/*"],
      ["X-Original-URL", "/a;jsessionid=REDACTED"],
      ["X-Upstream", "bearer REDACTED"],
      ["X-Note", "seen REDACTED, and Basic REDACTED"],
      ["X-Proxy", "via http://REDACTED@proxy.example:3128"],
      ["Sec-WebSocket-Protocol", "REDACTED"],
      ["Sec-WebSocket-Protocol", "graphql-transport-ws"],
      ["WWW-Authenticate", 'Basic realm="the shop"'],
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
    ["application/json", '{"a":1,"tokens":["x",{"y":"]"}],"b":[2]}', '{"a":1,"tokens":"REDACTED","b":[2]}'],
    ["application/json", '{"user":{"password":"x","n":1}}', '{"user":{"password":"REDACTED","n":1}}'],
    ["application/json", '{"a":[{"b":[{"pin":1}]}]}', '{"a":[{"b":[{"pin":"REDACTED"}]}]}'],
    ["application/json", '{"a": [ "x" , {"sid" : "y"}]}', '{"a": [ "x" , {"sid" : "REDACTED"}]}'],
    ["application/json", '{"a":{"b":{"secret":{"c":1}}}}', '{"a":{"b":{"secret":"REDACTED"}}}'],
    ["application/json", '{"pass\\u0077ord":"x"}', '{"pass\\u0077ord":"REDACTED"}'],
    ["application/json", '{"secret" : {"a":"x"', '{"secret" : "REDACTED"'],
    ["application/json", `{"a":"${JWT}"}`, '{"a":"REDACTED"}'],
    [
      "application/json",
      '{"next":"https://a.example/?x=1\\u0026token=b"}',
      '{"next":"https://a.example/?x=1\\u0026token=REDACTED"}',
    ],
    ["", '{"password":"x"}', '{"password":"REDACTED"}'],
    ["text/plain", "use ghp_0123456789abcdefghij01 or http://a:b@c/", "use REDACTED or http://REDACTED@c/"],
    ["text/plain", "-----BEGIN EC PRIVATE KEY-----\nabc\n-----END EC PRIVATE KEY-----\nso", "REDACTED\nso"],
    ["text/html", '<a href="/a?x=1&amp;token=b">', '<a href="/a?x=1&amp;token=REDACTED">'],
    [
      "text/html",
      '<input name="csrf" value="abc"><input name=q value=x>',
      '<input name="csrf" value="REDACTED"><input name=q value=x>',
    ],
    ["text/xml", "<w:Password>hunter2</w:Password><a>b</a>", "<w:Password>REDACTED</w:Password><a>b</a>"],
    ["text/javascript", "if (a) b();token=next()", undefined],
  ])("%s body (%#)", (type, given, shown) => {
    expect(redactBody(given, type)).toBe(shown ?? given);
  });
});

/** What the type of a body says of it, and what it is, are two things: `fetch` and `curl -d` send JSON so. */
test.each([
  ["text/plain;charset=UTF-8", '{"user":"carol","password":"hunter2"}', '{"user":"carol","password":"REDACTED"}'],
  ["application/x-www-form-urlencoded", '{"password":"hunter2"}', '{"password":"REDACTED"}'],
  ["application/octet-stream", '[{"pin":1234}]', '[{"pin":"REDACTED"}]'],
  ["text/event-stream", 'event: a\ndata: {"token":"hunter2"}\n\n', 'event: a\ndata: {"token":"REDACTED"}\n\n'],
  ["text/html", '<script>S={"accessToken":"hunter2"}</script>', '<script>S={"accessToken":"REDACTED"}</script>'],
  ["text/html", "<script>var token = 'hunter2'</script>", '<script>var token = "REDACTED"</script>'],
  ["text/javascript", 'f({"access_token":"hunter2"})', 'f({"access_token":"REDACTED"})'],
  ["text/plain", "user=a&password=hunter2", "user=a&password=REDACTED"],
  ["", "a=1\r\npassword=hunter2\r\n", "a=1\r\npassword=REDACTED\r\n"],
  ["application/yaml", "db:\n  password: hunter2\n", "db:\n  password: REDACTED\n"],
  ["application/json", '{"a":"{\\"password\\":\\"hunter2\\"}"}', '{"a":"{\\"password\\":\\"REDACTED\\"}"}'],
  ["application/json", '{"a":"{\\"password\\":\\"hunt', '{"a":"{\\"password\\":\\"REDACTED\\""'],
  [
    "application/json",
    '{"query":"{login(password:\\"hunter2\\"){id}}"}',
    '{"query":"{login(password:\\"REDACTED\\"){id}}"}',
  ],
  [
    "application/x-www-form-urlencoded",
    "payload=%7B%22token%22%3A+%22hunter2%22%7D",
    "payload=%7B%22token%22%3A%20%22REDACTED%22%7D",
  ],
  ["text/xml", '<user password="hunter2"/>', '<user password="REDACTED"/>'],
  ["", "<a><pin><![CDATA[hunter2]]></pin></a>", "<a><pin>REDACTED</pin></a>"],
  ["text/plain", '--x\r\nContent-Disposition: form-data; name="pin"\r\n\r\nhunter2', "REDACTED"],
])("SE-1 a password was kept, as the body was not what its type said (%s, %#)", (type, given, shown) => {
  expect(redactBody(given, type)).toBe(shown);
});

/** Of forms made by builders, settings, environments, tags, lists of header fields. */
test.each([
  ["application/json", '{"name":"password","value":"hunter2"}', '{"name":"password","value":"REDACTED"}'],
  ["application/json", '{"value" : ["hunter2"], "fieldName":"pin"}', '{"value" : "REDACTED", "fieldName":"pin"}'],
  [
    "application/json",
    '[{"key":"api_key","value":"hunter2"},{"key":"a","value":"b"}]',
    '[{"key":"REDACTED","value":"REDACTED"},{"key":"REDACTED","value":"b"}]',
  ],
  ["application/json", '{"label":"New password","val":{"a":"hunter2"}}', '{"label":"New password","val":"REDACTED"}'],
  ["application/json", '{"type":"password","value":"hunter2"}', '{"type":"password","value":"REDACTED"}'],
  ["application/json", '{"a":[["X-Api-Key","hunter2"],["a","b"]]}', '{"a":[["X-Api-Key","REDACTED"],["a","b"]]}'],
  ["application/json", '{"name":"pass\\u0077ord","value":"hunter2"}', '{"name":"pass\\u0077ord","value":"REDACTED"}'],
  ["application/json", '{"name":"password","value":"hunt', '{"name":"password","value":"REDACTED"'],
  [
    "text/plain",
    '{"a":"{\\"name\\":\\"pin\\",\\"value\\":\\"hunter2\\"}"}',
    '{"a":"{\\"name\\":\\"pin\\",\\"value\\":\\"REDACTED\\"}"}',
  ],
  ["text/javascript", 'f({name: "password", value: "hunter2"})', 'f({name: "password", value: "REDACTED"})'],
  ["text/javascript", "token = `hunter2`", 'token = "REDACTED"'],
  ["application/yaml", "- name: DB_PASSWORD\n  value: hunter 2\n", "- name: DB_PASSWORD\n  value: REDACTED\n"],
  ["text/plain", "export PASSWORD=hunter2", "export PASSWORD=REDACTED"],
  ["text/xml", '<add key="ApiKey" value="hunter2"/>', '<add key="REDACTED" value="REDACTED"/>'],
  ["text/xml", '<entry key="password">hunter2</entry>', '<entry key="REDACTED">REDACTED</entry>'],
  ["text/html", '<textarea name="token">hunter2</textarea>', '<textarea name="token">REDACTED</textarea>'],
  ["application/json", '{"kennwort":"hunter2","pass2":"hunter2"}', '{"kennwort":"REDACTED","pass2":"REDACTED"}'],
])("SE-1 a password whose name stood beside it was kept (%s, %#)", (type, given, shown) => {
  expect(redactBody(given, type)).toBe(shown);
});

test.each([
  ["application/json", '{"name":"Carol","value":"x"}'],
  ["application/json", '{"title":"How to reset your password","name":"How to reset your password","content":"so"}'],
  ["application/json", '[["password","email","name"],{"value":1},"name","password"]'],
  ["application/json", '{"a":{"name":"password"},"value":"x"}'],
  ["text/html", '<h2 id="api-token">Tokens</h2><p>x</p>'],
  ["text/plain", "name: password\nnext: x y"],
])("what is no value of a name is kept (%s, %#)", (type, given) => {
  expect(redactBody(given, type)).toBe(given);
});

test("SE-1 a link of a door in `Referer`, and a document in a field or parameter, were kept", () => {
  const link = `https://gw.tail.test/.sallyport/door/friends/link/${"a".repeat(43)}`;
  expect(
    redactFields([
      ["Referer", link],
      ["X-Data", '{"pin":1}'],
    ]),
  ).toEqual([
    ["Referer", "https://gw.tail.test/.sallyport/door/friends/link/REDACTED"],
    ["X-Data", '{"pin":"REDACTED"}'],
  ]);
  expect(redactTarget("/a?q=%7B%22pin%22%3A1%7D")).toBe("/a?q=%7B%22pin%22%3A%22REDACTED%22%7D");
});

test("SE-1 property: wherever a secret member stands, and whatever the body is called, it is gone and the rest is JSON still", () => {
  const marker = "hunter2";
  const secret = fc.jsonValue().map((value) => ({ password: [marker, value] }));
  const scalar = fc.constantFrom({ password: marker }, { a: 1, apiKey: `${marker}"}\\` }, { "client-secret": marker }, [
    "authorization",
    marker,
  ]);
  const beside = fc.jsonValue().map((value) => ({ value: [marker, value], a: value, name: "password" }));
  const inner = fc.oneof(secret, scalar, beside);
  const nested = inner.map((value) => ({ text: JSON.stringify(value) }));
  const document = fc
    .tuple(fc.jsonValue(), fc.oneof(inner, nested), fc.jsonValue())
    .map(([a, b, c]) => ({ a, b: [b], c }));
  const types = fc.constantFrom("application/json", "text/plain", "", "application/x-ndjson", "text/event-stream");
  fc.assert(
    fc.property(document, types, fc.constantFrom(0, 2), (value, type, indent) => {
      const shown = redactBody(JSON.stringify(value, null, indent), type);
      expect(shown).not.toContain(marker);
      expect(() => JSON.parse(shown)).not.toThrow();
    }),
    { numRuns: 500 },
  );
});

/** Where the expressions for forms of secrets could begin. */
const SHAPED = [
  "eyJ-",
  "-eyJa.",
  "sk-",
  "://",
  "://a",
  "Bearer ",
  "<input ",
  "<a>",
  "<a ",
  "-----BEGIN PRIVATE KEY-----",
  "&a",
  ";",
  "%3b",
  "a='",
  'a:"',
  'a="\\',
  '{"a":"\\"',
  '"key":[',
  "<a><![CDATA[",
  "a: b\n",
  "--a",
  "/",
  '{"name":"pin","value":',
  '["pin",',
];

test("RT-4 a long body costs no more than its length", () => {
  for (const unit of ["a", "=", "&", '"', '"a"', '"a" ', "\\", "name=", "{", '"token":', ...SHAPED]) {
    for (const type of [
      "application/json",
      "application/x-www-form-urlencoded",
      "multipart/form-data",
      "text/xml",
      "text/plain",
    ]) {
      const started = performance.now();
      redactBody(unit.repeat(65_536 / unit.length), type);
      expect(performance.now() - started, `${unit} as ${type}`).toBeLessThan(5000);
    }
    const started = performance.now();
    redactTarget(`/${unit.repeat(65_536 / unit.length)}`);
    expect(performance.now() - started, `${unit} as a target`).toBeLessThan(5000);
  }
});
