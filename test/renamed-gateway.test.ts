import tls from "node:tls";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { memoryStore } from "../src/base/store.ts";
import { mountRules, nodeServeConfig, type Place } from "../src/config/node-serve-config.ts";
import { parseServices } from "../src/config/services.ts";
import { Gateway, type GatewayOptions } from "../src/gateway/gateway.ts";
import type { Relay } from "../src/server/relay.ts";
import type { ServeConfig } from "../src/wire/serve-config.ts";
import { brings, FunnelMesh, funnelPolicy } from "./suites/funnel-mesh.ts";
import { typedFunnel } from "./suites/typed-command.ts";

const PORTS = [443, 8443];
const WAIT = { timeout: 30_000, interval: 10 };
const text = (Text: string) => ({ Handlers: { "/": { Text } } });

let mesh: FunnelMesh;
let relay: Relay;

beforeAll(async () => {
  mesh = await FunnelMesh.open({ policy: funnelPolicy('"attr": ["funnel", "https"]') });
  const listeners = PORTS.map((publicPort) => ({ address: "127.0.0.1", port: 0, publicPort }));
  relay = await mesh.relay({ listeners });
}, 60_000);

afterAll(() => mesh.close());

/** What the node serves, public and not; the name stands before each port. */
const served = (name: string): ServeConfig => ({
  TCP: { 443: { HTTPS: true }, 8443: { HTTPS: true } },
  Web: { [`${name}:443`]: text("public"), [`${name}:8443`]: text("for the mesh") },
  AllowFunnel: { [`${name}:443`]: true },
});

const isServed = (gateway: Gateway, config: ServeConfig) =>
  expect.poll(() => gateway.storedServeConfig, WAIT).toEqual(config);

/** Does a stranger come in? The relay brings him by name, and the gateway knows which ports are public. */
async function isPublic(name: string, port: number): Promise<boolean> {
  const place = { host: "127.0.0.1", port: relay.ports[PORTS.indexOf(port)]!, servername: name };
  const socket = tls.connect({ ...place, rejectUnauthorized: false });
  const isOpen = await new Promise<boolean>((resolve) => {
    socket.once("secureConnect", () => resolve(true)).on("error", () => resolve(false));
    socket.once("close", () => resolve(false));
  });
  socket.destroy();
  return isOpen;
}

async function withoutKeeping(options: Partial<GatewayOptions>): Promise<Gateway> {
  const gateway = await Gateway.open({ ...(await mesh.joining("web")), allowsLoopbackVisitors: true, ...options });
  onTestFinished(() => gateway.close());
  return gateway;
}

test("what commands had set up was served under the old name after a rename, until SIGHUP", async () => {
  const store = memoryStore();
  const gateway = await mesh.gateway({ hostname: "shop", store });
  await gateway.setServeConfig(served("shop.tail.test"));
  await gateway.visitorRules.set("shop.tail.test:443", ["192.0.2.0/24"], []);
  await expect.poll(() => brings(relay, "shop.tail.test"), WAIT).toBe(true);
  await mesh.server.coordinator.renameNode("shop", "store", "test");
  await isServed(gateway, served("store.tail.test"));
  await expect
    .poll(() => [brings(relay, "store.tail.test"), brings(relay, "shop.tail.test")], WAIT)
    .toEqual([true, false]);
  expect(await isPublic("store.tail.test", 8443)).toBe(false);
  // Who was kept out is kept out.
  expect(gateway.visitorRules.at({ name: "store.tail.test", port: 443 })).toEqual(
    expect.objectContaining({ allow: expect.anything() }),
  );

  // Renamed once more while it is away, and begun anew.
  await gateway.close();
  await mesh.server.coordinator.renameNode("store", "kiosk", "test");
  const again = await mesh.gateway({ hostname: "shop", store });
  await isServed(again, served("kiosk.tail.test"));
  expect(again.visitorRules.at({ name: "kiosk.tail.test", port: 443 })).toBeDefined();
  await again.close();
  const third = await mesh.gateway({ hostname: "shop", store });
  expect(third.storedServeConfig).toEqual(served("kiosk.tail.test"));
}, 60_000);

test("another node, which is what ours is after it was removed and came back, serves nothing of before under its name", async () => {
  const store = memoryStore();
  const before = await mesh.gateway({ hostname: "one", store });
  await before.setServeConfig(served("one.tail.test"));
  await before.close();
  const state = memoryStore();
  await state.set("serve.json", (await store.get("serve.json"))!);
  const after = await mesh.gateway({ hostname: "two", store: state });
  expect(after.name).toBe("two.tail.test");
  expect(after.storedServeConfig).toEqual(served("one.tail.test"));
}, 60_000);

const FILE = parseServices(
  JSON.stringify({
    version: "0.0.1",
    node: {
      endpoints: {
        "tcp:443": { target: "text:public", funnel: true },
        "tcp:8443": { target: "text:public", funnel: true, bodyBytes: 5 },
      },
    },
  }),
  "services.hujson",
);
const fromFile = (): Partial<GatewayOptions> => ({
  declared: nodeServeConfig(FILE, ""),
  rulesOf: (place: Place) => mountRules(FILE, place),
});

test.each([
  ["funnel --https=8443 off", ["--https=8443", "off"], [443]],
  ["funnel reset", ["reset"], []],
])(
  "`%s`, typed before the first network map of a run with --config, was lost when the map came",
  async (_, words, open) => {
    const hostname = words.length === 1 ? "reset" : "early";
    const name = `${hostname}.tail.test`;
    const store = memoryStore();
    const paused = await mesh.gateway({ hostname, store });
    await paused.setPreferences({ ...paused.preferences.now, WantRunning: false });
    await paused.close();
    const gateway = await withoutKeeping({ hostname, store, ...fromFile() });
    expect(await typedFunnel(gateway, words)).toMatchObject({ code: 0, stderr: "" });
    await gateway.setPreferences({ ...gateway.preferences.now, WantRunning: true });
    await gateway.node.ready();
    expect(gateway.name).toBe(name);
    const { Web = {}, AllowFunnel = {} } = gateway.storedServeConfig ?? {};
    expect(AllowFunnel).toEqual(Object.fromEntries(open.map((port) => [`${name}:${port}`, true])));
    expect(Object.keys(Web)).toEqual([443, ...(words.length === 1 ? [8443] : [])].map((port) => `${name}:${port}`));
    if (open.length > 0) await expect.poll(() => isPublic(name, 443), WAIT).toBe(true);
    expect(await isPublic(name, 8443)).toBe(false);
  },
  60_000,
);

test("what a file declares is served under the node's name from its first map on, with what it asks, and after a rename", async () => {
  const gateway = await withoutKeeping({ hostname: "file", ...fromFile() });
  await gateway.node.ready();
  expect(gateway.storedServeConfig).toEqual(nodeServeConfig(FILE, "file.tail.test"));
  expect(gateway.proxy.serves(8443)).toBe(true);
  await mesh.server.coordinator.renameNode("file", "document", "test");
  await isServed(gateway, nodeServeConfig(FILE, "document.tail.test"));
  await expect.poll(() => isPublic("document.tail.test", 8443), WAIT).toBe(true);
}, 60_000);
