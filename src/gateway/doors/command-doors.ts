import { Fault } from "../../base/fault.ts";
import type { Store } from "../../base/store.ts";
import type { StoredServeConfig } from "../../wire/ipn.ts";
import { atSite, foldSite, type SiteParts } from "../../wire/site.ts";
import { effectiveConfig } from "../effective-config.ts";

const FILE = "command-doors.json";
const MOST = 256;

/**
 * Doors that `funnel --door` put before a name and port. Upstream's configuration has no room for them: a stock client that
 * changes something else would write it back without, and open what was closed.
 */
export class CommandDoors {
  /** Called when other doors stand. */
  onChange: () => void = () => {};
  readonly #store: Store;
  readonly #isDeclared: (door: string) => boolean;
  /** By `name:port`. */
  #doors: ReadonlyMap<string, string>;

  private constructor(store: Store, isDeclared: (door: string) => boolean, doors: ReadonlyMap<string, string>) {
    this.#store = store;
    this.#isDeclared = isDeclared;
    this.#doors = doors;
  }

  /** @throws {Fault} STATE_DAMAGED: better nobody is served than somebody without the door. */
  static async open(store: Store, isDeclared: (door: string) => boolean): Promise<CommandDoors> {
    const saved = await store.get(FILE);
    return new CommandDoors(store, isDeclared, saved === undefined ? new Map() : readDoors(saved));
  }

  at(site: SiteParts): string | undefined {
    return atSite(this.#doors, site);
  }

  /** `undefined` takes the door away. @throws {Fault} DOOR_UNKNOWN, DOOR_PLACE */
  async set(site: string, door: string | undefined): Promise<void> {
    const place = foldSite(site);
    if (place === undefined) throw new Fault("DOOR_PLACE", `Cannot put a door before "${site}": wanted name:port`);
    if (door !== undefined && !this.#isDeclared(door)) {
      throw new Fault("DOOR_UNKNOWN", `Cannot put door "${door}" before ${place}: there is none of this name`, {
        hint: "The services file declares doors (docs/doors.md).",
      });
    }
    if (door === undefined && !this.#doors.has(place)) return;
    const next = new Map(this.#doors);
    if (door === undefined) next.delete(place);
    else next.set(place, door);
    if (next.size > MOST) throw new Fault("DOOR_PLACE", `Cannot put a door before ${place}: ${MOST} places have one`);
    await this.#keep(next);
  }

  /** A door goes with its place: what is served there later by another command is another matter. */
  async settle(before: StoredServeConfig, after: StoredServeConfig): Promise<void> {
    const had = sitesOf(before);
    const has = sitesOf(after);
    const kept = [...this.#doors].filter(([place]) => !had.has(place) || has.has(place));
    if (kept.length < this.#doors.size) await this.#keep(new Map(kept));
  }

  async #keep(next: ReadonlyMap<string, string>): Promise<void> {
    await this.#store.set(FILE, Buffer.from(JSON.stringify(Object.fromEntries(next))));
    this.#doors = next;
    this.onChange();
  }
}

function sitesOf(config: StoredServeConfig): ReadonlySet<string> {
  return new Set(Object.keys(effectiveConfig(config).Web ?? {}).map((key) => foldSite(key) ?? key));
}

function readDoors(saved: Uint8Array): ReadonlyMap<string, string> {
  try {
    const entries = Object.entries(JSON.parse(Buffer.from(saved).toString("utf8")) as object);
    if (entries.every(([, door]) => typeof door === "string")) return new Map(entries);
  } catch {} // said below
  throw new Fault("STATE_DAMAGED", "Cannot read the doors that commands have set", {
    hint: `Remove the file ${FILE} from the state folder and say \`sallyport funnel --door\` again.`,
  });
}
