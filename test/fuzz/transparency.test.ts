import { generateKeyPairSync } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Fault } from "../../src/base/fault.ts";
import { readDataTile, readLeaf } from "../../src/certs/transparency/log-entry.ts";
import { seenCertificate } from "../../src/certs/transparency/seen-certificate.ts";
import { readCheckpoint, readLogKey, readSignedTreeHead } from "../../src/certs/transparency/tree-head.ts";
import { WatchedNames } from "../../src/certs/transparency/watched-names.ts";
import { certificateOf } from "../suites/proxy-scene.ts";
import { FUZZ_TIMEOUT_MS, holds, hostileBytes, quiet } from "./fuzzing.ts";

const NAME = "web.tail.test";
const key = readLogKey(
  generateKeyPairSync("ec", { namedCurve: "P-256" })
    .publicKey.export({ type: "spki", format: "der" })
    .toString("base64"),
);
const vector = (bytes: Uint8Array, width: number): Buffer => {
  const length = Buffer.alloc(width);
  length.writeUIntBE(bytes.length, 0, width);
  return Buffer.concat([length, bytes]);
};

describe("a transparency log is a stranger", { timeout: FUZZ_TIMEOUT_MS }, () => {
  test("leaves and tiles: read, or a Fault; what is read is what was hashed", async () => {
    const { cert } = await certificateOf(NAME);
    const der = Buffer.from(cert.replace(/-----[^-]+-----|\s/g, ""), "base64");
    const head = Buffer.from("0000018c00000000", "hex");
    const timestamped = Buffer.concat([head, Buffer.of(0, 0), vector(der, 3), Buffer.alloc(2)]);
    const promised = Buffer.concat([head, Buffer.of(0, 1), Buffer.alloc(32), vector(der, 3), Buffer.alloc(2)]);
    const tile = Buffer.concat([
      timestamped,
      vector(Buffer.alloc(64), 2),
      promised,
      vector(der, 3),
      vector(Buffer.alloc(32), 2),
    ]);
    const leaves = [timestamped, promised].map((one) => Buffer.concat([Buffer.alloc(2), one]));
    expect(leaves.map((leaf) => seenCertificate(readLeaf(leaf).entry)?.names)).toEqual([[NAME], undefined]);
    expect(readDataTile(tile)).toHaveLength(2);
    const watched = new WatchedNames([NAME], []);
    const property = fc.property(hostileBytes(...leaves, tile), (bytes) => {
      const leaf = quiet(() => readLeaf(bytes));
      const all = quiet(() => readDataTile(bytes));
      if (!(leaf instanceof Fault)) expect(leaf.bytes).toBe(bytes);
      for (const { entry } of [...(leaf instanceof Fault ? [] : [leaf]), ...(all instanceof Fault ? [] : all)]) {
        const seen = seenCertificate(entry);
        if (seen?.names.includes(NAME) === true) expect(watched.mayBeIn(entry.certificate)).toBe(true);
      }
    });
    holds(property, 2000);
  });

  test("heads: none without its signature, whatever it says", () => {
    const sth = JSON.stringify({
      tree_size: 1,
      timestamp: 1,
      sha256_root_hash: "A".repeat(44),
      tree_head_signature: "BAMA",
    });
    const note = `log.test\n5\n${"A".repeat(43)}=\n\n\u2014 log.test ${"A".repeat(96)}\n`;
    const texts = hostileBytes(Buffer.from(sth), Buffer.from(note)).map((bytes) => Buffer.from(bytes).toString("utf8"));
    const json = (text: string): unknown => {
      try {
        return JSON.parse(text);
      } catch {
        return text;
      }
    };
    const property = fc.property(
      fc.oneof(
        texts,
        fc.jsonValue().map((value) => JSON.stringify(value)),
      ),
      (text) => {
        expect(quiet(() => readCheckpoint(text, key))).toBeInstanceOf(Fault);
        expect(quiet(() => readSignedTreeHead(json(text), key))).toBeInstanceOf(Fault);
      },
    );
    holds(property, 2000);
  });
});
