import { Fault, messageOf } from "../../base/fault.ts";
import { splitSite } from "../../wire/site.ts";
import { siteRules } from "../../wire/visitor-rules.ts";
import type { LocalApiBackend } from "./backend.ts";
import { type Answer, type Call, json, type Route, refuse } from "./routes.ts";

/** What was seen from outside of the public names, and doors before them; ours, not upstream's. */
export function createFunnelRoutes(backend: LocalApiBackend): ReadonlyMap<string, Route> {
  const { observations } = backend;
  if (observations === undefined) return new Map();
  return new Map<string, Route>([
    ["funnel/door", (call) => door(call, backend)],
    ["funnel/visitors", (call) => visitors(call, backend)],
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

/** Which door stands before a mount of `site` (`name:port`), or puts one there. */
async function door({ method, query }: Call, backend: LocalApiBackend): Promise<Answer> {
  const site = query.get("site") ?? "";
  const mount = query.get("mount") ?? "/";
  if (method === "GET") {
    const place = { ...splitSite(site), mount };
    const found = backend.doorAt?.(place);
    const isDemanded = backend.demandsDoors === true;
    const isMissing = backend.doors?.document().missing.some(({ name }) => name === found) === true;
    return json({
      ...(found === undefined ? {} : { door: found }),
      ...(isMissing ? { isMissing } : {}),
      ...(isDemanded ? { isDemanded } : {}),
    });
  }
  if (method !== "POST" || backend.commandDoors === undefined) return refuse(405, "want GET or POST");
  try {
    await backend.commandDoors.set(site, query.get("door") || undefined, mount);
    return json({});
  } catch (thrown) {
    if (thrown instanceof Fault && thrown.code.startsWith("DOOR_")) return refuse(400, thrown.message);
    throw thrown;
  }
}

/** Which visitors from the Internet may come to `site`, by the file and by commands; or what a command says of it. */
async function visitors({ method, query, body }: Call, { visitorRules }: LocalApiBackend): Promise<Answer> {
  if (visitorRules === undefined) return refuse(404, "not found");
  const site = query.get("site") ?? "";
  if (method === "GET") {
    const rules = visitorRules.at(splitSite(site));
    const { sites: _, ...said } = siteRules([], rules ?? {});
    return json(said);
  }
  if (method !== "POST") return refuse(405, "want GET or POST");
  try {
    const { allow, deny } = Object(JSON.parse(body)) as { readonly allow?: unknown; readonly deny?: unknown };
    if (!isTexts(allow) || !isTexts(deny)) return refuse(400, "want lists of addresses");
    await visitorRules.set(site, allow, deny);
    return json({});
  } catch (thrown) {
    if (thrown instanceof SyntaxError) return refuse(400, thrown.message);
    if (thrown instanceof Fault && thrown.code === "VISITOR_RULES") return refuse(400, thrown.message);
    throw thrown;
  }
}

const isTexts = (value: unknown): value is readonly string[] =>
  Array.isArray(value) && value.every((one) => typeof one === "string");
