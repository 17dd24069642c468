import { Fault } from "../../base/fault.ts";
import type { Store } from "../../base/store.ts";
import { wildcardOf } from "../../wire/host-name.ts";
import { foldSite, type SiteParts, splitSite } from "../../wire/site.ts";
import { effectiveConfig } from "../effective-config.ts";
import { SiteBook, type SiteBookForm } from "../site-book.ts";

const MOST = 256;
/** Said of a mount below one with a door: here anyone may come. */
const NONE = "";

/** A door's name by the place that it stands before: `name:port` for `/`, else `name:port/mount`. */
const DOORS: SiteBookForm<string> = {
  file: "command-doors.json",
  what: "the doors that commands have set",
  remedy: "say `sallyport funnel --door` again",
  most: MOST,
  read: (json) => {
    const entries = Object.entries(Object(json) as object);
    const isWhole = entries.every(([place, door]) => foldPlace(place) === place && typeof door === "string");
    return isWhole && !Array.isArray(json) && Object(json) === json ? new Map(entries) : undefined;
  },
  write: Object.fromEntries,
  sitesOf: (config) => {
    const places = Object.entries(effectiveConfig(config).Web ?? {}).flatMap(([key, { Handlers }]) => {
      const site = foldSite(key) ?? key;
      return [site, ...Object.keys(Handlers ?? {}).map((mount) => site + mount)];
    });
    const known = new Set(places);
    return (place) => known.has(place);
  },
};

/** Doors that `funnel --door` put before a mount of a name and port, and so before what has none of its own below it. */
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

  at({ name, port, mount = "/" }: DoorPlace): string | undefined {
    if (this.bySite.size === 0) return undefined; // asked for each request
    const said = this.#saidOf(`${name}:${port}`, mount) ?? this.#saidOf(`${wildcardOf(name)}:${port}`, mount);
    return said === NONE ? undefined : said;
  }

  /** What is said of the mount, else of the nearest one above it. */
  #saidOf(site: string, mount: string): string | undefined {
    for (let above = mount; above.length > 1; above = above.slice(0, Math.max(above.lastIndexOf("/"), 0))) {
      const said = this.bySite.get(site + above);
      if (said !== undefined) return said;
    }
    return this.bySite.get(site);
  }

  /** `undefined` takes the door away from this mount. @throws {Fault} DOOR_UNKNOWN, DOOR_PLACE */
  async set(site: string, door: string | undefined, mount: string = "/"): Promise<void> {
    const place = foldPlace(mount === "/" ? site : site + mount);
    if (place === undefined) throw new Fault("DOOR_PLACE", `Cannot put a door before "${site}": wanted name:port`);
    if (door !== undefined && !this.#isDeclared(door)) {
      throw new Fault("DOOR_UNKNOWN", `Cannot put door "${door}" before ${place}: there is none of this name`, {
        hint: "The services file declares doors (docs/doors.md).",
      });
    }
    if (door === undefined) await this.say(place, undefined);
    const { name, port } = splitSite(foldSite(site) ?? site);
    const said = door ?? (this.at({ name, port, mount }) === undefined ? undefined : NONE); // of a mount above
    if (said === undefined) return;
    if (!this.hasRoomFor(place))
      throw new Fault("DOOR_PLACE", `Cannot put a door before ${place}: ${MOST} places have one`);
    await this.say(place, said);
  }
}

type DoorPlace = SiteParts & { readonly mount?: string };

/** The form that places are compared in; `undefined` for text that is none. */
function foldPlace(place: string): string | undefined {
  const slash = place.indexOf("/");
  if (slash < 0) return foldSite(place);
  const [site, mount] = [foldSite(place.slice(0, slash)), place.slice(slash)];
  return site === undefined || mount === "/" ? undefined : site + mount;
}
