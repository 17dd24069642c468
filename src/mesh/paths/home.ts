import type { DerpMap } from "../../wire/tailcfg.ts";
import type { NetcheckReport } from "./netcheck.ts";

const HISTORY_MS = 305_000;
const MOST_REPORTS = 32;
/** A frame heard from home within this time says that it works, even when STUN does not. */
const HEARD_STILL_REACHABLE_MS = 8000;
const HEARD_STILL_HOME_MS = 120_000;
const WORTH_MOVING_MS = 10;

/** Chooses the home region: upstream `netcheck.go:addReportHistoryAndSetPreferredDERP`. */
export class HomeChoice {
  #region = 0;
  #history: { readonly at: number; readonly latency: ReadonlyMap<number, number> }[] = [];
  #heardAt: number = -Infinity;

  /** 0 = none yet. */
  get region(): number {
    return this.#region;
  }

  /** A DERP frame came from `region`. */
  heard(region: number, now: number): void {
    if (region === this.#region) this.#heardAt = now;
  }

  /** With one region there is nothing to measure: it is home at once, before peers send what has nowhere to go. */
  chooseOnly(map: DerpMap | undefined): boolean {
    const eligible = Object.values(map?.Regions ?? {}).filter((region) => region?.NoMeasureNoHome !== true);
    const [only] = eligible;
    if (this.#region !== 0 || eligible.length !== 1 || !only) return false;
    this.#move(only.RegionID);
    return true;
  }

  /** `anyRegion` is a number that stays the same for this node: where nothing could be measured, it decides. */
  choose(report: NetcheckReport, map: DerpMap | undefined, anyRegion: number, now: number): number {
    const best = new Map<number, number>();
    for (const [region, { v4 = Infinity, v6 = Infinity }] of report.regions) best.set(region, Math.min(v4, v6));
    this.#history.push({ at: now, latency: best });
    this.#history = this.#history.filter(({ at }) => now - at <= HISTORY_MS).slice(-MOST_REPORTS);
    const scores = map?.HomeParams?.RegionScore ?? {};
    const regions = Object.values(map?.Regions ?? {}).filter((region) => region !== null);
    const score = (region: number): number => {
      const factor = scores[String(region)] ?? 1;
      const lowest = Math.min(...this.#history.map(({ latency }) => latency.get(region) ?? Infinity));
      return lowest * (factor > 0 ? factor : 1);
    };
    let winner = 0;
    for (const region of best.keys()) if (winner === 0 || score(region) < score(winner)) winner = region;
    const isKnown = regions.some(({ RegionID }) => RegionID === this.#region);
    if (winner === 0) {
      const isAlive = isKnown && now - this.#heardAt <= HEARD_STILL_HOME_MS;
      if (!isAlive) {
        const eligible = regions.filter((region) => region.NoMeasureNoHome !== true).map(({ RegionID }) => RegionID);
        winner = eligible.length === 0 ? 0 : eligible.sort((a, b) => a - b)[anyRegion % eligible.length]!;
        this.#move(winner);
      }
      return this.#region;
    }
    const old = this.#region;
    if (old !== 0 && winner !== old && isKnown) {
      const isReachable = best.has(old) || now - this.#heardAt <= HEARD_STILL_REACHABLE_MS;
      const [oldScore, newScore] = [score(old), score(winner)];
      if (isReachable && (oldScore - newScore < WORTH_MOVING_MS || newScore > (oldScore * 2) / 3)) return old;
    }
    this.#move(winner);
    return winner;
  }

  #move(region: number): void {
    if (region !== this.#region) this.#heardAt = -Infinity;
    this.#region = region;
  }
}
