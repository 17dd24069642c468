import { createHash } from "node:crypto";
import { z } from "zod";
import type { OrderProgress } from "./acme/authority.ts";
import type { Attempt } from "./attempts.ts";
import type { Renewal } from "./renewal-time.ts";
import { pathOfName } from "./store/certificate-store.ts";

/** What is remembered of one certificate beside itself, in `life/<id>.json`. */
export interface LifeRecord {
  readonly version: 1;
  readonly names: readonly string[];
  /** Of the certificate that `renewal` is about, and who issued it. */
  readonly serial?: string | undefined;
  readonly authority?: string | undefined;
  readonly renewal?: Renewal | undefined;
  /** Oldest first; of the last seven days. */
  readonly attempts: readonly Attempt[];
}

/** An order under way, in `orders/<id>.json`; a process that starts goes on with it. */
export interface OrderRecord {
  readonly authority: string;
  readonly names: readonly string[];
  readonly progress: OrderProgress;
}

const attempt: z.ZodType<Attempt> = z.object({
  at: z.number(),
  authority: z.string(),
  outcome: z.string(),
  message: z.string().optional(),
  retryAt: z.number().optional(),
  blockedUntil: z.number().optional(),
  replaces: z.literal(true).optional(),
});
const life: z.ZodType<LifeRecord> = z.object({
  version: z.literal(1),
  names: z.array(z.string()),
  serial: z.string().optional(),
  authority: z.string().optional(),
  renewal: z
    .object({
      at: z.number(),
      window: z.object({ start: z.number(), end: z.number() }).exactOptional(),
      askAt: z.number(),
    })
    .optional(),
  attempts: z.array(attempt),
});
const order = z.object({
  authority: z.string(),
  names: z.array(z.string()),
  progress: z.looseObject({ key: z.string() }),
});

/** Names a certificate in the store: its first name, and a digest of all where there are several. */
export function certificateId(names: readonly string[]): string {
  const first = pathOfName(names[0]!);
  if (names.length === 1) return shortened(first);
  return `${shortened(first)}+${digest([...names].sort().join(","))}`;
}

/** Undefined for what is none: history is worth keeping, but nothing to stop for. */
export function parseLife(bytes: Uint8Array): LifeRecord | undefined {
  return parse(bytes, life);
}

export function parseOrder(bytes: Uint8Array): OrderRecord | undefined {
  return parse(bytes, order) as OrderRecord | undefined;
}

export function encodeRecord(record: LifeRecord | OrderRecord): Uint8Array {
  return new Uint8Array(Buffer.from(`${JSON.stringify(record, null, 1)}\n`));
}

function parse<T>(bytes: Uint8Array, form: z.ZodType<T>): T | undefined {
  try {
    return form.parse(JSON.parse(Buffer.from(bytes).toString()));
  } catch {
    return undefined;
  }
}

/** A DNS name may have 253 characters, a file name 255 with its endings. */
function shortened(name: string): string {
  return name.length <= 150 ? name : `${name.slice(0, 140)}+${digest(name)}`;
}

function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 8);
}
