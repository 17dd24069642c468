import { createPrivateKey, X509Certificate } from "node:crypto";
import { chmodSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { scratchFolder } from "../../../test/suites/scratch.ts";
import { FakeClock } from "../../base/clock.ts";
import { silentLog } from "../../base/log.ts";
import { memoryStore } from "../../base/store.ts";
import { certificateDigest } from "../../certs/self-signed.ts";
import type { DoorsConfig } from "../../config/doors.ts";
import { tokenNamed } from "../../proxy/doors/door.ts";
import { Gatekeeper } from "../../proxy/doors/gatekeeper.ts";
import { formatHash, hashSecret, SecretChecks } from "../../proxy/doors/secret-hash.ts";
import { DoorAdmin } from "./door-admin.ts";
import { openDoors } from "./doors.ts";

const folder = scratchFolder();

function file(name: string, text: string | Buffer, mode: number = 0o600): string {
  const place = path.join(folder, name);
  writeFileSync(place, text);
  chmodSync(place, mode);
  return `file:${place}`;
}

test("secrets come from files and the environment, and are known by what they hash to alone", async () => {
  const env = { PIN: "482 913", TOKEN: "a-token-that-is-long-enough" };
  const hashed = formatHash(await hashSecret("already hashed", { log2: 14, blocks: 8, lanes: 1 }));
  const doors: DoorsConfig = {
    one: {
      password: file("p", "correct horse\n"),
      pin: "env:PIN",
      tokens: { ci: "env:TOKEN" },
      idle: "90m",
      longest: "2d",
    },
    two: { password: file("h", hashed) },
  };
  const [one, two] = await openDoors(doors, env);
  const checks = new SecretChecks();
  expect(await checks.matches(one!.password!, "correct horse")).toBe(true);
  expect(await checks.matches(one!.pin!, "482913")).toBe(true);
  expect(await checks.matches(two!.password!, "already hashed")).toBe(true);
  expect(tokenNamed(one!.tokens, env.TOKEN)?.name).toBe("ci");
  expect(one!.life).toEqual({ idleMs: 90 * 60_000, longestMs: 2 * 86_400_000 });
  expect(JSON.stringify([one, two])).not.toMatch(/correct horse|482|a-token/);
});

test("nobody knew the password that Notepad had written: before it stood a byte order mark", async () => {
  const [door] = await openDoors({ a: { password: file("bom", "\ufeffcorrect horse\r\n") } }, {});
  expect(await new SecretChecks().matches(door!.password!, "correct horse")).toBe(true);
});

test("CF-2 read again unchanged it is the same door; with another secret it is another", async () => {
  const where = file("again", "first password");
  const versionOf = async () => (await openDoors({ a: { password: where } }, {}))[0]!.version;
  const before = await versionOf();
  expect(await versionOf()).toBe(before);
  file("again", "second password");
  expect(await versionOf()).not.toBe(before);
});

test.each<[string, DoorsConfig, string]>([
  ["a missing file", { a: { password: `file:${folder}/none` } }, "ENOENT"],
  ["an empty one", { a: { password: file("empty", "\n") } }, "nothing of use"],
  ["a variable that is not set", { a: { pin: "env:NONE" } }, "nothing of use"],
  ["a short password", { a: { password: file("short", "hunter2") } }, "8 characters"],
  ["letters for a PIN", { a: { pin: file("letters", "hunter2hunter2") } }, "6 to 12 digits"],
  ["a PIN that is guessed soon", { a: { pin: file("four", "1234") } }, "6 to 12 digits"],
  ["a password that no form takes", { a: { password: file("long", "x".repeat(1025)) } }, "1024 characters or less"],
  ["a password of two lines", { a: { password: file("lines", "# hunter2\ncorrect horse\n") } }, "one line of text"],
  [
    "one that Notepad has written as `Unicode`",
    { a: { password: file("utf16", Buffer.from("\ufeffhunter2hunter2", "utf16le")) } },
    "UTF-8",
  ],
  ["a short token", { a: { tokens: { ci: file("token", "hunter2") } } }, "20 printable"],
])("CF-6 %s is an error that names the place, not the secret", async (_, doors, why) => {
  const failure = await openDoors(doors, {}).catch((thrown: unknown) => thrown);
  expect(failure).toMatchObject({ code: "DOOR_SECRET", message: expect.stringContaining(why) });
  expect(String(failure)).not.toMatch(/hunter2|1234/);
});

test("CF-6 a secret that others may read is said", async () => {
  const loose: string[] = [];
  await openDoors({ a: { password: file("loose", "correct horse", 0o644) } }, {}, (name) => loose.push(name));
  expect(loose).toEqual([path.join(folder, "loose")]);
});

test("an operator invites by a link that is shown once, sees who is inside, and puts them out", async () => {
  const declared = { friends: { links: true }, staff: { pin: "env:PIN" }, "book-club": { certificates: true } };
  const gatekeeper = await Gatekeeper.open({ clock: new FakeClock(), log: silentLog, store: memoryStore() });
  gatekeeper.setDoors(await openDoors(declared, { PIN: "482913" }));
  const places: Record<string, string[]> = { friends: ["https://gw.tail.test/app/"] };
  const admin = new DoorAdmin(gatekeeper, () => new Map(Object.entries(places)));
  const wish = { door: "friends", name: "Carol", lifeMs: 60_000, isOnce: false };
  const { url, id } = await admin.invite(wish);
  expect(url).toMatch(/^https:\/\/gw\.tail\.test\/\.sallyport\/door\/friends\/link\/[\w-]{43}\?to=%2Fapp%2F$/);
  const token = /link\/([\w-]{43})/.exec(url)![1]!;
  expect(JSON.stringify(admin.document())).not.toContain(token);
  gatekeeper.sessions.start("friends", { issuer: "i", subject: "s", pass: id }, "192.0.2.1", {
    idleMs: 1000,
    longestMs: 1000,
  });
  expect(admin.document()).toMatchObject({
    doors: [
      { name: "friends", ways: ["links"], at: places["friends"] },
      { name: "staff", ways: ["pin"], at: [] },
      { name: "book-club", ways: ["certificates"], at: [] },
    ],
    passes: [{ id, name: "Carol" }],
    sessions: [{ subject: "s", address: "192.0.2.1" }],
  });
  places["friends"] = ["*.apps.test:443/"];
  await expect(admin.invite(wish)).rejects.toThrow("before *.apps.test:443/ alone");
  expect(await admin.revoke(id)).toBe(true);
  expect(admin.document()).toMatchObject({ passes: [], sessions: [] });
  expect(await admin.revoke(id)).toBe(false);
  const made = await admin.certify({ door: "book-club", name: "Dave", lifeMs: 60_000 });
  expect(createPrivateKey(made.key).asymmetricKeyType).toBe("ec");
  const shown = new X509Certificate(made.certificate);
  expect([shown.subject, shown.keyUsage]).toEqual(["CN=Dave", ["1.3.6.1.5.5.7.3.2"]]);
  expect(gatekeeper.passes.holder("book-club", certificateDigest(made.certificate))?.name).toBe("Dave");
  expect(JSON.stringify(admin.document())).not.toContain("PRIVATE KEY");
  await expect(admin.certify({ door: "friends", name: "Dave", lifeMs: 60_000 })).rejects.toMatchObject({
    code: "DOOR_PASS",
  });
  for (const door of ["staff", "none"]) {
    await expect(admin.invite({ ...wish, door })).rejects.toMatchObject({ code: "DOOR_PASS" });
  }
});
