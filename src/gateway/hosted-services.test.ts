import { expect, test } from "vitest";
import { mapNode, networkMap } from "../../test/suites/network-map.ts";
import { advertisedServices, nodeServeConfig } from "../config/node-serve-config.ts";
import { parseServices } from "../config/services.ts";
import { hostedServices, serviceAt, waitingServices } from "./hosted-services.ts";

const CapMap = { "service-host": [{ "svc:web": ["100.64.0.5", "fd7a:115c:a1e0::5"] }] };
const map = networkMap([], { self: mapNode(1, { Name: "gw.tail.test.", CapMap }) });

test("an address of a service is the service's, by its name in the mesh; any other address is none's", () => {
  expect(serviceAt(map, "100.64.0.5")).toEqual({ service: "svc:web", name: "web.tail.test" });
  expect(serviceAt(map, "fd7a:115c:a1e0::5")).toEqual({ service: "svc:web", name: "web.tail.test" });
  expect([serviceAt(map, "100.64.0.1"), serviceAt(undefined, "100.64.0.5")]).toEqual([undefined, undefined]);
});

test("the server is told of what is configured and what is advertised, by name", () => {
  const config = {
    Services: {
      "svc:web": { TCP: { 443: { HTTPS: true }, 22: { TCPForward: "127.0.0.1:22" } } },
      "svc:tun": { Tun: true },
    },
  };
  expect(hostedServices(config, ["svc:web", "svc:later"])).toEqual([
    { Name: "svc:later", Ports: null, Active: true },
    { Name: "svc:tun", Ports: ["*"], Active: false },
    { Name: "svc:web", Ports: ["tcp:22", "tcp:443"], Active: true },
  ]);
  expect(hostedServices({}, [])).toEqual([]);
});

test("what is advertised and has no address waits", () => {
  expect(waitingServices(map, ["svc:web", "svc:db"])).toEqual(["svc:db"]);
  expect(waitingServices(undefined, ["svc:web"])).toEqual([]);
});

test("a services file: each service has listeners of its own, beside the node's", () => {
  const file = parseServices(
    `{"version": "0.0.1",
      "node": {"endpoints": {"tcp:443": "http://127.0.0.1:1000"}},
      "services": {
        "svc:web": {"endpoints": {"tcp:80": "http://127.0.0.1:3000", "tcp:5432": "tcp://127.0.0.1:5432"}},
        "svc:idle": {"endpoints": {"tcp:80": "text:idle"}, "advertised": false},
        "svc:tun": {"endpoints": {"*": "TUN"}}}}`,
    "services.hujson",
  );
  const { Services, ...own } = nodeServeConfig(file, "gw.tail.test");
  expect(Object.keys(own)).toEqual(["TCP", "Web"]);
  expect(Services).toEqual({
    "svc:web": {
      TCP: { 80: { HTTP: true }, 5432: { TCPForward: "127.0.0.1:5432" } },
      Web: { "web.tail.test:80": { Handlers: { "/": { Proxy: "http://127.0.0.1:3000" } } } },
    },
    "svc:idle": {
      TCP: { 80: { HTTPS: true } },
      Web: { "idle.tail.test:80": { Handlers: { "/": { Text: "idle" } } } },
    },
  });
  expect(advertisedServices(file)).toEqual(["svc:web"]);
  expect(file.warnings).toEqual([expect.stringContaining("svc:tun is left out")]);
});
