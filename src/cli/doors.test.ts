import { Readable } from "node:stream";
import { expect, test } from "vitest";
import { Screen } from "../../test/suites/typed-command.ts";
import { parseHash, SecretChecks } from "../proxy/doors/secret-hash.ts";
import { main } from "./main.ts";

async function hash(secret: string, ...flags: string[]) {
  const screen = new Screen({ stdin: Readable.from([`${secret}\n`]) });
  const code = await main(["doors", "hash", ...flags], screen.io);
  return { code, hash: parseHash(screen.stdout.trim()), stderr: screen.stderr };
}

test("a hashed PIN with blanks let nobody in: at the door they do not count", async () => {
  const checks = new SecretChecks();
  const made = await hash("482 913-5", "--pin");
  expect(await checks.matches(made.hash!, "4829135")).toBe(true);
  const unsaid = await hash("482 913");
  expect([unsaid.code, unsaid.hash, unsaid.stderr]).toEqual([1, undefined, expect.stringContaining("say --pin")]);
  expect((await hash("482913")).code, "one or the other").toBe(0);
});

test.each([
  ["1234", [], "wanted a password of 8 characters or a PIN of 6 digits, or more"],
  ["hunter2", [], "too short"],
  ["12345", ["--pin"], "wanted 6 to 12 digits"],
  ["correct horse", ["--pin"], "wanted 6 to 12 digits"],
  ["", [], "nothing came"],
  ["# of the club\ncorrect horse", [], "one line"],
  ["c\0o\0r\0r\0e\0c\0t\0", [], "one line"],
])(
  "%j, which a services file may not hold itself, was hashed for it without a word (%j)",
  async (secret, flags, said) => {
    const made = await hash(secret, ...flags);
    expect([made.code, made.hash, made.stderr]).toEqual([1, undefined, expect.stringContaining(said)]);
  },
);
