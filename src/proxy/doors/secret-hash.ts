import { createHash, randomBytes, scrypt, timingSafeEqual } from "node:crypto";
import { Fault } from "../../base/fault.ts";

/** OWASP's smallest advice for scrypt with 32 MiB: 2^15, 8, 3. */
const COST: HashCost = { log2: 15, blocks: 8, lanes: 3 };
const KEY_BYTES = 32;
const FORM = /^scrypt:(\d{2}):(\d{1,2}):(\d{1,2}):([\w-]{16,86}):([\w-]{43})$/;

export const SHORTEST_PASSWORD = 8;
export const LONGEST_PASSWORD = 1024;

/**
 * The one line that a file or standard input holds, without what Windows' editors put before it; `undefined` where nobody could type it: of
 * several lines, or in UTF-16.
 */
export function plainSecret(text: string): string | undefined {
  const line = text.replace(/^\ufeff/, "").replace(/\r?\n$/, "");
  return /[\p{Cc}\ufffd]/u.test(line) ? undefined : line;
}

/** People write blanks and dashes between the digits of a PIN. */
export const withoutMarks = (pin: string): string => pin.replace(/[\s-]/g, "");
export const isPin = (digits: string): boolean => /^\d{6,12}$/.test(digits);

/** The parameters N (as a power of two), r and p (RFC 7914). */
export interface HashCost {
  readonly log2: number;
  readonly blocks: number;
  readonly lanes: number;
}

/** A password that only its hash is known of. */
export interface SecretHash extends HashCost {
  readonly salt: Buffer;
  readonly key: Buffer;
}

/** `cost` is for tests that have better things to do than to wait. */
export async function hashSecret(secret: string, cost: HashCost = COST): Promise<SecretHash> {
  const salt = randomBytes(16);
  return { ...cost, salt, key: await derive(secret, { ...cost, salt }) };
}

/** `scrypt:15:8:3:SALT:KEY`. */
export function formatHash({ log2, blocks, lanes, salt, key }: SecretHash): string {
  return `scrypt:${log2}:${blocks}:${lanes}:${salt.toString("base64url")}:${key.toString("base64url")}`;
}

/** `undefined` = none, or one that would cost more than we give. */
export function parseHash(text: string): SecretHash | undefined {
  const [, log2, blocks, lanes, salt, key] = FORM.exec(text) ?? [];
  if (salt === undefined || key === undefined) return undefined;
  const cost = { log2: Number(log2), blocks: Number(blocks), lanes: Number(lanes) };
  if (cost.log2 < 14 || cost.log2 > 18 || cost.blocks !== 8 || cost.lanes < 1 || cost.lanes > 8) return undefined;
  return { ...cost, salt: Buffer.from(salt, "base64url"), key: Buffer.from(key, "base64url") };
}

/** Hashes take memory and time by design: few at once, and few that wait. */
export class SecretChecks {
  readonly #most: number;
  readonly #mostWaiting: number;
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(most: number = 2, mostWaiting: number = 16) {
    this.#most = most;
    this.#mostWaiting = mostWaiting;
  }

  /** @throws {Fault} DOOR_BUSY */
  async matches(hash: SecretHash, given: string): Promise<boolean> {
    await this.#turn();
    try {
      return timingSafeEqual(await derive(given, hash), hash.key);
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running--;
      else next(); // it takes our place
    }
  }

  #turn(): Promise<void> {
    if (this.#running < this.#most) {
      this.#running++;
      return Promise.resolve();
    }
    if (this.#waiting.length >= this.#mostWaiting) {
      throw new Fault("DOOR_BUSY", "Cannot check a secret now: too many wait, wanted fewer at a time");
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}

/** For tokens of 128 random bits or more: nobody guesses them, so a slow hash would protect nothing. */
export function tokenDigest(token: string): string {
  return createHash("sha256").update(token).digest("hex");
}

type Cost = Omit<SecretHash, "key">;

function derive(secret: string, { log2, blocks, lanes, salt }: Cost): Promise<Buffer> {
  const N = 2 ** log2;
  // What is typed on one keyboard and what on another must be the same bytes (RFC 8265).
  const bytes = Buffer.from(secret.normalize("NFC"));
  return new Promise((resolve, reject) =>
    scrypt(bytes, salt, KEY_BYTES, { N, r: blocks, p: lanes, maxmem: 256 * N * blocks }, (error, key) =>
      error === null ? resolve(key) : reject(error),
    ),
  );
}
