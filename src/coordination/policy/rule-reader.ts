import type { CapMap } from "../../wire/tailcfg.ts";
import { readSourcePostures } from "./declarations.ts";
import type { Grant } from "./document.ts";
import { asProtocols, parseOpening, parsePorts, parseProtocol, unknownProtocol } from "./ports.ts";
import type { Posture } from "./posture.ts";
import type { Selector } from "./selector.ts";
import type { Place, SelectorReader } from "./selector-reader.ts";
import type { Path } from "./source.ts";

/** Capabilities of the vendor's domain that a policy may grant all the same (control-protocol sheet 7.5). */
const VENDOR_CAPABILITIES = new Set(
  ["drive", "relay", "webui", "kubernetes", "tsidp", "secrets"].map((name) => `tailscale.com/cap/${name}`),
);
const NO_SOURCES = new Set(["self", "internet", "nonroot"]);
const SELF_MISUSE = "autogroup:self can only be used with users, groups, or supported autogroups";

/** Reads `acls` and `grants`: both become grants. */
export class RuleReader {
  readonly #reader: SelectorReader;

  readonly #defaultPostures: readonly Posture[];

  constructor(reader: SelectorReader, defaultPostures: readonly Posture[]) {
    this.#reader = reader;
    this.#defaultPostures = defaultPostures;
  }

  acls({ value, path }: Place): readonly Grant[] {
    return this.#reader.source.list(value, path).flatMap((item, index) => this.#acl(item, [...path, index]));
  }

  grants({ value, path }: Place): readonly Grant[] {
    return this.#reader.source.list(value, path).map((item, index) => this.#grant(item, [...path, index]));
  }

  /** One grant for each destination: they have ports of their own. */
  #acl(item: unknown, path: Path): readonly Grant[] {
    const { source } = this.#reader;
    const members = source.members(item, path, ["action", "src", "users", "dst", "ports", "proto", "srcPosture"]);
    const { value: action = "", path: spot = path } = members.get("action") ?? {};
    if (action !== "accept") throw this.#reader.fault(spot, `action=${JSON.stringify(action)} is not supported`);
    const postures = this.#postures(members.get("srcPosture"));
    const sources = this.#sources(members.get("src") ?? members.get("users"), path);
    const protocols = this.#protocols(members.get("proto"));
    const targets = members.get("dst") ?? members.get("ports");
    const where = targets?.path ?? path;
    const grants = source.texts(targets?.value, where).map((text, index): Grant => {
      const spot = [...where, index];
      const colon = text.lastIndexOf(":");
      if (colon < 0) throw this.#reader.fault(spot, `dst="${text}": hostport must contain a colon (":")`);
      const ports = parsePorts(text.slice(colon + 1));
      if (typeof ports === "string") throw this.#reader.fault(spot, `dst="${text}": ${ports}`);
      const destination = this.#destination(text.slice(0, Math.max(0, colon)), spot);
      return {
        path: spot,
        sources,
        destinations: [destination],
        openings: [{ protocols, ports }],
        app: undefined,
        via: [],
        postures,
      };
    });
    for (const grant of grants) this.#checkSelf(sources, grant.destinations, path, true);
    return grants;
  }

  #grant(item: unknown, path: Path): Grant {
    const { source } = this.#reader;
    const members = source.members(item, path, ["src", "dst", "ip", "app", "via", "srcPosture"]);
    const postures = this.#postures(members.get("srcPosture"));
    const ip = members.get("ip");
    const app = this.#app(members.get("app"));
    const openings = source.texts(ip?.value, ip?.path ?? path).map((text, index) => {
      const opening = parseOpening(text);
      if (typeof opening === "string") throw this.#reader.fault([...ip!.path, index], opening);
      return opening;
    });
    if (openings.length === 0 && app === undefined) {
      throw this.#reader.fault(path, "ip and app can not both be empty");
    }
    const sources = this.#sources(members.get("src"), path);
    const dst = members.get("dst");
    const where = dst?.path ?? path;
    const destinations = source.texts(dst?.value, where).map((text, index) => {
      const selector = this.#destination(text, [...where, index]);
      if (selector.kind === "range" && selector.isWhole) {
        const problem = `dst "${text}": to allow all IP addresses, use "*" or "autogroup:internet"`;
        throw this.#reader.fault([...where, index], problem);
      }
      if (app !== undefined && selector.kind === "autogroup" && selector.name === "internet") {
        throw this.#reader.fault([...where, index], "cannot use app grants with autogroup:internet");
      }
      return selector;
    });
    this.#checkSelf(sources, destinations, path, false);
    return { path, sources, destinations, openings, app, via: this.#via(members.get("via")), postures };
  }

  #sources(place: Place | undefined, path: Path): readonly Selector[] {
    const where = place?.path ?? path;
    return this.#reader
      .selectors(place?.value, where, (problem) => `src=${problem}`)
      .map((selector, index) => {
        if (selector.kind === "autogroup" && NO_SOURCES.has(selector.name)) {
          throw this.#reader.fault(
            [...where, index],
            `"autogroup:${selector.name}" not valid on the src side of a rule`,
          );
        }
        if (selector.kind === "service") {
          throw this.#reader.fault([...where, index], `"${selector.name}" not valid on the src side of a rule`);
        }
        return selector;
      });
  }

  #destination(text: string, path: Path): Selector {
    const selector = this.#reader.selector(text, path, (problem, target) =>
      problem.startsWith("tag not found") ? `dst="${target}": ${problem}` : `dst=${problem}`,
    );
    if (selector.kind === "autogroup" && selector.name === "danger-all") {
      throw this.#reader.fault(path, "cannot use autogroup:danger-all as a dst");
    }
    if (selector.kind === "autogroup" && selector.name === "nonroot") {
      throw this.#reader.fault(path, '"autogroup:nonroot" not valid on the dst side of a rule');
    }
    return selector;
  }

  #checkSelf(sources: readonly Selector[], destinations: readonly Selector[], path: Path, isAnyFine: boolean): void {
    if (!destinations.some((selector) => selector.kind === "autogroup" && selector.name === "self")) return;
    const isFine = (selector: Selector): boolean =>
      selector.kind === "user" ||
      selector.kind === "group" ||
      selector.kind === "domain" ||
      (selector.kind === "autogroup" && selector.name !== "tagged" && selector.name !== "danger-all") ||
      (selector.kind === "any" && isAnyFine);
    if (!sources.every(isFine)) throw this.#reader.fault(path, SELF_MISUSE);
  }

  #protocols(place: Place | undefined): readonly number[] {
    if (place === undefined || place.value === "") return [];
    const text = this.#reader.source.text(place.value, place.path);
    const protocol = parseProtocol(text);
    if (protocol === undefined) throw this.#reader.fault(place.path, unknownProtocol(text));
    return asProtocols(protocol);
  }

  #postures(place: Place | undefined): readonly Posture[] {
    return readSourcePostures(this.#reader.source, this.#reader.names, place, this.#defaultPostures);
  }

  #via(place: Place | undefined): readonly string[] {
    if (place === undefined) return [];
    const tags = this.#reader.source.texts(place.value, place.path);
    for (const [index, tag] of tags.entries()) {
      const where = [...place.path, index];
      if (!tag.startsWith("tag:")) throw this.#reader.fault(where, "via can only be a tag");
      if (!this.#reader.names.tags.has(tag)) throw this.#reader.fault(where, `tag "${tag}" not found`);
    }
    return tags;
  }

  #app(place: Place | undefined): CapMap | undefined {
    if (place === undefined) return undefined;
    const entries = this.#reader.source.entries(place.value, place.path);
    const app: Record<string, readonly unknown[]> = Object.create(null);
    for (const [name, values] of entries) {
      const where = [...place.path, name];
      const domain = name.slice(0, Math.max(0, name.indexOf("/")));
      if (name.includes("://") || !/^[^/\s]+\.[^/\s]+\/.+$/.test(name)) {
        throw this.#reader.fault(where, "capability name must have the form {domain}/{path}");
      }
      if ((domain === "tailscale.com" || domain.endsWith(".tailscale.com")) && !VENDOR_CAPABILITIES.has(name)) {
        throw this.#reader.fault(where, "capability name must not be in the tailscale.com domain");
      }
      app[name] = this.#reader.source.list(values, where);
    }
    return entries.length === 0 ? undefined : app;
  }
}
