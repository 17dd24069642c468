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
  /** By the file. */
  declared: RulesOf | undefined;

  constructor(declared: RulesOf | undefined, commandDoors: CommandDoors, demandsDoors: () => boolean) {
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

  /** What is to be public, and must not be, in words. */
  warnings(config: ServeConfig): readonly string[] {
    const why = "the network's policy demands a door before it";
    return this.#keptClosed(config).map((place) => `${place} is not open to the internet: ${why}`);
  }

  #keptClosed(config: ServeConfig): readonly string[] {
    return this.demandsDoors ? openPlaces(config, this.hasDoor) : [];
  }

  /** Addresses of the mounts that this door stands before. */
  addressesBehind(door: string, config: ServeConfig): readonly string[] {
    return Object.entries(config.Web ?? {}).flatMap(([key, { Handlers }]) => {
      if (key.startsWith("*")) return []; // nobody can open that
      const { name, port } = splitSite(key);
      const mounts = Object.keys(Handlers ?? {}).filter((mount) => this.at({ name, port, mount })?.door === door);
      return mounts.map((mount) => new URL(mount, `https://${name}:${port}`).href);
    });
  }
}
