import { expect, test } from "vitest";
import { mapNode, networkMap } from "../../test/suites/network-map.ts";
import { Fault } from "../base/fault.ts";
import { type HealthFacts, healthOf } from "./health.ts";

const WALL = Date.UTC(2026, 0, 1);
const DAY = 86_400_000;

const facts = (more: Partial<HealthFacts> & { expiresIn?: number } = {}): HealthFacts => {
  const { expiresIn, ...rest } = more;
  const expiry = expiresIn === undefined ? {} : { KeyExpiry: new Date(WALL + expiresIn).toISOString() };
  const map = networkMap([], {
    self: mapNode(1, { Name: "gw.tail.test.", ...expiry }),
    derpMap: { Regions: { 7: { RegionID: 7, RegionCode: "fra", RegionName: "Frankfurt", Nodes: [] } } },
  });
  return {
    state: { kind: "running" },
    map,
    wall: WALL,
    homeRegion: 7,
    isHomeConnected: true,
    hasAuthKey: false,
    ...rest,
  };
};

test.each<[string, HealthFacts, RegExp | undefined]>([
  ["all is well", facts(), undefined],
  ["CC-9 a key that never expires", facts({ expiresIn: -Date.UTC(2026, 0, 1) * 2 }), undefined],
  ["CC-9 eight days left", facts({ expiresIn: 8 * DAY }), undefined],
  ["CC-9 seven days left", facts({ expiresIn: 7 * DAY }), /expires in 7 days/],
  ["CC-9 25 hours left", facts({ expiresIn: DAY + 3_600_000 }), /expires in 1 day\./],
  ["CC-9 a day left", facts({ expiresIn: DAY }), /expires in 24 hours/],
  [
    "CC-9 a day left, with an auth key at hand",
    facts({ expiresIn: DAY, hasAuthKey: true }),
    /renewed with the auth key/,
  ],
  ["CC-9 a minute left", facts({ expiresIn: 60_000 }), /expires in 1 hour\. Run `sallyport up --force-reauth`/],
  [
    "CC-9 the key has expired",
    facts({ state: { kind: "expired" }, expiresIn: -1 }),
    /^This node's key has expired.*`sallyport up`/,
  ],
  ["deleted on the server", facts({ state: { kind: "removed" } }), /deleted.*`sallyport up`/],
  [
    "a URL to open",
    facts({ state: { kind: "needs-login", url: "https://a.test/1", reason: "x" } }),
    /open https:\/\/a\.test\/1/,
  ],
  [
    "refused",
    facts({ state: { kind: "needs-login", reason: "authkey expired" } }),
    /refused this node: "authkey expired"/,
  ],
  ["logged out", facts({ state: { kind: "logged-out" } }), /logged out.*`sallyport up`/],
  ["taken down", facts({ state: { kind: "stopped" } }), /down.*`sallyport up`/],
  [
    "the server is away",
    facts({ state: { kind: "backing-off", untilMs: 0, fault: new Fault("X", "Cannot reach it") } }),
    /cannot be reached; what is known of the mesh stays in force\. Cannot reach it/,
  ],
  ...(["expired", "removed"] as const).map((kind): [string, HealthFacts, RegExp] => [
    `an ingress was told to run \`sallyport up\`, which it does not know: ${kind}`,
    facts({ state: { kind }, remedy: "Start `sallyport ingress` anew." }),
    /closed\. Start `sallyport ingress` anew\.$/,
  ]),
  ["the relay is away", facts({ isHomeConnected: false }), /relay "Frankfurt" cannot be reached/],
  ["no relay was chosen yet", facts({ isHomeConnected: false, homeRegion: 0 }), undefined],
])("%s", (_, found, wanted) => {
  const health = healthOf(found);
  if (wanted === undefined) expect(health).toEqual([]);
  else expect(health).toEqual([expect.stringMatching(wanted)]);
});
