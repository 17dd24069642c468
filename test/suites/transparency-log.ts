import { createHash, generateKeyPairSync, type KeyObject, sign, X509Certificate } from "node:crypto";
import { createServer } from "node:http";
import { gzipSync } from "node:zlib";
import { onTestFinished } from "vitest";
import { listening } from "./listening.ts";

const sha256 = (...parts: readonly Uint8Array[]): Buffer =>
  parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest();
const number = (value: number, width: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes.subarray(8 - width);
};
const vector = (bytes: Uint8Array, width: number): Buffer => Buffer.concat([number(bytes.length, width), bytes]);

/** RFC 6962 section 2.1, word for word; slow, and shares no code with ours. */
export function treeHash(leaves: readonly Uint8Array[]): Buffer {
  if (leaves.length === 0) return sha256();
  if (leaves.length === 1) return sha256(Uint8Array.of(0), leaves[0]!);
  const k = splitOf(leaves.length);
  return sha256(Uint8Array.of(1), treeHash(leaves.slice(0, k)), treeHash(leaves.slice(k)));
}

/** Section 2.1.1. */
export function auditPath(m: number, leaves: readonly Uint8Array[]): readonly Buffer[] {
  if (leaves.length === 1) return [];
  const k = splitOf(leaves.length);
  if (m < k) return [...auditPath(m, leaves.slice(0, k)), treeHash(leaves.slice(k))];
  return [...auditPath(m - k, leaves.slice(k)), treeHash(leaves.slice(0, k))];
}

const splitOf = (count: number): number => {
  let k = 1;
  while (k * 2 < count) k *= 2;
  return k;
};

export interface TestLog {
  readonly url: string;
  /** base64 of its public key. */
  readonly key: string;
  /** PEM. */
  add(certificate: string): void;
  /** As a CA promises a certificate that it is about to issue. */
  promise(certificate: string): void;
  addLeaf(body: Uint8Array): void;
  /** Signs all that was added. */
  publish(timestamp: number): void;
  /** What was asked for. */
  readonly asked: string[];
  /** How it misbehaves. */
  readonly faults: { status?: number; hides?: number; mostEntries?: number; signer?: KeyObject };
}

/** A log on loopback that can be read in both ways: RFC 6962 below `/`, tiles of c2sp.org/static-ct-api below `/static/`. */
export async function testLog(): Promise<TestLog> {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const spki = publicKey.export({ type: "spki", format: "der" });
  const leaves: { readonly timestamped: Buffer; readonly tail: Buffer }[] = [];
  const asked: string[] = [];
  const faults: TestLog["faults"] = {};
  let head = { size: 0, timestamp: 0 };

  const bytesOf = (index: number): Buffer => Buffer.concat([Uint8Array.of(0, 0), leaves[index]!.timestamped]);
  const shown = (index: number): Buffer => bytesOf(index === faults.hides ? index - 1 : index);
  const signed = (): Buffer[] => leaves.slice(0, head.size).map((_, index) => bytesOf(index));
  const digitallySigned = (): Buffer => {
    const input = Buffer.concat([
      Uint8Array.of(0, 1),
      number(head.timestamp, 8),
      number(head.size, 8),
      treeHash(signed()),
    ]);
    return Buffer.concat([Uint8Array.of(4, 3), vector(sign("sha256", input, faults.signer ?? privateKey), 2)]);
  };

  const answers: Readonly<Record<string, (query: URLSearchParams) => unknown>> = {
    "/ct/v1/get-sth": () => ({
      ...{ tree_size: head.size, timestamp: head.timestamp, sha256_root_hash: treeHash(signed()).toString("base64") },
      tree_head_signature: digitallySigned().toString("base64"),
    }),
    "/ct/v1/get-entries": (query) => {
      const start = Number(query.get("start"));
      const end = Math.min(Number(query.get("end")), head.size - 1, start + (faults.mostEntries ?? 64) - 1);
      const indexes = Array.from({ length: end - start + 1 }, (_, i) => start + i);
      return { entries: indexes.map((index) => ({ leaf_input: shown(index).toString("base64"), extra_data: "" })) };
    },
    "/ct/v1/get-proof-by-hash": (query) => {
      const size = Number(query.get("tree_size"));
      const all = signed().slice(0, size);
      const leaf_index = all.findIndex((leaf) => treeHash([leaf]).toString("base64") === query.get("hash"));
      return { leaf_index, audit_path: auditPath(leaf_index, all).map((hash) => hash.toString("base64")) };
    },
  };

  const tile = (path: string): Buffer | undefined => {
    const [, level = "", place = "", partial] =
      /^tile\/(\d|data)\/((?:x\d{3}\/)*\d{3})(?:\.p\/(\d+))?$/.exec(path) ?? [];
    if (level === "") return undefined;
    const index = Number(place.replace(/\D/g, ""));
    const scale = level === "data" ? 1 : 256 ** Number(level);
    const width = Math.min(256, Math.floor(head.size / scale) - index * 256);
    if (width <= 0 || (partial === undefined ? width < 256 : Number(partial) > width || width === 256))
      return undefined;
    const wanted = Array.from({ length: Number(partial ?? 256) }, (_, i) => index * 256 + i);
    if (level !== "data") {
      return Buffer.concat(wanted.map((at) => treeHash(signed().slice(at * scale, (at + 1) * scale))));
    }
    const tiles = wanted.map((at) => Buffer.concat([shown(at).subarray(2), leaves[at]!.tail]));
    return gzipSync(Buffer.concat(tiles));
  };

  const checkpoint = (): string => {
    const origin = "log.test/2026";
    const id = sha256(Buffer.from(`${origin}\n`), Uint8Array.of(5), sha256(spki)).subarray(0, 4);
    const line = (value: Uint8Array, name = origin): string =>
      `\u2014 ${name} ${Buffer.from(value).toString("base64")}\n`;
    const note = Buffer.concat([id, number(head.timestamp, 8), digitallySigned()]);
    const others = line(Buffer.alloc(76), "witness.test") + line(Buffer.alloc(68, 1));
    return `${origin}\n${head.size}\n${treeHash(signed()).toString("base64")}\n\n${others}${line(note)}`;
  };

  const server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? "/", "http://log");
    asked.push(request.url ?? "");
    if (faults.status !== undefined) return void response.writeHead(faults.status).end("no");
    const answer = answers[pathname];
    if (answer !== undefined) return void response.end(JSON.stringify(answer(searchParams)));
    if (pathname === "/static/checkpoint") return void response.end(checkpoint());
    const bytes = pathname.startsWith("/static/") ? tile(pathname.slice("/static/".length)) : undefined;
    if (bytes === undefined) return void response.writeHead(404).end();
    response.writeHead(200, pathname.includes("/data/") ? { "Content-Encoding": "gzip" } : {}).end(bytes);
  });
  const url = `http://127.0.0.1:${await listening(server)}`;
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });

  const add = (kind: 0 | 1, body: Buffer, tail: Buffer): void => {
    const timestamped = Buffer.concat([
      number(1_800_000_000_000 + leaves.length, 8),
      number(kind, 2),
      body,
      number(0, 2),
    ]);
    leaves.push({ timestamped, tail });
  };
  const chain = vector(Buffer.alloc(64, 7), 2);
  return {
    url,
    key: spki.toString("base64"),
    add: (certificate) => add(0, vector(new X509Certificate(certificate).raw, 3), chain),
    promise: (certificate) => {
      const { raw } = new X509Certificate(certificate);
      const tbs = element(raw, headerOf(raw, 0));
      add(1, Buffer.concat([sha256(Buffer.from("issuer")), vector(tbs, 3)]), Buffer.concat([vector(raw, 3), chain]));
    },
    addLeaf: (body) => add(0, vector(body, 3), chain),
    publish: (timestamp) => {
      head = { size: leaves.length, timestamp };
    },
    asked,
    faults,
  };
}

/** The bytes of the DER element at `offset`, header and all. */
function element(der: Buffer, offset: number): Buffer {
  const header = headerOf(der, offset);
  const length = header === 2 ? der[offset + 1]! : der.readUIntBE(offset + 2, header - 2);
  return der.subarray(offset, offset + header + length);
}

const headerOf = (der: Buffer, offset: number): number => (der[offset + 1]! < 0x80 ? 2 : 2 + (der[offset + 1]! & 0x7f));
