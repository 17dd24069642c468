import { createHash, createPublicKey, type KeyObject, verify } from "node:crypto";
import { Fault } from "../../base/fault.ts";
import { malformed } from "./log-entry.ts";

/** What a log has signed: all that it holds (RFC 6962 section 3.5). */
export interface TreeHead {
  readonly size: number;
  /** Unix ms. */
  readonly timestamp: number;
  readonly root: Uint8Array;
}

export interface LogKey {
  readonly key: KeyObject;
  /** SHA-256 of the key (RFC 6962 section 3.2). */
  readonly id: Uint8Array;
}

/** From base64 of a SubjectPublicKeyInfo, as lists of logs have it. @throws {Fault} CERT_TRANSPARENCY_KEY */
export function readLogKey(base64: string): LogKey {
  const der = Buffer.from(base64, "base64");
  try {
    return {
      key: createPublicKey({ key: der, format: "der", type: "spki" }),
      id: createHash("sha256").update(der).digest(),
    };
  } catch (cause) {
    throw new Fault(
      "CERT_TRANSPARENCY_KEY",
      "Cannot use the key of a transparency log: wanted base64 of its public key",
      {
        cause,
      },
    );
  }
}

const MAX_SIZE = 2 ** 48;
const HASH_BYTES = 32;
const SHA256 = 4;
/** `SignatureAlgorithm` (RFC 5246 section 7.4.1.4.1) by the key that may make it. */
const ALGORITHMS: Readonly<Record<string, number>> = { rsa: 1, ec: 3 };

/** The answer to `get-sth`. @throws {Fault} CERT_TRANSPARENCY_FORM, CERT_TRANSPARENCY_SIGNATURE */
export function readSignedTreeHead(answer: unknown, key: LogKey): TreeHead {
  const { tree_size, timestamp, sha256_root_hash, tree_head_signature } = Object(answer) as Record<string, unknown>;
  if (typeof sha256_root_hash !== "string" || typeof tree_head_signature !== "string") throw malformed("no tree head");
  const root = Buffer.from(sha256_root_hash, "base64");
  const head = { size: Number(tree_size), timestamp: Number(timestamp), root };
  return checked(head, Buffer.from(tree_head_signature, "base64"), key);
}

const SIGNATURE_LINE = /^\u2014 (\S+) ([A-Za-z0-9+/]+={0,2})$/;
const NOTE_KIND = 5;

/** A checkpoint (c2sp.org/static-ct-api). Its origin is nobody's word: the signature does not cover it. @throws {Fault} as above */
export function readCheckpoint(text: string, key: LogKey): TreeHead {
  const [body = "", signatures = ""] = text.split("\n\n", 2);
  const [origin = "", size = "", root = "", ...more] = body.split("\n");
  if (!/^(?:0|[1-9]\d{0,14})$/.test(size) || more.length > 0) throw malformed("no checkpoint");
  const id = createHash("sha256").update(`${origin}\n`).update(Uint8Array.of(NOTE_KIND)).update(key.id).digest();
  for (const line of signatures.split("\n")) {
    const [, name, value = ""] = SIGNATURE_LINE.exec(line) ?? [];
    const bytes = Buffer.from(value, "base64");
    if (name !== origin || bytes.length < 12 || !bytes.subarray(0, 4).equals(id.subarray(0, 4))) continue;
    const head = { size: Number(size), timestamp: Number(bytes.readBigUInt64BE(4)), root: Buffer.from(root, "base64") };
    return checked(head, bytes.subarray(12), key);
  }
  throw unsigned();
}

function checked(head: TreeHead, signed: Buffer, { key }: LogKey): TreeHead {
  const { size, timestamp, root } = head;
  const areNumbers = [size, timestamp].every((one) => Number.isInteger(one) && one >= 0 && one < MAX_SIZE);
  if (!areNumbers || root.length !== HASH_BYTES) throw malformed("no tree head");
  const input = Buffer.alloc(18 + HASH_BYTES);
  input[1] = 1; // version v1, then SignatureType tree_hash
  input.writeBigUInt64BE(BigInt(timestamp), 2);
  input.writeBigUInt64BE(BigInt(size), 10);
  input.set(root, 18);
  const isForm = signed.length > 4 && signed.readUInt16BE(2) === signed.length - 4;
  const isKind = signed[0] === SHA256 && signed[1] === ALGORITHMS[key.asymmetricKeyType ?? ""];
  if (!isForm || !isKind || !verify("sha256", input, key, signed.subarray(4))) throw unsigned();
  return head;
}

function unsigned(): Fault {
  return new Fault(
    "CERT_TRANSPARENCY_SIGNATURE",
    "Cannot believe the transparency log: its tree head has no signature by the key that is configured",
  );
}
