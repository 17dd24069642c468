import { Fault } from "../../base/fault.ts";

/** What a log was given: a certificate, or the promise of one. */
export interface LogEntry {
  /** Unix ms. */
  readonly timestamp: number;
  readonly isPrecertificate: boolean;
  /** DER that a reader of X.509 takes. A precertificate's has a signature without bits: a log keeps only what is signed. */
  readonly certificate: Uint8Array;
}

/** `MerkleTreeLeaf`, and the part of it that `TileLeaf` repeats. */
export interface Leaf {
  /** What is hashed (RFC 6962 section 3.4). */
  readonly bytes: Uint8Array;
  readonly entry: LogEntry;
}

const V1_TIMESTAMPED_ENTRY = Uint8Array.of(0, 0);
/** ecdsa-with-SHA256, and a BIT STRING of no bits. */
const NO_SIGNATURE = Buffer.from("300a06082a8648ce3d040302030100", "hex");
const FINGERPRINT_BYTES = 32;

/** @throws {Fault} CERT_TRANSPARENCY_FORM */
export function readLeaf(bytes: Uint8Array): Leaf {
  const reader = new Reader(bytes);
  if (reader.number(1) !== 0 || reader.number(1) !== 0) throw malformed("a leaf of another version or kind");
  const entry = timestampedEntry(reader);
  if (!reader.isAtEnd) throw malformed("bytes behind a leaf");
  return { bytes, entry };
}

/** A data tile (c2sp.org/static-ct-api). @throws {Fault} CERT_TRANSPARENCY_FORM */
export function readDataTile(tile: Uint8Array): readonly Leaf[] {
  const reader = new Reader(tile);
  const leaves: Leaf[] = [];
  while (!reader.isAtEnd) {
    const start = reader.offset;
    const entry = timestampedEntry(reader);
    const bytes = Buffer.concat([V1_TIMESTAMPED_ENTRY, tile.subarray(start, reader.offset)]);
    if (entry.isPrecertificate) reader.vector(3); // as it was handed in; what is logged stands in the entry
    if (reader.vector(2).length % FINGERPRINT_BYTES !== 0) throw malformed("a chain of odd length");
    leaves.push({ bytes, entry });
  }
  return leaves;
}

function timestampedEntry(reader: Reader): LogEntry {
  const timestamp = reader.number(6 + 2);
  const kind = reader.number(2);
  if (kind > 1) throw malformed("an entry of unknown kind");
  const isPrecertificate = kind === 1;
  if (isPrecertificate) reader.bytes(32); // of the issuer's key
  const body = reader.vector(3);
  reader.vector(2); // extensions
  return { timestamp, isPrecertificate, certificate: isPrecertificate ? withoutSignature(body) : body };
}

function withoutSignature(tbs: Uint8Array): Uint8Array {
  const length = tbs.length + NO_SIGNATURE.length;
  const head = length < 0x10000 ? [0x30, 0x82] : [0x30, 0x83, length >> 16];
  return Buffer.concat([Uint8Array.of(...head, (length >> 8) & 0xff, length & 0xff), tbs, NO_SIGNATURE]);
}

class Reader {
  readonly #all: Uint8Array;
  offset = 0;

  constructor(all: Uint8Array) {
    this.#all = all;
  }

  get isAtEnd(): boolean {
    return this.offset === this.#all.length;
  }

  bytes(count: number): Uint8Array {
    if (count > this.#all.length - this.offset) throw malformed("less than it says");
    this.offset += count;
    return this.#all.subarray(this.offset - count, this.offset);
  }

  number(width: number): number {
    const value = this.bytes(width).reduce((sum, byte) => sum * 256 + byte, 0);
    if (!Number.isSafeInteger(value)) throw malformed("a number that is too large");
    return value;
  }

  /** With its length in front, in so many bytes. */
  vector(width: number): Uint8Array {
    return this.bytes(this.number(width));
  }
}

export function malformed(found: string): Fault {
  return new Fault("CERT_TRANSPARENCY_FORM", `Cannot read the transparency log: found ${found}`);
}
