import { randomBytes } from "node:crypto";
import type { Clock } from "../../base/clock.ts";
import { Fault } from "../../base/fault.ts";
import type { Store } from "../../base/store.ts";
import { tokenDigest } from "./secret-hash.ts";

const SAVED_AS = "door-links.json";
const MOST_LINKS = 1000;
const LONGEST_NAME = 100;
const LONGEST_LIFE_MS = 366 * 24 * 3_600_000;

/** A way in for one named guest. The token itself is shown once, to whoever makes the link. */
export interface GuestLink {
  readonly id: string;
  readonly door: string;
  /** The guest's. */
  readonly name: string;
  /** Unix ms. */
  readonly createdAt: number;
  readonly expiresAt: number;
  /** Spent by its first use. */
  readonly isOnce: boolean;
}

interface Kept extends GuestLink {
  readonly digest: string;
}

export interface LinkWish {
  readonly door: string;
  readonly name: string;
  readonly lifeMs: number;
  readonly isOnce: boolean;
}

/** Links that let guests in. They outlive the process; on disk there are digests only. */
export class GuestLinks {
  readonly #clock: Clock;
  readonly #store: Store;
  #links: readonly Kept[];
  #saved: Promise<void> = Promise.resolve();

  private constructor(clock: Clock, store: Store, links: readonly Kept[]) {
    this.#clock = clock;
    this.#store = store;
    this.#links = links;
  }

  static async open(clock: Clock, store: Store): Promise<GuestLinks> {
    const saved = await store.get(SAVED_AS);
    return new GuestLinks(clock, store, saved === undefined ? [] : linksIn(Buffer.from(saved).toString("utf8")));
  }

  list(): readonly GuestLink[] {
    return this.#valid().map(({ digest: _, ...link }) => link);
  }

  /** @throws {Fault} DOOR_LINK */
  async create({ door, name, lifeMs, isOnce }: LinkWish): Promise<{ link: GuestLink; token: string }> {
    const shown = name.trim();
    if (shown === "" || shown.length > LONGEST_NAME || /[\p{Cc}\p{Cf}]/u.test(shown)) {
      throw wrong(`the guest's name has ${shown.length} characters or hidden ones, wanted 1 to ${LONGEST_NAME}`);
    }
    if (!(lifeMs >= 1000 && lifeMs <= LONGEST_LIFE_MS))
      throw wrong(`it would last ${lifeMs} ms, wanted 1 s to 366 days`);
    const links = this.#valid();
    if (links.length >= MOST_LINKS) throw wrong(`there are ${links.length} already, wanted at most ${MOST_LINKS}`);
    const token = randomBytes(32).toString("base64url");
    const now = this.#clock.wall();
    const id = randomBytes(6).toString("hex");
    const link: GuestLink = { id, door, name: shown, createdAt: now, expiresAt: now + lifeMs, isOnce };
    await this.#set([...links, { ...link, digest: tokenDigest(token) }]);
    return { link, token };
  }

  /** Looks, and changes nothing. */
  find(door: string, token: string): GuestLink | undefined {
    const digest = tokenDigest(token);
    return this.#valid().find((link) => link.digest === digest && link.door === door);
  }

  /** Uses it. One that is for once is gone from the disk before its guest is let in. */
  async spend(door: string, token: string): Promise<GuestLink | undefined> {
    const link = this.find(door, token);
    if (link?.isOnce === true) await this.#set(this.#links.filter(({ id }) => id !== link.id));
    return link;
  }

  async remove(id: string): Promise<boolean> {
    const left = this.#links.filter((link) => link.id !== id);
    if (left.length === this.#links.length) return false;
    await this.#set(left);
    return true;
  }

  #valid(): readonly Kept[] {
    const now = this.#clock.wall();
    return this.#links.filter(({ expiresAt }) => expiresAt > now);
  }

  /** Counts at once, so that two uses side by side are no two; settles when it is on disk. */
  #set(links: readonly Kept[]): Promise<void> {
    this.#links = links;
    const save = (): Promise<void> => this.#store.set(SAVED_AS, Buffer.from(JSON.stringify(this.#links)));
    this.#saved = this.#saved.then(save, save);
    return this.#saved;
  }
}

function wrong(found: string): Fault {
  return new Fault("DOOR_LINK", `Cannot make a link: ${found}`);
}

/** @throws {Fault} STATE_DAMAGED */
function linksIn(text: string): readonly Kept[] {
  try {
    const saved: unknown = JSON.parse(text);
    if (Array.isArray(saved)) return saved.filter(isKept).slice(0, MOST_LINKS);
  } catch {
    // said below
  }
  throw new Fault("STATE_DAMAGED", "Cannot read the links for guests: found other text, wanted a JSON array", {
    hint: `Remove the file ${SAVED_AS} from the state folder and make the links again.`,
  });
}

function isKept(value: unknown): value is Kept {
  const { id, door, name, digest, createdAt, expiresAt, isOnce } = Object(value) as Record<string, unknown>;
  const areTexts = [id, door, name, digest].every((text) => typeof text === "string");
  return areTexts && [createdAt, expiresAt].every(Number.isFinite) && typeof isOnce === "boolean";
}
