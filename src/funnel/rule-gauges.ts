import type { VisitorRules } from "../wire/visitor-rules.ts";
import { type Gauge, Gauges, visitorKey } from "./gauges.ts";

const MOST_GAUGES = 65_536;

export interface RuledVisit {
  /** `name:port`. */
  readonly site: string;
  readonly rules: VisitorRules;
  readonly address: string;
}

/** Counts visitors of each site, and each visitor at it, against what the site's owner asks. */
export class RuleGauges {
  readonly #gauges: Gauges = new Gauges(MOST_GAUGES);

  /**
   * The gauges in which he is `open` from now on until he goes, by whoever lets him in; undefined: there is no room for him.
   */
  roomFor({ site, rules, address }: RuledVisit, now: number): readonly Gauge[] | undefined {
    const whole = this.#gauges.of(site);
    const single = this.#gauges.of(`${site} ${visitorKey(address)}`);
    const { connections, visitorConnections, connectionsPerSecond, visitorConnectionsPerSecond } = rules;
    if (connections !== undefined && whole.open >= connections) return undefined;
    if (visitorConnections !== undefined && single.open >= visitorConnections) return undefined;
    // The visitor's first: who asks too often must not use up what the site has for others (FN-10).
    if (visitorConnectionsPerSecond !== undefined && !single.rate.take(visitorConnectionsPerSecond, now))
      return undefined;
    if (connectionsPerSecond !== undefined && !whole.rate.take(connectionsPerSecond, now)) return undefined;
    return [whole, single];
  }
}
