import { Fault } from "../../base/fault.ts";
import type { Store } from "../../base/store.ts";
import { leasedPort } from "../../wire/serve-config.ts";
import { foldSite, type SiteParts, splitSite } from "../../wire/site.ts";
import {
  bothRules,
  checkedSiteRules,
  type RulesBySite,
  rulesAt,
  rulesBySite,
  siteRules,
  type VisitorRules,
} from "../../wire/visitor-rules.ts";
import { effectiveConfig } from "../effective-config.ts";
import { SiteBook, type SiteBookForm } from "../site-book.ts";
import type { VisitorRulesOf } from "./told-rules.ts";

const MOST = 64;

const RULES: SiteBookForm<VisitorRules> = {
  file: "visitor-rules.json",
  what: "which visitors commands keep out",
  remedy: "say `sallyport funnel --allow-ip` or `--deny-ip` again",
  most: MOST,
  read: (json) => {
    const rules = checkedSiteRules(json);
    return JSON.stringify(rules) === JSON.stringify(json) ? rulesBySite(rules) : undefined;
  },
  write: (bySite) => [...bySite].map(([site, rules]) => siteRules([site], rules)),
  // A site is public by its name, or by its port whatever the name.
  sitesOf: (config) => {
    const keys = Object.keys(effectiveConfig(config).AllowFunnel ?? {});
    const ports = new Set(keys.map(leasedPort));
    const names = new Set(keys);
    return (site) => names.has(site) || ports.has(splitSite(site).port);
  },
};

/**
 * What is asked of visitors from the Internet: by the services file, and by `funnel --allow-ip` and `--deny-ip`. Both hold: no
 * command opens what the file has closed.
 */
export class VisitorRulebook extends SiteBook<VisitorRules> {
  /** What the file says. */
  declared: VisitorRulesOf;

  private constructor(store: Store, declared: VisitorRulesOf, said: RulesBySite) {
    super(store, RULES, said);
    this.declared = declared;
  }

  /** @throws {Fault} STATE_DAMAGED */
  static async open(store: Store, declared: VisitorRulesOf = () => undefined): Promise<VisitorRulebook> {
    return new VisitorRulebook(store, declared, await SiteBook.load(store, RULES));
  }

  at(site: SiteParts): VisitorRules | undefined {
    return bothRules(this.declared(site), rulesAt(this.bySite, site.name, site.port));
  }

  /** Lists of a command for `site` (`name:port`); both empty: everybody, as far as the file goes. @throws {Fault} VISITOR_RULES */
  async set(site: string, allow: readonly string[], deny: readonly string[]): Promise<void> {
    const place = foldSite(site) ?? "";
    const rule = { sites: [place], ...(allow.length > 0 ? { allow } : {}), ...(deny.length > 0 ? { deny } : {}) };
    const checked = checkedSiteRules([rule]);
    const [found] = checked;
    const isSame = found?.allow?.length === rule.allow?.length && found?.deny?.length === rule.deny?.length;
    if (found?.sites[0] !== place || !isSame) {
      throw new Fault(
        "VISITOR_RULES",
        `Cannot keep visitors of "${site}" out: wanted name:port and at most 256 addresses`,
      );
    }
    const isLifted = allow.length + deny.length === 0;
    if (!isLifted && !this.hasRoomFor(place))
      throw new Fault("VISITOR_RULES", `Cannot add rules for "${site}": ${MOST} places have some`);
    await this.say(place, isLifted ? undefined : rulesBySite(checked).get(place));
  }
}
