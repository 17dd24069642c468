import { keyExpiryMs } from "../wire/map-apply.ts";
import type { NetworkMap } from "../wire/network-map.ts";
import type { ControlState } from "./control/control-client.ts";

const DAY_MS = 86_400_000;
const WARN_BEFORE_MS = 7 * DAY_MS;

export interface HealthFacts {
  readonly state: ControlState;
  readonly map: NetworkMap | undefined;
  /** The server's time. */
  readonly wall: number;
  /** 0 = none chosen yet. */
  readonly homeRegion: number;
  readonly isHomeConnected: boolean;
  /** It can renew its key itself. */
  readonly hasAuthKey: boolean;
  /** What a person does to let it in again, where that is not `sallyport up`. */
  readonly remedy?: string | undefined;
}

/** What is wrong with this node, most urgent first: what happened, and what to do about it. */
export function healthOf(facts: HealthFacts): readonly string[] {
  return [...loginTrouble(facts), ...expiryWarning(facts), ...relayTrouble(facts), ...(facts.map?.health ?? [])];
}

function loginTrouble({ state, remedy }: HealthFacts): readonly string[] {
  switch (state.kind) {
    case "expired":
      return [
        `This node's key has expired, so its tunnels are closed. ${remedy ?? "Run `sallyport up` and log in again."}`,
      ];
    case "removed":
      return [
        `The coordination server does not know this node any more: it was deleted there, so its tunnels are closed. ${remedy ?? "Run `sallyport up` to join again, or `sallyport logout` to forget this identity."}`,
      ];
    case "needs-login":
      return state.url === undefined
        ? [
            `The coordination server refused this node: "${state.reason}". ${remedy ?? "Run `sallyport up` with a valid auth key."}`,
          ]
        : [`This node waits for a login: open ${state.url}`];
    case "logged-out":
      return ["This node is logged out. Run `sallyport up` to join again."];
    case "stopped":
      return ["This node is down. Run `sallyport up` to bring it back."];
    case "backing-off":
      return [
        `The coordination server cannot be reached; what is known of the mesh stays in force. ${state.fault.message}`,
      ];
    default:
      return [];
  }
}

/** CC-9: warned of in the last seven days, by the day and in the last day by the hour. */
function expiryWarning({ state, map, wall, hasAuthKey, remedy }: HealthFacts): readonly string[] {
  const left = map === undefined ? Infinity : keyExpiryMs(map.self) - wall;
  if (left > WARN_BEFORE_MS || left <= 0 || state.kind === "expired" || state.kind === "removed") return [];
  const [amount, unit] = left > DAY_MS ? [Math.floor(left / DAY_MS), "day"] : [Math.ceil(left / 3_600_000), "hour"];
  const when = `in ${amount} ${unit}${amount === 1 ? "" : "s"}`;
  const until = hasAuthKey
    ? "It will then be renewed with the auth key, if that is still good."
    : (remedy ?? "Run `sallyport up --force-reauth` and log in again before that.");
  return [`This node's key expires ${when}. ${until}`];
}

function relayTrouble({ state, map, homeRegion, isHomeConnected }: HealthFacts): readonly string[] {
  if (state.kind !== "running" || map === undefined || homeRegion === 0 || isHomeConnected) return [];
  const name = map.derpMap.Regions?.[String(homeRegion)]?.RegionName ?? String(homeRegion);
  return [`The relay "${name}" cannot be reached: peers without a direct path to this node cannot either.`];
}
