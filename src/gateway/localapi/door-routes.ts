import { Fault } from "../../base/fault.ts";
import type { PassWish } from "../../proxy/doors/guest-passes.ts";
import type { LocalApiBackend } from "./backend.ts";
import { json, only, type Route, refuse } from "./routes.ts";

/** A new pass, or why there is none. */
function made(make: (wish: PassWish) => Promise<object>): Route {
  return only("POST", async ({ query }) => {
    const lifeMs = Number(query.get("seconds")) * 1000;
    const isOnce = query.get("many") !== "true";
    try {
      return json(await make({ door: query.get("door") ?? "", name: query.get("name") ?? "", lifeMs, isOnce }));
    } catch (thrown) {
      if (thrown instanceof Fault && thrown.code === "DOOR_PASS") return refuse(400, thrown.message);
      throw thrown;
    }
  });
}

/** Guests and their passes; ours, not upstream's. */
export function createDoorRoutes({ doors }: LocalApiBackend): ReadonlyMap<string, Route> {
  if (doors === undefined) return new Map();
  return new Map<string, Route>([
    ["doors", only("GET", () => json(doors.document()))],
    ["doors/invite", made((wish) => doors.invite(wish))],
    ["doors/certify", made((wish) => doors.certify(wish))],
    [
      "doors/revoke",
      only("POST", async ({ query }) =>
        (await doors.revoke(query.get("id") ?? "")) ? json({}) : refuse(404, "no pass and no session has this ID"),
      ),
    ],
  ]);
}
