import { createHash, timingSafeEqual } from "node:crypto";
import type { Random } from "../base/random.ts";
import type { AuthKey } from "./records.ts";

const PREFIX = "sp-auth-";
const FORM = /^sp-auth-([0-9a-f]{12})-([0-9a-f]{64})$/;

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const digest = (salt: string, secret: string): Buffer =>
  createHash("sha256").update(Buffer.from(salt, "hex")).update(Buffer.from(secret, "hex")).digest();

export interface MintedKey {
  readonly id: string;
  readonly salt: string;
  readonly hash: string;
  /** The only time the secret is seen. */
  readonly key: string;
}

export function mintAuthKey(random: Random): MintedKey {
  const id = hex(random(6));
  const salt = hex(random(16));
  const secret = hex(random(32));
  return { id, salt, hash: digest(salt, secret).toString("hex"), key: `${PREFIX}${id}-${secret}` };
}

/** Id of the key that a text claims to be. */
export function authKeyId(text: string): string | undefined {
  return FORM.exec(text)?.[1];
}

export function matchesAuthKey(record: AuthKey, text: string): boolean {
  const [, id, secret] = FORM.exec(text) ?? [];
  if (id === undefined || secret === undefined || id !== record.id) return false;
  return timingSafeEqual(digest(record.salt, secret), Buffer.from(record.hash, "hex"));
}

/** Why a key lets nobody in, in the words stock clients already show; undefined when it does. */
export function refusalOf(record: AuthKey, now: number): string | undefined {
  if (record.revoked !== undefined) return "authkey revoked";
  if (record.expires !== undefined && record.expires <= now) return "authkey expired";
  if (!record.reusable && record.uses > 0) return "authkey already used";
  return undefined;
}
