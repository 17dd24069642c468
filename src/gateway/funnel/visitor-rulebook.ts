import { Fault } from "../../base/fault.ts";
import type { Store } from "../../base/store.ts";
import type { StoredServeConfig } from "../../wire/ipn.ts";
import { leasedPort } from "../../wire/serve-config.ts";
import { foldSite, type SiteParts, splitSite } from "../../wire/site.ts";
import {
  bothRules,
  checkedSiteRules,
  type RulesBySite,
  rulesAt,
  rulesBySite,
  type SiteRules,
  type VisitorRules,
} from "../../wire/visitor-rules.ts";
import { effectiveConfig } from "../effective-config.ts";
import type { VisitorRulesOf } from "./told-rules.ts";

const FILE = "visitor-rules.json";
const MOST = 64;

/**
 * What is asked of visitors from the Internet: by the services file, and by `funnel --allow-ip` and `--deny-ip`, for which
 * upstream's configuration has no room. Both hold: no command opens what the file has closed.
 */
export class VisitorRulebook {
  /** What the file says. */
  declared: VisitorRulesOf;
  /** Called when a command has changed something. */
  onChange: () => void = () => {};
  readonly #store: Store;
  /** What commands have said, one for each site. */
  #said: readonly SiteRules[];
  #bySite: RulesBySite;

  private constructor(store: Store, declared: VisitorRulesOf, said: readonly SiteRules[]) {
    this.declared = declared;
    this.#store = store;
    this.#said = said;
    this.#bySite = rulesBySite(said);
  }

  /** @throws {Fault} STATE_DAMAGED: better nobody is served than somebody who was kept out. */
  static async open(store: Store, declared: VisitorRulesOf = () => undefined): Promise<VisitorRulebook> {
    const saved = await store.get(FILE);
    return new VisitorRulebook(store, declared, saved === undefined ? [] : readRules(saved));
  }

  at(site: SiteParts): VisitorRules | undefined {
    return bothRules(this.declared(site), rulesAt(this.#bySite, site.name, site.port));
  }

  /** Lists of a command for `site` (`name:port`); both empty: everybody, as far as the file goes. @throws {Fault} VISITOR_RULES */
  async set(site: string, allow: readonly string[], deny: readonly string[]): Promise<void> {
    const place = foldSite(site) ?? "";
    const rule = { sites: [place], ...(allow.length > 0 ? { allow } : {}), ...(deny.length > 0 ? { deny } : {}) };
    const [checked] = checkedSiteRules([rule]);
    const isSame = checked?.allow?.length === rule.allow?.length && checked?.deny?.length === rule.deny?.length;
    if (checked?.sites[0] !== place || !isSame) {
      throw new Fault(
        "VISITOR_RULES",
        `Cannot keep visitors of "${site}" out: wanted name:port and at most 256 addresses`,
      );
    }
    const others = this.#said.filter(({ sites }) => sites[0] !== place);
    const next = allow.length + deny.length === 0 ? others : [...others, checked];
    if (next.length > MOST)
      throw new Fault("VISITOR_RULES", `Cannot add rules for "${site}": ${MOST} places have some`);
    await this.#keep(next);
  }

  /** Rules go with what they are about: what is public there later by another command is another matter. */
  async settle(before: StoredServeConfig, after: StoredServeConfig): Promise<void> {
    const [had, has] = [publicSites(before), publicSites(after)];
    const kept = this.#said.filter(({ sites: [site = ""] }) => !had(site) || has(site));
    if (kept.length < this.#said.length) await this.#keep(kept);
  }

  async #keep(next: readonly SiteRules[]): Promise<void> {
    await this.#store.set(FILE, Buffer.from(JSON.stringify(next)));
    this.#said = next;
    this.#bySite = rulesBySite(next);
    this.onChange();
  }
}

/** Is a site public by its name, or by its port whatever the name? */
function publicSites(config: StoredServeConfig): (site: string) => boolean {
  const keys = Object.keys(effectiveConfig(config).AllowFunnel ?? {});
  const ports = new Set(keys.map(leasedPort));
  const names = new Set(keys);
  return (site) => names.has(site) || ports.has(splitSite(site).port);
}

function readRules(saved: Uint8Array): readonly SiteRules[] {
  try {
    const read: unknown = JSON.parse(Buffer.from(saved).toString("utf8"));
    if (JSON.stringify(checkedSiteRules(read)) === JSON.stringify(read)) return read as readonly SiteRules[];
  } catch {} // said below
  throw new Fault("STATE_DAMAGED", "Cannot read which visitors commands keep out", {
    hint: `Remove the file ${FILE} from the state folder and say \`sallyport funnel --allow-ip\` or \`--deny-ip\` again.`,
  });
}
