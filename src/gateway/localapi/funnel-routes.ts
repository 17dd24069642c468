import { messageOf } from "../../base/fault.ts";
import type { LocalApiBackend } from "./backend.ts";
import { json, type Route, refuse } from "./routes.ts";

/** What was seen from outside of the public names; ours, not upstream's. */
export function createFunnelRoutes({ observations }: LocalApiBackend): ReadonlyMap<string, Route> {
  if (observations === undefined) return new Map();
  return new Map<string, Route>([
    [
      "funnel/observed",
      ({ method, body }) => {
        if (method === "GET") return json(observations.list());
        if (method !== "POST") return refuse(405, "want GET or POST");
        try {
          return observations.record(JSON.parse(body)) ? json({}) : refuse(400, "no observation of a public name");
        } catch (thrown) {
          return refuse(400, messageOf(thrown)); // not JSON
        }
      },
    ],
  ]);
}
