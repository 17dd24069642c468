import { expect, test } from "vitest";
import type { ServeConfig } from "../wire/serve-config.ts";
import { effectiveConfig } from "./effective-config.ts";

const SITE = "box.tail.test:8443";
const session = (AllowFunnel?: Record<string, boolean>): ServeConfig => ({
  TCP: { 8443: { HTTPS: true } },
  Web: { [SITE]: { Handlers: { "/": { Text: "draft" } } } },
  ...(AllowFunnel === undefined ? {} : { AllowFunnel }),
});

test.each<readonly [string, Record<string, boolean>, ServeConfig, Record<string, boolean>]>([
  ["served in the foreground it was public by what was left of another", { [SITE]: true }, session(), {}],
  ["a wildcard of the background, too", { "*.box.tail.test:8443": true }, session(), {}],
  ["and a lease", { "*:8443": true }, session(), {}],
  ["what the foreground itself makes public is public", { [SITE]: false }, session({ [SITE]: true }), { [SITE]: true }],
  ["other ports are as they were", { "box.tail.test:443": true }, session(), { "box.tail.test:443": true }],
])("FN-6 %s", (_, AllowFunnel, foreground, wanted) => {
  expect(effectiveConfig({ AllowFunnel, Foreground: { one: foreground } }).AllowFunnel).toEqual(wanted);
});
