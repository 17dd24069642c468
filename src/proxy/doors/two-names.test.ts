import { afterEach, expect, test } from "vitest";
import { ask, door } from "../../../test/suites/door-scene.ts";
import { closeScenes, GATE, type ProxyScene, proxyScene } from "../../../test/suites/proxy-scene.ts";
import { recordingBackend } from "../../../test/suites/recording-backend.ts";
import { FakeClock } from "../../base/clock.ts";
import { silentLog } from "../../base/log.ts";
import { memoryStore } from "../../base/store.ts";
import { Gatekeeper } from "./gatekeeper.ts";

afterEach(closeScenes);

/** One backend for all names, as one that goes by Host is: the gateway's own is open, the others are behind a door. */
async function stage(): Promise<ProxyScene & { readonly requests: readonly string[] }> {
  const backend = await recordingBackend();
  const gatekeeper = await Gatekeeper.open({ clock: new FakeClock(), log: silentLog, store: memoryStore() });
  gatekeeper.setDoors([await door({ stops: "everyone" })]);
  const web = { Handlers: { "/": { Proxy: `http://127.0.0.1:${backend.port}` } } };
  const scene = proxyScene(
    {
      TCP: { 443: { HTTPS: true }, 8443: { HTTPS: true } },
      Web: { [`${GATE}:443`]: web, "open.test:443": web, "shop.test:8443": web, "*.apps.test:443": web },
    },
    { gatekeeper, rulesOf: ({ name }) => (/^shop\.test$|\.apps\.test$/.test(name) ? { door: "friends" } : undefined) },
  );
  return Object.assign(scene, { requests: backend.requests });
}

test.each([
  [GATE, 200],
  ["open.test", 200],
  ["elsewhere.test", 200],
  ["shop.test", 421],
  ["SHOP.test.", 421],
  ["shop.test:8443", 421],
  ["a.apps.test", 421],
])("RT-3 a door was walked around on a connection for a name without one, by Host: %s is %i", async (host, status) => {
  const scene = await stage();
  expect((await ask(scene, "/", { headers: { host } })).status).toBe(status);
  expect(scene.requests).toHaveLength(status === 200 ? 1 : 0);
});
