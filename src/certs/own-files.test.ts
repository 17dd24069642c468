import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Signer } from "../../test/suites/fake-authority.ts";
import { until } from "../../test/suites/fake-time.ts";
import { FakeClock } from "../base/clock.ts";
import { type Log, silentLog } from "../base/log.ts";
import { newCertificateKey } from "./certificate-key.ts";
import { type OwnFiles, openOwnFiles } from "./own-files.ts";
import type { OwnSource } from "./own-pairs.ts";

const DAY_MS = 86_400_000;
const NOW = Date.UTC(2026, 0, 1);

let signer: Signer;
let folder: string;
let clock: FakeClock;
let opened: OwnFiles[] = [];
const told: string[] = [];
const log: Log = { ...silentLog, error: (event) => void told.push(event), info: (event) => void told.push(event) };

beforeAll(async () => {
  const root = await Signer.create("root", NOW - DAY_MS, NOW + 3650 * DAY_MS);
  signer = await Signer.create("issuer", NOW - DAY_MS, NOW + 3650 * DAY_MS, root);
});
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "sp-own-"));
  clock = new FakeClock(NOW);
  told.length = 0;
});
afterEach(() => {
  for (const files of opened) files.close();
  opened = [];
  rmSync(folder, { recursive: true, force: true });
});

async function open(...sources: OwnSource[]): Promise<OwnFiles> {
  const files = await openOwnFiles(sources, { clock, log });
  opened.push(files);
  return files;
}

async function pairFor(...names: string[]): Promise<{ chain: string; key: string }> {
  const key = await newCertificateKey();
  const leaf = await signer.sign({ names, key, notBefore: NOW - DAY_MS, notAfter: NOW + 90 * DAY_MS });
  return { chain: [leaf, ...signer.chain].join(""), key };
}

const put = (name: string, text: string): string => {
  const file = path.join(folder, name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, text);
  return file;
};

test("files that are named, with the key beside or inside, and words in between", async () => {
  const [first, second] = [await pairFor("a.example"), await pairFor("*.b.example")];
  const certificate = put("a", `subject=a\n${first.chain}`);
  const key = put(
    "secret",
    `-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n${first.key}`,
  );
  const both = put("b", second.key + second.chain);
  const files = await open({ certificate, key }, { certificate: both });
  expect(files.certificate("A.example.")).toMatchObject({ names: ["a.example"], chain: first.chain, key: first.key });
  expect(files.certificate("x.b.example")).toMatchObject({ names: ["*.b.example"], key: second.key });
  expect(files.certificate("b.example")).toBeUndefined();
  expect(files.certificate("x.y.b.example")).toBeUndefined();
  expect(files.list().map(({ file, notAfter }) => [path.basename(file), notAfter])).toEqual([
    ["a", NOW + 90 * DAY_MS],
    ["b", NOW + 90 * DAY_MS],
  ]);
});

test("folders as certbot, Kubernetes, mkcert, HAProxy and upstream's cert command leave them", async () => {
  const shapes: Record<string, readonly [string, string]> = {
    "certbot.example": ["live/fullchain.pem", "live/privkey.pem"],
    "kubernetes.example": ["secret/tls.crt", "secret/tls.key"],
    "mkcert.example": ["m.pem", "m-key.pem"],
    "upstream.example": ["upstream.example.crt", "upstream.example.key"],
  };
  for (const [name, [certificate, key]] of Object.entries(shapes)) {
    const pair = await pairFor(name);
    put(certificate, pair.chain);
    put(key, pair.key);
  }
  const bundle = await pairFor("haproxy.example");
  put("h.pem", bundle.chain + bundle.key);
  put("live/cert.pem", bundle.chain); // certbot's leaf and chain alone are nothing of their own
  put("live/chain.pem", bundle.chain);
  put("README", "not a certificate");
  put("notes.pem", "nor is this");
  put(".hidden.pem", bundle.chain + bundle.key);
  const files = await open({ folder });
  for (const name of [...Object.keys(shapes), "haproxy.example"])
    expect(files.certificate(name)?.names).toEqual([name]);
  expect(files.list()).toHaveLength(5);
  expect(told).not.toContain("certs.file_refused");
});

test("a change is noticed by itself, and the object stays the same until then", async () => {
  const [before, after] = [await pairFor("a.example"), await pairFor("a.example")];
  put("a.crt", before.chain);
  put("a.key", before.key);
  const files = await open({ folder });
  const served = files.certificate("a.example");
  let changes = 0;
  files.subscribe(() => changes++);
  await files.reload();
  expect(files.certificate("a.example")).toBe(served);
  expect(changes).toBe(0);
  put("a.key", after.key);
  put("a.crt", after.chain);
  // The watch sets an alarm for half a second later; where the machine has no watch left, the poll is a minute away.
  const givesUpAt = Date.now() + 10_000;
  await until(() => clock.next - clock.now() <= 500 || Date.now() > givesUpAt);
  clock.advance(clock.next - clock.now());
  await until(() => changes > 0);
  expect(files.certificate("a.example")).toMatchObject(after);
});

test("what nobody told of is found within a minute: the links of Kubernetes", async () => {
  const [before, after] = [await pairFor("a.example"), await pairFor("a.example")];
  for (const [version, pair] of [
    ["..1", before],
    ["..2", after],
  ] as const) {
    put(`${version}/tls.crt`, pair.chain);
    put(`${version}/tls.key`, pair.key);
  }
  symlinkSync("..1", path.join(folder, "..data"));
  for (const name of ["tls.crt", "tls.key"]) symlinkSync(`..data/${name}`, path.join(folder, name));
  const files = await open({ folder });
  expect(files.certificate("a.example")).toMatchObject(before);
  symlinkSync("..2", path.join(folder, "..new"));
  renameSync(path.join(folder, "..new"), path.join(folder, "..data"));
  clock.advance(60_000);
  await files.reload();
  expect(files.certificate("a.example")).toMatchObject(after);
});

describe("a broken one keeps the one before, with a log line and in the list", () => {
  const BROKEN: Record<string, (good: { chain: string; key: string }) => Promise<void>> = {
    "another key": async () => void put("a.key", await newCertificateKey()),
    "half a key": async ({ key }) => void put("a.key", key.slice(0, 90)),
    "half a chain": async ({ chain }) => void put("a.crt", chain.slice(0, chain.length / 3)),
    "an empty file": async () => void put("a.crt", ""),
    "no file": async () => rmSync(path.join(folder, "a.crt")),
    "a huge file": async () => void put("a.crt", "x".repeat(300 * 1024)),
    "one that has ended": async ({ key }) =>
      void put(
        "a.crt",
        await signer.sign({ names: ["a.example"], key, notBefore: NOW - 9 * DAY_MS, notAfter: NOW - 1 }),
      ),
  };
  test.each(Object.entries(BROKEN))("%s", async (_name, damage) => {
    const good = await pairFor("a.example");
    const [certificate, key] = [put("a.crt", good.chain), put("a.key", good.key)];
    const files = await open({ certificate, key });
    await damage(good);
    told.length = 0;
    await files.reload();
    await files.reload();
    expect(files.certificate("a.example")).toMatchObject(good);
    expect(files.list()[0]).toMatchObject({ names: ["a.example"], problem: expect.stringMatching(/./) });
    expect(told, "once").toEqual(["certs.file_refused"]);
    put("a.crt", good.chain);
    put("a.key", good.key);
    await files.reload();
    expect(files.list()[0]!.problem).toBeUndefined();
  });
});

test("one that begins later is served from then on", async () => {
  const key = await newCertificateKey();
  const leaf = await signer.sign({ names: ["a.example"], key, notBefore: NOW + DAY_MS, notAfter: NOW + 9 * DAY_MS });
  const files = await open({ certificate: put("a.pem", leaf + signer.chain.join("") + key) });
  expect(files.certificate("a.example")).toBeUndefined();
  expect(files.list()[0]!.problem).toMatch(/begins at/);
  clock.advance(DAY_MS);
  await files.reload();
  expect(files.certificate("a.example")).toBeDefined();
});

test("taken out of a folder: served no more; a folder that cannot be read is not an empty one", async () => {
  const [one, two] = [await pairFor("a.example"), await pairFor("b.example")];
  put("in/a.pem", one.chain + one.key);
  put("in/b.pem", two.chain + two.key);
  const files = await open({ folder: path.join(folder, "in") });
  rmSync(path.join(folder, "in/a.pem"));
  await files.reload();
  expect(files.certificate("a.example")).toBeUndefined();
  expect(files.certificate("b.example")).toBeDefined();
  renameSync(path.join(folder, "in"), path.join(folder, "away"));
  await files.reload();
  expect(files.certificate("b.example")).toBeDefined();
  expect(told).toContain("certs.folder_unreadable");
});

test("of two for one name the one that ends last", async () => {
  const key = await newCertificateKey();
  for (const days of [10, 30, 20]) {
    const leaf = await signer.sign({ names: ["a.example"], key, notBefore: NOW - 1, notAfter: NOW + days * DAY_MS });
    put(`${days}.pem`, leaf + signer.chain.join("") + key);
  }
  expect((await open({ folder })).certificate("a.example")?.notAfter).toBe(NOW + 30 * DAY_MS);
});
