import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { describe, expect, test } from "vitest";
import { readCheckpoint, readLogKey, readSignedTreeHead } from "./tree-head.ts";

/** Google's log "Pilot" in April 2014: key of the log list, head of google/certificate-transparency-go's tests. */
const KEY =
  "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEfahLEimAoz2t01p3uMziiLOl/fHTDM0YDOhBRuiBARsV4UvxG2LdNgoIGLrtCzWE0J5APC2em4JlvR8EEEFMoA==";
const HEAD = {
  tree_size: 3721782,
  timestamp: 1396609800587,
  sha256_root_hash: "SxKOxksguvHPyUaKYKXoZHzXl91Q257+JQ0AUMlFfeo=",
  tree_head_signature:
    "BAMARjBEAiBUYO2tODlUUw4oWGiVPUHqZadRRyXs9T2rSXchA79VsQIgLASkQv3cu4XdPFCZbgFkIUefniNPCpO3LzzHX53l+wg=",
};
const ORIGIN = "ct.googleapis.com/pilot";

/** The same head as a checkpoint: no key is needed for that (c2sp.org/static-ct-api). */
function checkpointOf(
  { tree_size, timestamp, sha256_root_hash, tree_head_signature }: typeof HEAD,
  origin = ORIGIN,
): string {
  const logId = createHash("sha256").update(Buffer.from(KEY, "base64")).digest();
  const id = createHash("sha256").update(`${origin}\n\u0005`).update(logId).digest().subarray(0, 4);
  const time = Buffer.alloc(8);
  time.writeBigUInt64BE(BigInt(timestamp));
  const note = Buffer.concat([id, time, Buffer.from(tree_head_signature, "base64")]).toString("base64");
  return `${origin}\n${tree_size}\n${sha256_root_hash}\n\n\u2014 witness.example ${"A".repeat(96)}\n\u2014 ${origin} ${note}\n`;
}

describe("FN-12 a signed tree head", () => {
  const wanted = { size: 3721782, timestamp: 1396609800587, root: Buffer.from(HEAD.sha256_root_hash, "base64") };

  test("a published one, by both ways", () => {
    expect(readSignedTreeHead(HEAD, readLogKey(KEY))).toEqual(wanted);
    expect(readCheckpoint(checkpointOf(HEAD), readLogKey(KEY))).toEqual(wanted);
  });

  test.each<[what: string, change: Partial<Record<keyof typeof HEAD, unknown>>]>([
    ["another size", { tree_size: 3721783 }],
    ["another time", { timestamp: 1396609800588 }],
    ["another root", { sha256_root_hash: Buffer.alloc(32).toString("base64") }],
    ["a root of another length", { sha256_root_hash: Buffer.alloc(31).toString("base64") }],
    ["no size", { tree_size: -1 }],
    ["a size that is none", { tree_size: "many" }],
    ["half a size", { tree_size: 0.5 }],
    ["another hash in the signature", { tree_head_signature: HEAD.tree_head_signature.replace("BAMA", "BQMA") }],
    ["an RSA signature", { tree_head_signature: HEAD.tree_head_signature.replace("BAMA", "BAEA") }],
    ["half a signature", { tree_head_signature: HEAD.tree_head_signature.slice(0, 40) }],
    ["no signature", { tree_head_signature: "" }],
    ["a signature that is no text", { tree_head_signature: 5 }],
  ])("%s is not believed", (_, change) => {
    expect(() => readSignedTreeHead({ ...HEAD, ...change }, readLogKey(KEY))).toThrow(/^Cannot (?:believe|read) the/);
  });

  test.each<Partial<typeof HEAD>>([
    { tree_size: 3721783 },
    { timestamp: 1396609800588 },
    { sha256_root_hash: Buffer.alloc(32).toString("base64") },
    { tree_head_signature: HEAD.tree_head_signature.slice(0, 40) },
  ])("nor is a checkpoint with %j", (change) => {
    expect(() => readCheckpoint(checkpointOf({ ...HEAD, ...change }), readLogKey(KEY))).toThrow(
      /^Cannot (?:believe|read)/,
    );
  });

  test("by another key, even for the same origin, it is not believed", () => {
    const other = generateKeyPairSync("ec", { namedCurve: "P-256" }).publicKey.export({ type: "spki", format: "der" });
    const key = readLogKey(other.toString("base64"));
    expect(() => readSignedTreeHead(HEAD, key)).toThrow("no signature by the key");
    expect(() => readCheckpoint(checkpointOf(HEAD), key)).toThrow("no signature by the key");
    expect(() => readLogKey("AAAA")).toThrow("Cannot use the key");
  });

  test.each([
    "",
    "\n\n",
    "origin\n5\nAAAA\nextension\n\n",
    "origin\n05\nAAAA\n\n",
    "origin\n5\nAAAA\n\n\u2014 origin AAAA\n",
  ])("the checkpoint %j is none", (text) => {
    expect(() => readCheckpoint(text, readLogKey(KEY))).toThrow(/^Cannot (?:believe|read) the/);
  });

  test("RSA logs are read, too", () => {
    const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    const input = Buffer.concat([Buffer.from("0001", "hex"), Buffer.alloc(16, 0), Buffer.alloc(32, 7)]);
    const signature = sign("sha256", input, privateKey);
    const answer = {
      ...{ tree_size: 0, timestamp: 0, sha256_root_hash: Buffer.alloc(32, 7).toString("base64") },
      tree_head_signature: Buffer.concat([Buffer.from("04010100", "hex"), signature]).toString("base64"),
    };
    const key = readLogKey(publicKey.export({ type: "spki", format: "der" }).toString("base64"));
    expect(readSignedTreeHead(answer, key).size).toBe(0);
  });
});
