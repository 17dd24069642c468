import { goJson } from "../../config/serve-document.ts";
import type { Observation } from "../../funnel/observations.ts";
import type { ClaimAnswer } from "../../wire/claims.ts";
import { wildcardOf } from "../../wire/host-name.ts";
import type { ServeConfig } from "../../wire/serve-config.ts";
import type { LocalClient } from "../local-client.ts";
import { terminalText } from "../terminal-text.ts";
import { isWildcard, placeOf, publicPlaces } from "./funnel-proof.ts";
import { placesAsked } from "./visitor-text.ts";

/** What was last seen from outside of each public name, and when. */
export function observedText(config: ServeConfig, ownName: string, observations: readonly Observation[]): string {
  const places = publicPlaces(config, ownName);
  const named = places.map(placeOf);
  // Names under a wildcard, of which somebody looked at one or the other.
  const seenBelow = observations.flatMap(({ target }) => (named.includes(target) ? [] : [target]));
  const isLookedAt = (place: string): boolean => seenBelow.some((one) => wildcardOf(one) === place);
  const wanted = named.filter((place) => !isLookedAt(place));
  const lines = [...wanted, ...seenBelow].map((place) => {
    const seen = observations.find((one) => one.target === place);
    if (seen === undefined && isWildcard({ name: place })) {
      return `${place}: not looked at yet, sallyport funnel check NAME, one of those below it`;
    }
    if (seen === undefined) return `${place}: not looked at yet, sallyport funnel check`;
    const failed = seen.findings.find(({ isGood }) => !isGood);
    const last = seen.findings.find(({ hop }) => hop === "backend");
    const answer = last === undefined ? "" : ` (${last.found})`;
    const what = failed === undefined ? `visitors get through${answer}` : `✗ ${failed.hop}: ${failed.found}`;
    return `${place}: ${what}, seen ${seen.at.slice(0, 16)}Z`;
  });
  if (lines.length === 0) return "";
  return `# From outside:\n${lines.map((line) => `#     - ${terminalText(line)}\n`).join("")}\n`;
}

/** Where only some visitors may come, or so many: what is asked of them. */
export async function visitorsText(config: ServeConfig, ownName: string, client: LocalClient): Promise<string> {
  const lines: string[] = [];
  for (const place of publicPlaces(config, ownName).map(placeOf)) {
    const rules = (await client.visitorRules(place)) ?? {};
    const said = [
      ...placesAsked(rules),
      ...Object.entries(rules.limits ?? {}).map(([name, limit]) => `${name} ${limit}`),
    ];
    if (said.length > 0) lines.push(`${place}: ${said.join("; ")}`);
  }
  if (lines.length === 0) return "";
  return `# Visitors:\n${lines.map((line) => `#     - ${terminalText(line)}\n`).join("")}\n`;
}

/** Which door stands before which mount, where there is one at all. */
export async function doorsText(config: ServeConfig, client: LocalClient): Promise<string> {
  const lines: string[] = [];
  for (const { AllowFunnel = {}, Web = {} } of [config, ...Object.values(config.Foreground ?? {})]) {
    for (const [site, { Handlers }] of Object.entries(Web)) {
      for (const mount of AllowFunnel[site] === true ? Object.keys(Handlers ?? {}) : []) {
        const standing = await client.doorAt(site, mount).catch(() => undefined); // not for everybody's eyes
        const lack = standing?.isMissing === true ? " ✗ declared nowhere: visitors get 503" : "";
        if (standing !== undefined) lines.push(`${site}${mount}: ${standing.door ?? "anyone"}${lack}`);
      }
    }
  }
  if (lines.every((line) => line.endsWith(": anyone"))) return "";
  return `# Doors:\n${lines.map((line) => `#     - ${terminalText(line)}\n`).join("")}\n`;
}

/** `funnel status --json` is upstream's document, `Observed` where something was, and `Claims` where something is claimed. */
export function observedJson(
  document: string,
  observations: readonly Observation[],
  answers: readonly ClaimAnswer[] = [],
): string {
  if (observations.length === 0 && answers.length === 0) return document;
  const Claims = answers.map(({ claim, state }) => ({ Claim: claim, State: state }));
  const Observed = observations.map(({ target, at, findings }) => ({
    Target: target,
    At: at,
    Findings: findings.map(({ hop, isGood, found }) => ({ Hop: hop, IsGood: isGood, Found: found })),
  }));
  const seen = observations.length === 0 ? {} : { Observed };
  return goJson({ ...(JSON.parse(document) as object), ...seen, ...(Claims.length === 0 ? {} : { Claims }) }, "  ");
}
