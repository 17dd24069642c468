import type { LocalApiBackend } from "./backend.ts";
import { json, only, type Route, refuse } from "./routes.ts";

/** Looking at requests; ours, not upstream's. */
export function createInspectionRoutes({ inspection }: LocalApiBackend): ReadonlyMap<string, Route> {
  if (inspection === undefined) return new Map();
  return new Map<string, Route>([
    [
      "inspector",
      only("POST", async ({ query }) => {
        const port = Number(query.get("port") ?? 0);
        if (!Number.isInteger(port) || port < 0 || port > 65_535) return refuse(400, "invalid 'port' parameter");
        return json({ url: await inspection.invite(port) });
      }),
    ],
    [
      "inspector/off",
      only("POST", async () => {
        await inspection.close();
        return json({});
      }),
    ],
  ]);
}
