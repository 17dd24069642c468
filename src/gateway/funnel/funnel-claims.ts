import { toHex } from "../../base/bytes.ts";
import type { Log } from "../../base/log.ts";
import { systemRandom } from "../../base/random.ts";
import { claimRefusals } from "../../funnel/claim-text.ts";
import type { FunnelWish } from "../../mesh/control/control-client.ts";
import type { OwnWish } from "../../mesh/own-hostinfo.ts";
import { answeredSerial, type ClaimAnswer, type ClaimState, claimAnswers } from "../../wire/claims.ts";
import type { ServeConfig } from "../../wire/serve-config.ts";
import type { CapMap } from "../../wire/tailcfg.ts";
import { claimOf, claimsIn, funnelWish } from "./funnel-wish.ts";

export interface FunnelClaimsOptions {
  /** This node's full name. */
  readonly ownName: () => string;
  /** Our own, as the server has it. */
  readonly capMap: () => CapMap | undefined;
  readonly tell: (wish: Partial<OwnWish> & FunnelWish) => void;
  readonly log: Log;
}

/** What we ask the server for beside our own name, and what it says to that. */
export class FunnelClaims {
  readonly #options: FunnelClaimsOptions;
  #claims: readonly string[] = [];
  /** The mark by which the answer to them is known. */
  #serial = newSerial();
  #refusals: readonly string[] = [];

  constructor(options: FunnelClaimsOptions) {
    this.#options = options;
  }

  ask(config: ServeConfig): void {
    const { ownName, tell } = this.#options;
    const claims = claimsIn(config, ownName());
    if (String(claims) !== String(this.#claims)) this.#serial = newSerial();
    this.#claims = claims;
    tell(funnelWish(config, ownName(), this.#serial));
  }

  /** To the claims as they are now; before the server has said anything to them, nothing. Undefined: it has no word for them. */
  get answers(): readonly ClaimAnswer[] | undefined {
    const capMap = this.#options.capMap();
    const answers = claimAnswers(capMap);
    return answers !== undefined && answeredSerial(capMap) !== this.#serial ? [] : answers;
  }

  /** `config` without what the network has not given us, or has taken back: who is visiting that must go (FN-14). */
  granted(config: ServeConfig): ServeConfig {
    const refused = new Set((this.answers ?? []).flatMap(({ claim, state }) => (LOST.has(state) ? [claim] : [])));
    if (refused.size === 0) return config;
    const allowed = Object.entries(config.AllowFunnel ?? {}).map(([key, isOn]) => {
      const isLost = refused.has(claimOf(key, this.#options.ownName()) ?? "");
      return [key, isOn && !isLost] as const; // not without a word: a wildcard above it would stand for it
    });
    return { ...config, AllowFunnel: Object.fromEntries(allowed) };
  }

  /** Claims that lead to nothing. */
  get refusals(): readonly string[] {
    return this.#refusals;
  }

  /** To be called with every map: what is refused is not passed over in silence (FN-14). */
  review(): void {
    const before = this.#refusals;
    this.#refusals = claimRefusals(this.#claims, this.answers ?? [], this.#options.ownName());
    for (const warning of this.#refusals) {
      if (!before.includes(warning)) this.#options.log.warn("funnel.claim_refused", { warning });
    }
  }
}

/** Not `closed`: an ingress that is being started anew has nothing to let. */
const LOST: ReadonlySet<ClaimState> = new Set(["ungranted", "taken", "crowded"]);

const newSerial = (): string => toHex(systemRandom(8));
