import { createHash, createHmac, createPrivateKey, X509Certificate } from "node:crypto";
import type { Random } from "../base/random.ts";
import { derValue } from "./der.ts";

const ITERATIONS = 2048;
const SALT_BYTES = 16;
const HASH_BYTES = 32;
const BLOCK_BYTES = 64;
/** RFC 7292 appendix B.3: the derived bytes are the key of a MAC. */
const MAC_PURPOSE = 3;

const OID = {
  data: "1.2.840.113549.1.7.1",
  shroudedKeyBag: "1.2.840.113549.1.12.10.1.2",
  certBag: "1.2.840.113549.1.12.10.1.3",
  x509Certificate: "1.2.840.113549.1.9.22.1",
  localKeyId: "1.2.840.113549.1.9.21",
  sha256: "2.16.840.1.101.3.4.2.1",
} as const;

/** Key and chain in one file for Windows and Java (RFC 7292), with an empty password as upstream's `cert` writes it. */
export function pkcs12Of({ key, chain }: { readonly key: string; readonly chain: string }, random: Random): Uint8Array {
  const certificates = chain.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  const [leaf, ...others] = certificates.map((pem) => new X509Certificate(pem).raw);
  if (leaf === undefined) throw new TypeError("no certificate in the chain");
  const encrypted = createPrivateKey(key).export({
    type: "pkcs8",
    format: "der",
    cipher: "aes-256-cbc",
    passphrase: "",
  });
  const link = attribute(OID.localKeyId, octets(createHash("sha1").update(leaf).digest()));
  const keys = sequence(bag(OID.shroudedKeyBag, encrypted, link));
  const certs = sequence(bag(OID.certBag, certBag(leaf), link), ...others.map((one) => bag(OID.certBag, certBag(one))));
  const content = sequence(dataContent(certs), dataContent(keys));
  const salt = random(SALT_BYTES);
  const mac = createHmac("sha256", derived(salt)).update(content).digest();
  const digest = sequence(sequence(oid(OID.sha256), derValue(0x05)), octets(mac));
  return sequence(integer(3), dataContent(content), sequence(digest, octets(salt), integer(ITERATIONS)));
}

function bag(type: string, value: Uint8Array, ...attributes: readonly Uint8Array[]): Buffer {
  const all = attributes.length === 0 ? [] : [derValue(0x31, ...attributes)];
  return sequence(oid(type), derValue(0xa0, value), ...all);
}

function certBag(certificate: Uint8Array): Buffer {
  return sequence(oid(OID.x509Certificate), derValue(0xa0, octets(certificate)));
}

function attribute(type: string, value: Uint8Array): Buffer {
  return sequence(oid(type), derValue(0x31, value));
}

function dataContent(content: Uint8Array): Buffer {
  return sequence(oid(OID.data), derValue(0xa0, octets(content)));
}

/** RFC 7292 appendix B.2 with SHA-256, for as many bytes as it gives. The empty password is two zero bytes: its end. */
function derived(salt: Uint8Array): Buffer {
  const diversifier = Buffer.alloc(BLOCK_BYTES, MAC_PURPOSE);
  const salted = Buffer.alloc(BLOCK_BYTES, salt);
  const password = Buffer.alloc(BLOCK_BYTES);
  let key = createHash("sha256").update(diversifier).update(salted).update(password).digest();
  for (let round = 1; round < ITERATIONS; round += 1) key = createHash("sha256").update(key).digest();
  return key.subarray(0, HASH_BYTES);
}

function oid(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split(".").map(Number);
  const bytes = [first * 40 + second, ...rest].flatMap((arc) => {
    const septets = [arc & 0x7f];
    for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128))
      septets.unshift((left & 0x7f) | 0x80);
    return septets;
  });
  return derValue(0x06, Uint8Array.from(bytes));
}

function integer(value: number): Buffer {
  const bytes = value < 0x80 ? [value] : [value >> 8, value & 0xff];
  return derValue(0x02, Uint8Array.from(bytes));
}

const octets = (bytes: Uint8Array): Buffer => derValue(0x04, bytes);
const sequence = (...parts: readonly Uint8Array[]): Buffer => derValue(0x30, ...parts);
