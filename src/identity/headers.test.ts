import { globSync, readFileSync } from "node:fs";
import path from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";
import { asciiJson, encodeHeaderValue, identityHeaders } from "./headers.ts";
import { isForwarding, isPlainName, isReserved } from "./reserved.ts";

test.each([
  ["Alice Smith", "Alice Smith"],
  ["Alice_Smith=?", "Alice_Smith=?"],
  ["Krūmiņa", "=?utf-8?q?Kr=C5=ABmi=C5=86a?="],
  ["José Ñandú_x=1?", "=?utf-8?q?Jos=C3=A9_=C3=91and=C3=BA=5Fx=3D1=3F?="],
  ["line\nbreak", "=?utf-8?q?line=0Abreak?="],
  ["\ud800", ""],
])("ID-8: value %j becomes %j (serve sheet 3.8)", (value, encoded) => {
  expect(encodeHeaderValue(value)).toBe(encoded);
});

test("ID-8: a long value becomes several words, characters whole", () => {
  const words = encodeHeaderValue("é".repeat(30)).split(" ");
  expect(words).toEqual(Array.from({ length: 3 }, () => `=?utf-8?q?${"=C3=A9".repeat(10)}?=`));
});

test("ID-8: any profile gives one line of ASCII each", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), fc.string({ unit: "binary" }), (login, name) => {
      const caller = {
        kind: "user",
        nodeKey: "",
        nodeName: "",
        login,
        displayName: name,
        profilePicture: name,
        address: "100.64.0.2",
      } as const;
      const pairs = identityHeaders({
        caller,
        capabilities: JSON.stringify({ [name]: [login] }),
        isFunnel: false,
        isTls: true,
        host: "gw",
        assertion: undefined,
        hops: 0,
      });
      for (const [, value] of pairs) expect(value).toMatch(/^[\t\x20-\x7e]*$/);
      expect(new Set(pairs.map(([field]) => field)).size).toBe(pairs.length);
    }),
  );
});

test("ID-10: capabilities are JSON that means the same, or absent", () => {
  fc.assert(
    fc.property(
      fc.json({ stringUnit: "binary" }),
      (json) => void expect(JSON.parse(asciiJson(json))).toEqual(JSON.parse(json)),
    ),
  );
  const facts = {
    caller: { kind: "anonymous", address: "1.2.3.4" },
    isFunnel: false,
    isTls: false,
    host: "gw",
    assertion: undefined,
    hops: 0,
  } as const;
  const names = identityHeaders({ ...facts, capabilities: `{"a":["${"x".repeat(9000)}"]}` }).map(([name]) => name);
  expect(names).not.toContain("Tailscale-App-Capabilities");
});

test.each([
  "Tailscale-User-Login",
  "TAILSCALE-USER-LOGIN",
  "Tailscale_User_Login",
  "tailscale.user.login",
  "_tailscale-x",
  "-Sallyport-Guest",
  "Tailscale--User",
  "tailscale",
  "Tailscale~User'Login",
  "Tailscale-Anything",
  "sallyport_assertion",
  "^tailscale+user",
])("ID-1, ID-20: %s is reserved", (name) => expect(isReserved(name)).toBe(true));

test.each(["X-Tailscale-User-Login", "Tailscaled", "T", "Sally", "TE", "__proto__", "constructor"])(
  "ID-1: %s is not reserved",
  (name) => expect(isReserved(name)).toBe(false),
);

test("ID-2, ID-4: names that fold, and forwarding fields", () => {
  expect([isPlainName("X-Ok"), isPlainName("X_No"), isPlainName("X.No")]).toEqual([true, false, false]);
  expect(["X-Forwarded-For", "x_real.ip", "Forwarded", "X-Original-URL", "Proxy"].every(isForwarding)).toBe(true);
  expect(isForwarding("Via")).toBe(false);
});

test("ID-1: no file but the builder writes a reserved field, and few so much as name one", () => {
  const source = path.resolve(import.meta.dirname, "..");
  // In code, not in comments: whole names, and the beginning of one that is put together.
  const names =
    /["'`](?:tailscale-(?:["'`$]|user|app-cap|headers-info|funnel-req)|sallyport-(?:["'`$]|caller|guest|assertion|proof))/i;
  const allowed = new Set([
    "identity/headers.ts", // the builder
    "identity/header-reader.ts", // for backends
    "identity/assertion-verifier.ts", // for backends
    "cli/demo.ts", // a caller that forges, and a backend that shows
    "proxy/replay/adaptations.ts", // reads captures
  ]);
  const naming = globSync("**/*.ts", { cwd: source }).filter(
    (file) => !file.endsWith(".test.ts") && names.test(readFileSync(path.join(source, file), "utf8")),
  );
  expect(naming.filter((file) => !allowed.has(file))).toEqual([]);
  expect(naming).toContain("identity/headers.ts");
});
