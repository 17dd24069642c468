import { chacha20poly1305 } from "@noble/ciphers/chacha.js";
import { describe, expect, test } from "vitest";
import { fromHex, toHex } from "../../base/bytes.ts";
import { seededRandom } from "../../base/random.ts";
import { type Aead, NONCE_BYTES, TAG_BYTES, writeNonce } from "./aead.ts";
import { availableAeads, chooseAead, passesSelfTest } from "./choose.ts";
import { nobleAead } from "./noble.ts";

const reference = nobleAead();

describe.each(availableAeads().map((aead) => [aead.name, aead] as const))("%s", (_name, aead) => {
  test("WireGuard's first keepalive", () => {
    const slab = new Uint8Array(TAG_BYTES);
    aead.seal(fromHex("e07b709efbfd0361a08a9de658ceb3847d648c207ed71d4dbdfe248bef23a651")!, 0, 0, slab, 0, 0);
    expect(toHex(slab)).toBe("69958abbebcb06f97a256144abed28f6");
  });

  test("same bytes as noble for every length, offset and size of counter", () => {
    const random = seededRandom(5);
    for (const length of [0, 1, 15, 16, 17, 63, 64, 65, 255, 256, 257, 1280, 1420]) {
      for (const [low, high] of [
        [0, 0],
        [0xffffffff, 0],
        [0, 1],
        [0xffffdffe, 0xffffffff],
      ] as const) {
        const key = random(32);
        const ours = random(length + 40);
        const theirs = ours.slice();
        const before = ours.slice();
        aead.seal(key, low, high, ours, 11, length);
        reference.seal(key, low, high, theirs, 11, length);
        expect(toHex(ours)).toBe(toHex(theirs));
        const nonce = new Uint8Array(NONCE_BYTES);
        writeNonce(nonce, low, high);
        const expected = chacha20poly1305(key, nonce).encrypt(before.subarray(11, 11 + length));
        expect(toHex(ours.subarray(11, 27 + length))).toBe(toHex(expected));
        expect(aead.open(key, low, high, ours, 11, length + TAG_BYTES)).toBe(true);
        expect(toHex(ours.subarray(0, 11 + length))).toBe(toHex(before.subarray(0, 11 + length)));
      }
    }
  });

  test("in a slab as large as those of sockets, at any place", () => {
    const random = seededRandom(7);
    const [ours, theirs] = [new Uint8Array(70_000), new Uint8Array(70_000)];
    for (let i = 0; i < 200; i++) {
      const key = random(32);
      const length = (random(1)[0]! * 256 + random(1)[0]!) % 1500;
      const offset = (i * 341) % 68_000;
      const plain = random(length);
      ours.set(plain, offset);
      theirs.set(plain, offset);
      aead.seal(key, i, 0, ours, offset, length);
      reference.seal(key, i, 0, theirs, offset, length);
      expect(Buffer.compare(ours, theirs)).toBe(0);
      if (i % 2 === 0) continue;
      expect(aead.open(key, i, 0, ours, offset, length + TAG_BYTES)).toBe(true);
      expect(Buffer.compare(ours.subarray(offset, offset + length), plain)).toBe(0);
      theirs.set(ours.subarray(offset, offset + length + TAG_BYTES), offset);
    }
  });

  test("refuses any changed byte, another counter, and what is shorter than a tag", () => {
    const key = seededRandom(6)(32);
    const sealed = new Uint8Array(36);
    aead.seal(key, 7, 0, sealed, 0, 20);
    for (let i = 0; i < 36; i++) {
      const changed = sealed.slice();
      changed[i]! ^= 0x10;
      expect(aead.open(key, 7, 0, changed, 0, 36)).toBe(false);
    }
    expect(aead.open(key, 8, 0, sealed.slice(), 0, 36)).toBe(false);
    expect(aead.open(key, 7, 1, sealed.slice(), 0, 36)).toBe(false);
    for (let length = 0; length < TAG_BYTES; length++)
      expect(aead.open(key, 7, 0, sealed.slice(), 0, length)).toBe(false);
  });
});

test("a wrong implementation fails the self-test", () => {
  const broken: Aead = { ...reference, open: () => true };
  expect(passesSelfTest(reference)).toBe(true);
  expect(passesSelfTest(broken)).toBe(false);
});

test("a forced name is that one", () => {
  expect(chooseAead("node-crypto").name).toBe("node-crypto");
  expect(chooseAead("noble").name).toBe("noble");
  expect(availableAeads()[0]!.name).toBe(chooseAead().name);
});
