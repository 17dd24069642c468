import { leasedPort, type ServeConfig } from "../../wire/serve-config.ts";
import { type SiteParts, splitSite } from "../../wire/site.ts";
import {
  checkedSiteRules,
  LARGEST_RULES,
  MOST_RULES,
  type SiteRules,
  siteRules,
  type VisitorRules,
} from "../../wire/visitor-rules.ts";

/** What the owner asks for visitors of `name` (or a wildcard) on `port`. */
export type VisitorRulesOf = (site: SiteParts) => VisitorRules | undefined;

/**
 * What the server is told for its relays. They spare us visitors whom we would send away ourselves: rules beyond what the
 * server takes are left out, and hold here all the same.
 */
export function toldRules(
  { AllowFunnel = {} }: ServeConfig,
  rulesOf: VisitorRulesOf,
  ownName: string = "",
): readonly SiteRules[] {
  const groups = new Map<string, { sites: string[]; rules: VisitorRules }>();
  for (const [opened, isOn] of Object.entries(AllowFunnel)) {
    const lease = leasedPort(opened);
    const site = lease === undefined ? opened : `${ownName}:${lease}`;
    const rules = isOn ? rulesOf(splitSite(site)) : undefined;
    if (rules === undefined) continue;
    const key = JSON.stringify(siteRules([], rules));
    const group = groups.get(key) ?? { sites: [], rules };
    groups.set(key, group);
    group.sites.push(site);
  }
  const told: SiteRules[] = [];
  let left = LARGEST_RULES - 2;
  for (const { sites, rules } of groups.values()) {
    const rule = siteRules(sites, rules);
    const text = JSON.stringify([rule]);
    const isTaken = JSON.stringify(checkedSiteRules([rule])) === text;
    if (!isTaken || text.length > left || told.length >= MOST_RULES) continue;
    told.push(rule);
    left -= text.length;
  }
  return told;
}
