import { expect, test } from "vitest";
import { memoryStore } from "../../base/store.ts";
import { CommandDoors } from "../doors/command-doors.ts";
import { PlaceRules } from "./place-rules.ts";

const HANDLERS = { Handlers: { "/": { Text: "" }, "/app/": { Text: "" } } };

test("a link led to `/a b` where the mount is `/a%20b`", async () => {
  const commands = await CommandDoors.open(memoryStore(), () => true);
  const rules = new PlaceRules(
    () => ({ door: "friends" }),
    commands,
    () => false,
    () => true,
  );
  const Handlers = { "/a%20b/": { Text: "" }, "/a?b#c": { Text: "" }, "/é": { Text: "" }, "//x": { Text: "" } };
  expect(rules.doorsIn({ Web: { "gw.tail.test:8443": { Handlers } } }).get("friends")).toEqual(
    ["/a%2520b/", "/a%3Fb%23c", "/%C3%A9", "//x"].map((path) => `https://gw.tail.test:8443${path}`),
  );
});

test("a guest was given a link to a port that only the tailnet reaches: what is public comes first", async () => {
  const commands = await CommandDoors.open(memoryStore(), () => true);
  const isThere = (door: string): boolean => door === "friends";
  const rules = new PlaceRules(
    () => ({ door: "friends" }),
    commands,
    () => false,
    isThere,
  );
  const sites = ["gw.tail.test:8443", "*.apps.test:443", "gw.tail.test:443"];
  const Web = Object.fromEntries(sites.map((site) => [site, HANDLERS]));
  const config = { Web, AllowFunnel: { "gw.tail.test:443": true, "gw.tail.test:8443": false } };
  expect([...rules.doorsIn(config)]).toEqual([
    [
      "friends",
      [
        "https://gw.tail.test/",
        "https://gw.tail.test/app/",
        "https://gw.tail.test:8443/",
        "https://gw.tail.test:8443/app/",
        "*.apps.test:443/",
        "*.apps.test:443/app/",
      ],
    ],
  ]);
  expect(rules.warnings(config)).toEqual([]);
  rules.declared = ({ mount }) => (mount === "/" ? { door: "lost" } : undefined);
  const { "*.apps.test:443": _, ...exact } = Web;
  expect(rules.warnings({ ...config, Web: exact })).toEqual(
    ["https://gw.tail.test/", "https://gw.tail.test:8443/"].map(
      (place) => `strangers get 503 at ${place}: door "lost" stands there, and the services file does not declare it`,
    ),
  );
});
