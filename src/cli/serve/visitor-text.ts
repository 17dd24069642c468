import type { SiteRules } from "../../wire/visitor-rules.ts";

/** From where visitors may come: `only from 203.0.113.0/24`, `not from 203.0.113.9`; empty: from everywhere. */
export function placesAsked({ allow, deny }: Pick<SiteRules, "allow" | "deny">): readonly string[] {
  return [
    ...(allow === undefined ? [] : [`only from ${allow.join(", ") || "nowhere"}`]),
    ...(deny === undefined ? [] : [`not from ${deny.join(", ")}`]),
  ];
}
