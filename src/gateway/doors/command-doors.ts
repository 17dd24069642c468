import { Fault } from "../../base/fault.ts";
import type { Store } from "../../base/store.ts";
import { atSite, foldSite, type SiteParts } from "../../wire/site.ts";
import { effectiveConfig } from "../effective-config.ts";
import { SiteBook, type SiteBookForm } from "../site-book.ts";

const MOST = 256;

/** A door's name by the site that it stands before. */
const DOORS: SiteBookForm<string> = {
  file: "command-doors.json",
  what: "the doors that commands have set",
  remedy: "say `sallyport funnel --door` again",
  most: MOST,
  read: (json) => {
    const entries = Object.entries(Object(json) as object);
    const isWhole = entries.every(([site, door]) => foldSite(site) === site && typeof door === "string");
    return isWhole && !Array.isArray(json) && Object(json) === json ? new Map(entries) : undefined;
  },
  write: Object.fromEntries,
  sitesOf: (config) => {
    const sites = new Set(Object.keys(effectiveConfig(config).Web ?? {}).map((key) => foldSite(key) ?? key));
    return (site) => sites.has(site);
  },
};

/** Doors that `funnel --door` put before a name and port. */
export class CommandDoors extends SiteBook<string> {
  readonly #isDeclared: (door: string) => boolean;

  private constructor(store: Store, isDeclared: (door: string) => boolean, doors: ReadonlyMap<string, string>) {
    super(store, DOORS, doors);
    this.#isDeclared = isDeclared;
  }

  /** @throws {Fault} STATE_DAMAGED */
  static async open(store: Store, isDeclared: (door: string) => boolean): Promise<CommandDoors> {
    return new CommandDoors(store, isDeclared, await SiteBook.load(store, DOORS));
  }

  at(site: SiteParts): string | undefined {
    return atSite(this.bySite, site);
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
    if (door !== undefined && !this.hasRoomFor(place))
      throw new Fault("DOOR_PLACE", `Cannot put a door before ${place}: ${MOST} places have one`);
    await this.say(place, door);
  }
}
