import { asciiName, foldName, wildcardOf } from "../../wire/host-name.ts";
import type { ServeConfig } from "../../wire/serve-config.ts";
import { splitSite } from "../../wire/site.ts";
import { CliExit } from "../io.ts";
import { terminalText } from "../terminal-text.ts";
import { isWildcard, placeOf, publicPlaces, type Target } from "./funnel-proof.ts";

/** The public places that a person means by `NAME`, `NAME:PORT` or the address that `funnel` showed; a name under a wildcard, too. */
export function askedTargets(words: readonly string[], config: ServeConfig, ownName: string): readonly Target[] {
  const places = publicPlaces(config, ownName);
  return words.flatMap((word) => {
    const bare = word.replace(/^(?:https|tcp):\/\//, "").replace(/\/.*$/, "");
    const split = splitSite(bare);
    const isWhole = bare.includes(":");
    const name = foldName(asciiName(split.name));
    const isMeant = (place: Target): boolean => !isWhole || place.port === split.port;
    const own = places.filter((place) => place.name === name && isMeant(place));
    const under = places.filter(
      (place) =>
        name !== undefined && place.name === wildcardOf(name) && isMeant(place) && !isServed(name, place, config),
    );
    const found = [...own, ...under.map((place) => ({ ...place, name: name! }))];
    if (found.length > 0) return found;
    const all = places.map(placeOf).join(", ");
    throw new CliExit(`${terminalText(word)} is not public here: ${all === "" ? "nothing is" : terminalText(all)}`);
  });
}

/** What is served under a name by itself is public only when it is made so by this name. */
function isServed(name: string, { port }: Target, config: ServeConfig): boolean {
  const parts = [config, ...Object.values(config.Foreground ?? {})];
  return parts.some(({ Web = {} }) => Object.hasOwn(Web, `${name}:${port}`));
}

/** What nobody can look at before he says which of its names he means. */
export function wildcardsLeft(config: ServeConfig, ownName: string): readonly string[] {
  return publicPlaces(config, ownName)
    .filter(isWildcard)
    .map(
      (place) => `${terminalText(placeOf(place))} is every name below: say one of them, sallyport funnel check NAME\n`,
    );
}
