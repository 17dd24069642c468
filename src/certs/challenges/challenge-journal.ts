import { createHash } from "node:crypto";
import type { Clock } from "../../base/clock.ts";
import type { CertificateStore } from "../store/certificate-store.ts";

const PREFIX = "challenges/";
/** Longer than any order takes: whoever wrote it is gone. */
const OLD_MS = 3_600_000;
const MOST_BYTES = 4096;

/** A record that stands in public DNS because of us. */
export interface WrittenRecord {
  /** Of the provider that it was written at. */
  readonly provider: string;
  readonly record: string;
  readonly value: string;
  /** Unix time in ms. */
  readonly at: number;
}

/** What was written and not yet taken away, so that it goes even when the process that wrote it died. */
export class ChallengeJournal {
  readonly #store: CertificateStore;
  readonly #clock: Clock;

  constructor(store: CertificateStore, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  async add(entry: Omit<WrittenRecord, "at">): Promise<void> {
    const text = JSON.stringify({ ...entry, at: this.#clock.wall() });
    await this.#store.write(pathOf(entry), Buffer.from(text));
  }

  async drop(entry: Omit<WrittenRecord, "at">): Promise<void> {
    await this.#store.delete(pathOf(entry));
  }

  /** Of processes that died. */
  async abandoned(provider: string): Promise<readonly WrittenRecord[]> {
    const found: WrittenRecord[] = [];
    for (const path of await this.#store.list(PREFIX)) {
      const entry = readEntry(await this.#store.read(path));
      if (entry?.provider === provider && Math.abs(this.#clock.wall() - entry.at) > OLD_MS) found.push(entry);
    }
    return found;
  }
}

function pathOf({ provider, record, value }: Omit<WrittenRecord, "at">): string {
  const digest = createHash("sha256").update(`${provider}\n${record}\n${value}`).digest("hex");
  return `${PREFIX}${digest.slice(0, 32)}.json`;
}

function readEntry(bytes: Uint8Array | undefined): WrittenRecord | undefined {
  if (bytes === undefined || bytes.length > MOST_BYTES) return undefined;
  try {
    const { provider, record, value, at } = JSON.parse(Buffer.from(bytes).toString("utf8")) as Partial<WrittenRecord>;
    const isWhole = [provider, record, value].every((text) => typeof text === "string") && typeof at === "number";
    return isWhole ? { provider: provider!, record: record!, value: value!, at: at! } : undefined;
  } catch {
    return undefined; // a foreign file
  }
}
