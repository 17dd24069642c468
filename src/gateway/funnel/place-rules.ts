import type { Place } from "../../config/node-serve-config.ts";
import type { RouteRules } from "../../proxy/route-rules.ts";
import type { ServeConfig } from "../../wire/serve-config.ts";
import { splitSite } from "../../wire/site.ts";
import type { CommandDoors } from "../doors/command-doors.ts";
import { doorDemanded, openPlaces, withoutOpenSites } from "../doors/door-demand.ts";
import type { RulesOf } from "../gateway-options.ts";

/** What is asked of who comes to a mount of the node's own: by the file, by commands and by the network's policy. */
export class PlaceRules {
  readonly #commandDoors: CommandDoors;
  readonly #demandsDoors: () => boolean;
  readonly #isThere: (door: string) => boolean;
  /** By the file. */
  declared: RulesOf | undefined;

  /** `isThere`: is there a door of this name? */
  constructor(
    declared: RulesOf | undefined,
    commandDoors: CommandDoors,
    demandsDoors: () => boolean,
    isThere: (door: string) => boolean,
  ) {
    this.#isThere = isThere;
    this.declared = declared;
    this.#commandDoors = commandDoors;
    this.#demandsDoors = demandsDoors;
  }

  /** Does the network's policy demand a door before what is public here? */
  get demandsDoors(): boolean {
    return this.#demandsDoors();
  }

  /** What the file asks it asks of commands' targets, too: none of them opens what the file has closed. */
  at(place: Place): RouteRules | undefined {
    const rules = this.declared?.(place);
    const door = rules?.door ?? this.#commandDoors.at(place);
    if (door === undefined) return this.demandsDoors ? { ...rules, visitorsNeedDoor: true } : rules;
    return { ...rules, door };
  }

  readonly hasDoor = (place: Place): boolean => this.at(place)?.door !== undefined;

  /** `config` without what must not be public. */
  publicPart(config: ServeConfig): ServeConfig {
    return this.demandsDoors ? withoutOpenSites(config, this.hasDoor) : config;
  }

  /** @throws {Fault} GATEWAY_DOOR_DEMANDED for what would be public by `next` and is not so by `before`. */
  check(next: ServeConfig, before: ServeConfig): void {
    const known = new Set(this.#keptClosed(before));
    const place = this.#keptClosed(next).find((open) => !known.has(open));
    if (place !== undefined) throw doorDemanded(place);
  }

  /** What is to be public, and must not be, or has a door that nobody can open, in words. */
  warnings(config: ServeConfig): readonly string[] {
    const why = "the network's policy demands a door before it";
    const closed = this.#keptClosed(config).map((place) => `${place} is not open to the internet: ${why}`);
    return [...closed, ...this.missing(config)];
  }

  /** Where a door stands that a command has put there and the file has not any more (or a file names and did not bring). */
  missing(config: ServeConfig): readonly string[] {
    const lost = [...this.doorsIn(config)].filter(([door]) => !this.#isThere(door));
    return lost.flatMap(([door, places]) =>
      places.map(
        (place) =>
          `strangers get 503 at ${place}: door "${door}" stands there, and the services file does not declare it`,
      ),
    );
  }

  #keptClosed(config: ServeConfig): readonly string[] {
    return this.demandsDoors ? openPlaces(config, this.hasDoor) : [];
  }

  /** Each door that stands somewhere, with the addresses of the mounts behind it: what is public first, guests come from there. */
  doorsIn(config: ServeConfig): ReadonlyMap<string, readonly string[]> {
    const doors = new Map<string, string[]>();
    const { Web = {}, AllowFunnel = {} } = config;
    const isPublic = ([key]: readonly [key: string, web: unknown]): boolean => AllowFunnel[key] === true;
    const sites = Object.entries(Web);
    for (const [key, { Handlers }] of [...sites.filter(isPublic), ...sites.filter((site) => !isPublic(site))]) {
      const { name, port } = splitSite(key);
      for (const mount of Object.keys(Handlers ?? {})) {
        const door = this.at({ name, port, mount })?.door;
        if (door === undefined) continue;
        // A pattern is no address: nobody can open it.
        const address = name.startsWith("*") ? `${key}${mount}` : addressOf(`https://${name}:${port}`, mount);
        const known = doors.get(door);
        if (known === undefined) doors.set(door, [address]);
        else known.push(address);
      }
    }
    return doors;
  }
}

/** A mount is text, not part of an address: `/a?b` and `/50%` have to be escaped there. */
function addressOf(origin: string, mount: string): string {
  return new URL(origin + mount.split("/").map(encodeURIComponent).join("/")).href;
}
