import { readdir, readFile, stat } from "node:fs/promises";
import path from "node:path";
import type { Certificate } from "./certificate.ts";
import { checkedCertificate } from "./certificate-checks.ts";

const LARGEST_FILE = 256 * 1024;
const MOST_FILES = 2_000;
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[\w+/=\s]*-----END CERTIFICATE-----\n?/g;
const KEY = /-----BEGIN ((?:[A-Z]{2,9} )?PRIVATE KEY)-----[\w+/=\s]*-----END \1-----/;

/** Where the operator has certificates; a key in the same file needs no name. */
export type OwnSource =
  | { readonly certificate: string; readonly key?: string | undefined }
  | { readonly folder: string };

/** Files, absolute. */
export interface Pair {
  readonly certificate: string;
  readonly key: string;
}

/**
 * What a source names, or what a folder holds, one level of folders below it too: `name.crt` and `name.key`, `tls.crt` and
 * `tls.key` (Kubernetes), `name.pem` and `name-key.pem` (mkcert), `fullchain.pem` and `privkey.pem` (certbot), or both in
 * one `name.pem` (HAProxy). Files that are none of these are not ours.
 */
export async function findPairs(source: OwnSource): Promise<readonly Pair[]> {
  if ("folder" in source) return pairsIn(path.resolve(source.folder));
  const certificate = path.resolve(source.certificate);
  return [{ certificate, key: source.key === undefined ? certificate : path.resolve(source.key) }];
}

/** @throws {Fault} CERT_REJECTED; {Error} of the file system */
export async function readPair(pair: Pair, now: number): Promise<Certificate> {
  const text = await readText(pair.certificate);
  const keyText = pair.key === pair.certificate ? text : await readText(pair.key);
  // Files of people have words between the blocks.
  const chain = (text.match(CERTIFICATE) ?? []).join("\n");
  return checkedCertificate(chain, KEY.exec(keyText)?.[0] ?? "", { now });
}

/** Changes when either file does, or what a link points to. */
export async function signatureOf(pair: Pair): Promise<string> {
  const parts = await Promise.all(
    [pair.certificate, pair.key].map(async (file) => {
      const found = await stat(file, { bigint: true }).catch(() => undefined);
      return found === undefined ? "none" : `${found.ino} ${found.size} ${found.mtimeNs} ${found.ctimeNs}`;
    }),
  );
  return parts.join("; ");
}

async function pairsIn(folder: string): Promise<readonly Pair[]> {
  const folders = [folder];
  for (const entry of await readdir(folder)) {
    const inner = path.join(folder, entry);
    // Links to folders count; hidden ones are the old and new versions that Kubernetes keeps there.
    if (!entry.startsWith(".") && (await stat(inner).catch(() => undefined))?.isDirectory()) folders.push(inner);
  }
  const pairs: Pair[] = [];
  for (const each of folders) {
    const names = new Set((await readdir(each)).filter((name) => !name.startsWith(".")));
    for (const name of [...names].sort()) {
      const key = await keyFor(each, name, names);
      if (key !== undefined) pairs.push({ certificate: path.join(each, name), key: path.join(each, key) });
      if (pairs.length >= MOST_FILES) return pairs;
    }
  }
  return pairs;
}

async function keyFor(folder: string, name: string, names: ReadonlySet<string>): Promise<string | undefined> {
  const stem = /^(.+)\.(?:crt|cer|pem)$/.exec(name)?.[1];
  if (stem === undefined || /-key$|^privkey$/.test(stem)) return undefined;
  const beside = [
    `${stem}.key`,
    `${stem}-key.pem`,
    `${stem}.key.pem`,
    ...(stem === "fullchain" ? ["privkey.pem"] : []),
  ];
  const found = beside.find((file) => names.has(file));
  if (found !== undefined) return found;
  const text = await readText(path.join(folder, name)).catch(() => "");
  return KEY.test(text) && text.includes("-----BEGIN CERTIFICATE-----") ? name : undefined;
}

async function readText(file: string): Promise<string> {
  const { size } = await stat(file);
  if (size > LARGEST_FILE) throw new Error(`"${file}" has ${size} bytes, at most ${LARGEST_FILE} wanted`);
  return readFile(file, "latin1");
}
