import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { directoryStore } from "./directory-store.ts";
import { type Log, silentLog } from "./log.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "sp-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const bytes = (text: string) => new Uint8Array(Buffer.from(text));
const textOf = (value: Uint8Array | undefined) => (value === undefined ? undefined : Buffer.from(value).toString());

test("keeps, replaces and deletes; private; any name", async () => {
  const store = await directoryStore(path.join(folder, "state"));
  expect(await store.get("a")).toBeUndefined();
  await store.set("a", bytes("one"));
  await store.set("a", bytes("two"));
  await store.set("../b", bytes(""));
  expect(textOf(await store.get("a"))).toBe("two");
  expect(await (await directoryStore(path.join(folder, "state"))).get("../b")).toEqual(new Uint8Array());
  expect(statSync(path.join(folder, "state")).mode & 0o777).toBe(0o700);
  for (const name of readdirSync(path.join(folder, "state"))) {
    expect(statSync(path.join(folder, "state", name)).mode & 0o777, name).toBe(0o600);
  }
  await store.delete("a");
  expect(await store.get("a")).toBeUndefined();
});

test("a folder that cannot be written to ended a program with `ENOSPC: no space left on device, write` and no name", async () => {
  writeFileSync(path.join(folder, "file"), "");
  const inFile = path.join(folder, "file", "state");
  await expect(directoryStore(inFile)).rejects.toMatchObject({
    ...{ code: "STATE_UNWRITABLE", message: expect.stringMatching(/^Cannot write state ".*\/file\/state": ENOTDIR: /) },
    hint: expect.stringContaining("state folder"),
  });
  const store = await directoryStore(path.join(folder, "gone"));
  rmSync(path.join(folder, "gone"), { recursive: true });
  await expect(store.set("a", bytes("one"))).rejects.toMatchObject({
    ...{ code: "STATE_UNWRITABLE", message: expect.stringMatching(/^Cannot write state ".*\/gone\/a": ENOENT: /) },
  });
});

test("a folder that is as it should be is not written to, for it may be on a read-only file system", async () => {
  await directoryStore(path.join(folder, "state"));
  const changed = (): bigint => statSync(path.join(folder, "state"), { bigint: true }).ctimeNs;
  const before = changed();
  await directoryStore(path.join(folder, "state"));
  expect(changed()).toBe(before);
});

test("writers of one name go one after another, and the last wins", async () => {
  const store = await directoryStore(folder);
  await Promise.all(Array.from({ length: 30 }, (_, i) => store.set("a", bytes(`${i} `.repeat(1000)))));
  expect(textOf(await store.get("a"))).toBe("29 ".repeat(1000));
});

/** What a crash, a full disk or a bad one leaves of a file. */
const DAMAGE: readonly (readonly [string, (whole: Buffer) => Buffer])[] = [
  ["empty", () => Buffer.alloc(0)],
  ["NUL bytes of the same length", (whole) => Buffer.alloc(whole.length)],
  ["NUL bytes at the end", (whole) => Buffer.concat([whole.subarray(0, -5), Buffer.alloc(5)])],
  ["one byte too many", (whole) => Buffer.concat([whole, Buffer.from("x")])],
  ["another version", (whole) => Buffer.from(whole.toString("latin1").replace("state 1", "state 2"), "latin1")],
  ["something else", () => Buffer.from("{}")],
  ...Array.from({ length: 24 }, (_, i): [string, (whole: Buffer) => Buffer] => [
    `torn after ${i + 1} of 25 parts`,
    (whole) => whole.subarray(0, Math.floor((whole.length * (i + 1)) / 25)),
  ]),
  ...Array.from({ length: 20 }, (_, i): [string, (whole: Buffer) => Buffer] => [
    `one bit flipped at part ${i} of 20`,
    (whole) => {
      const copy = Buffer.from(whole);
      copy[Math.floor((whole.length * i) / 20)]! ^= 1;
      return copy;
    },
  ]),
];

describe(`ST-5 ${DAMAGE.length} forms of damage`, () => {
  test.each(DAMAGE)("%s: the value before it is used, loudly", async (_name, damaged) => {
    const told: unknown[] = [];
    const log: Log = { ...silentLog, error: (event, fields) => void told.push([event, fields]) };
    const store = await directoryStore(folder, log);
    await store.set("identity", bytes("the first identity"));
    await store.set("identity", bytes("the second identity"));
    const file = path.join(folder, "identity");
    writeFileSync(file, damaged(readFileSync(file)));
    expect(textOf(await store.get("identity"))).toBe("the first identity");
    expect(told).toEqual([["state.damaged", expect.objectContaining({ file, used: `${file}.old` })]]);
    await store.set("identity", bytes("the third identity"));
    expect(textOf(await store.get("identity")), "what comes next heals it").toBe("the third identity");
  });

  test.each(DAMAGE)("%s, and nothing before it: stops, never an empty beginning", async (_name, damaged) => {
    const store = await directoryStore(folder);
    await store.set("identity", bytes("the only identity"));
    const file = path.join(folder, "identity");
    writeFileSync(file, damaged(readFileSync(file)));
    await expect(store.get("identity")).rejects.toMatchObject({ code: "STATE_DAMAGED" });
    expect(existsSync(file), "left for whoever repairs it").toBe(true);
  });
});

test("ST-5 a value that vanished while the one before is there is damage, not a beginning", async () => {
  const store = await directoryStore(folder);
  await store.set("identity", bytes("one"));
  await store.set("identity", bytes("two"));
  rmSync(path.join(folder, "identity"));
  expect(textOf(await store.get("identity"))).toBe("one");
});

test("ST-5 a first write that was cut off is no value; a whole scratch file is better than a torn value", async () => {
  const store = await directoryStore(folder);
  await store.set("a", bytes("whole"));
  const whole = readFileSync(path.join(folder, "a"));
  writeFileSync(path.join(folder, "b.new"), whole);
  expect(await store.get("b")).toBeUndefined();
  writeFileSync(path.join(folder, "a.new"), whole);
  truncateSync(path.join(folder, "a"), 3);
  expect(textOf(await store.get("a"))).toBe("whole");
});

test("ST-5 kill -9 in the middle of writes: 12 times, the last acknowledged value or the one after it", {
  timeout: 60_000,
}, async () => {
  const module = new URL("./directory-store.ts", import.meta.url).href;
  const script = `
    const { directoryStore } = await import(${JSON.stringify(module)});
    const store = await directoryStore(${JSON.stringify(folder)});
    let n = Number(Buffer.from((await store.get("n")) ?? "0").toString().split(" ")[0]);
    for (;;) {
      n++;
      await store.set("n", Buffer.from((n + " ").repeat(5000)));
      process.stdout.write(n + "\\n");
    }`;
  const store = await directoryStore(folder);
  let acknowledged = 0;
  for (let round = 0; round < 12; round++) {
    const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let left = 1 + round * 3;
    createInterface({ input: child.stdout }).on("line", (line) => {
      acknowledged = Number(line);
      if (--left === 0) child.kill("SIGKILL");
    });
    await once(child, "close");
    const words = textOf(await store.get("n"))!
      .trim()
      .split(" ");
    expect(new Set(words).size, "whole").toBe(1);
    expect(words).toHaveLength(5000);
    expect(Number(words[0])).toBeGreaterThanOrEqual(acknowledged);
    expect(Number(words[0])).toBeLessThanOrEqual(acknowledged + 1);
  }
});
