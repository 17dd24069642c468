import { randomBytes } from "node:crypto";
import type { Clock } from "../../base/clock.ts";
import { Fault } from "../../base/fault.ts";
import { loadJson, type SavedForm, saveJson } from "../../base/saved-json.ts";
import type { Store } from "../../base/store.ts";
import { tokenDigest } from "./secret-hash.ts";

const MOST_PASSES = 1000;
const LONGEST_NAME = 100;
const LONGEST_LIFE_MS = 366 * 24 * 3_600_000;

/**
 * A way in for one named guest: a link, or a certificate whose key the guest holds. Token and key are shown once, to whoever
 * makes the pass.
 */
export interface GuestPass {
  readonly id: string;
  readonly kind: "link" | "certificate";
  readonly door: string;
  /** The guest's. */
  readonly name: string;
  /** Unix ms. */
  readonly createdAt: number;
  readonly expiresAt: number;
  /** Spent by its first use. */
  readonly isOnce: boolean;
}

interface Kept extends GuestPass {
  /** SHA-256 of the token or of the certificate, in hex. */
  readonly digest: string;
}

export interface PassWish {
  readonly door: string;
  readonly name: string;
  readonly lifeMs: number;
  readonly isOnce: boolean;
}

const SAVED: SavedForm<readonly Kept[]> = {
  file: "door-passes.json",
  what: "the passes of guests",
  remedy: "make them again",
  read: (json) => (Array.isArray(json) ? json.filter(isKept).slice(0, MOST_PASSES) : undefined),
};

/** What lets named guests in. It outlives the process; on disk there are digests only. */
export class GuestPasses {
  readonly #clock: Clock;
  readonly #store: Store;
  #passes: readonly Kept[];
  #saved: Promise<void> = Promise.resolve();

  private constructor(clock: Clock, store: Store, passes: readonly Kept[]) {
    this.#clock = clock;
    this.#store = store;
    this.#passes = passes;
  }

  /** @throws {Fault} STATE_DAMAGED */
  static async open(clock: Clock, store: Store): Promise<GuestPasses> {
    return new GuestPasses(clock, store, (await loadJson(store, SAVED)) ?? []);
  }

  list(): readonly GuestPass[] {
    return this.#valid().map(({ digest: _, ...pass }) => pass);
  }

  /** @throws {Fault} DOOR_PASS */
  async create(wish: PassWish): Promise<{ link: GuestPass; token: string }> {
    const token = randomBytes(32).toString("base64url");
    return { link: await this.add(wish, "link", tokenDigest(token)), token };
  }

  /** @throws {Fault} DOOR_PASS */
  async add({ door, name, lifeMs, isOnce }: PassWish, kind: GuestPass["kind"], digest: string): Promise<GuestPass> {
    const shown = name.trim();
    if (shown === "" || shown.length > LONGEST_NAME || /[\p{Cc}\p{Cf}]/u.test(shown)) {
      throw wrong(`the guest's name has ${shown.length} characters or hidden ones, wanted 1 to ${LONGEST_NAME}`);
    }
    if (!(lifeMs >= 1000 && lifeMs <= LONGEST_LIFE_MS))
      throw wrong(`it would last ${lifeMs} ms, wanted 1 s to 366 days`);
    const valid = this.#valid();
    if (valid.length >= MOST_PASSES) throw wrong(`there are ${valid.length} already, wanted at most ${MOST_PASSES}`);
    const now = this.#clock.wall();
    const id = randomBytes(6).toString("hex");
    const pass: GuestPass = { id, kind, door, name: shown, createdAt: now, expiresAt: now + lifeMs, isOnce };
    try {
      await this.#set([...valid, { ...pass, digest }]);
    } catch (thrown) {
      this.#passes = this.#passes.filter((one) => one.id !== id); // nobody is shown what opens it
      throw thrown;
    }
    return pass;
  }

  /** By a link's token. Looks, and changes nothing. */
  find(door: string, token: string): GuestPass | undefined {
    return this.#find(door, "link", tokenDigest(token));
  }

  /** By a certificate's digest. */
  holder(door: string, digest: string): GuestPass | undefined {
    return this.#find(door, "certificate", digest);
  }

  #find(door: string, kind: GuestPass["kind"], digest: string): GuestPass | undefined {
    return this.#valid().find((pass) => pass.digest === digest && pass.door === door && pass.kind === kind);
  }

  /** Uses a link. One that is for once is gone from the disk before its guest is let in. */
  async spend(door: string, token: string): Promise<GuestPass | undefined> {
    const link = this.find(door, token);
    if (link?.isOnce === true) await this.#set(this.#passes.filter(({ id }) => id !== link.id));
    return link;
  }

  async remove(id: string): Promise<boolean> {
    const left = this.#passes.filter((pass) => pass.id !== id);
    if (left.length === this.#passes.length) return false;
    await this.#set(left);
    return true;
  }

  #valid(): readonly Kept[] {
    const now = this.#clock.wall();
    return this.#passes.filter(({ expiresAt }) => expiresAt > now);
  }

  /** Counts at once, so that two uses side by side are no two; settles when it is on disk. */
  #set(passes: readonly Kept[]): Promise<void> {
    this.#passes = passes;
    const save = (): Promise<void> => saveJson(this.#store, SAVED.file, this.#passes);
    this.#saved = this.#saved.then(save, save);
    return this.#saved;
  }
}

function wrong(found: string): Fault {
  return new Fault("DOOR_PASS", `Cannot make a pass: ${found}`);
}

function isKept(value: unknown): value is Kept {
  const { id, kind, door, name, digest, createdAt, expiresAt, isOnce } = Object(value) as Record<string, unknown>;
  const areTexts = [id, door, name, digest].every((text) => typeof text === "string");
  const isKnown = kind === "link" || kind === "certificate";
  return areTexts && isKnown && [createdAt, expiresAt].every(Number.isFinite) && typeof isOnce === "boolean";
}
