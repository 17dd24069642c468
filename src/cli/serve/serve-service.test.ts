import { expect, onTestFinished, test } from "vitest";
import { gatewayStatus, idleGateway, openLocalSocket } from "../../../test/suites/local-gateway.ts";
import { Screen } from "../../../test/suites/typed-command.ts";
import { applyMaskedPrefs, EMPTY_PREFS } from "../../wire/ipn.ts";
import type { ServeConfig } from "../../wire/serve-config.ts";
import { LocalClient } from "../local-client.ts";
import { serve } from "./serve.ts";

const WEB = {
  TCP: { 80: { HTTP: true } },
  Web: { "web.tail.test:80": { Handlers: { "/": { Proxy: "http://127.0.0.1:3000" } } } },
};
const OTHER = { TCP: { 22: { TCPForward: "127.0.0.1:22" } } };

/** A gateway that is told to change things. */
async function gateway(tags: readonly string[] = ["tag:web"], services: ServeConfig["Services"] = {}) {
  const state = { config: { Services: services } as ServeConfig, advertised: null as readonly string[] | null };
  const capMap: Record<string, unknown[]> = {};
  const socket = await openLocalSocket({
    ...idleGateway,
    serveConfig: () => ({ config: state.config, etag: "e" }),
    setServeConfig: async (config, etag) => {
      expect(etag).toBe("e");
      state.config = config!;
    },
    prefs: () => ({ ...EMPTY_PREFS, AdvertiseServices: state.advertised }),
    editPrefs: async (change) => {
      const changed = applyMaskedPrefs(EMPTY_PREFS, change);
      state.advertised = changed.AdvertiseServices;
      return changed;
    },
    status: async () =>
      gatewayStatus({ Self: { DNSName: "gw.tail.test.", Tags: tags, CapMap: { https: [], ...capMap } } }),
  });
  onTestFinished(() => socket.close());
  const screen = new Screen();
  const client = new LocalClient(socket.path, screen.io.signal);
  const type = (line: string) => serve(line.split(" "), screen.io, client);
  return { state, capMap, type, said: () => screen.stdout, complained: () => screen.stderr };
}

test("serve --service sets up and offers a service, beside what is there, and says that it waits", async () => {
  const { state, type, said } = await gateway(["tag:web"], { "svc:db": OTHER });
  expect(await type("--service=svc:web --http=80 3000")).toBe(0);
  expect(state.config).toEqual({ Services: { "svc:db": OTHER, "svc:web": WEB } });
  expect(state.advertised).toEqual(["svc:web"]);
  expect(said()).toContain(
    "approval from an admin is required. Once approved, it will be available in your Tailnet as:\n\nhttp://web.tail.test/\n|-- proxy http://127.0.0.1:3000\n\n",
  );
  await type("--service=svc:web --tcp=5432 tcp://127.0.0.1:5432");
  expect(state.config.Services!["svc:web"]!.TCP).toEqual({
    80: { HTTP: true },
    5432: { TCPForward: "127.0.0.1:5432" },
  });
  expect(state.advertised).toEqual(["svc:web"]);
  await type("--service=svc:web --tcp=5432 off");
  expect(state.config.Services!["svc:web"]).toEqual(WEB);
  await type("--service=svc:web --http=80 off");
  expect(state).toEqual({ config: { Services: { "svc:db": OTHER } }, advertised: [] });
});

test("an approved one is there at once", async () => {
  const { capMap, type, said } = await gateway();
  capMap["service-host"] = [{ "svc:web": ["100.64.0.5"] }];
  await type("--service=svc:web --https=8443 3000");
  expect(said()).toMatch(/^Available within your tailnet:\n\nhttps:\/\/web\.tail\.test:8443\/\n\|-- proxy http/);
  await type("--service=svc:web --tcp=22 22");
  expect(said()).toContain("|-- tcp://web.tail.test:22\n|-- tcp://100.64.0.5:22\n|--> tcp://127.0.0.1:22\n");
});

test("drain, advertise and clear", async () => {
  const { state, type, complained } = await gateway(["tag:web"], { "svc:web": WEB });
  await type("advertise svc:web");
  await type("advertise svc:db");
  expect(state.advertised).toEqual(["svc:web", "svc:db"]);
  await type("drain svc:db");
  expect(state).toEqual({ config: { Services: { "svc:web": WEB } }, advertised: ["svc:web"] });
  await type("clear svc:web");
  expect(state).toEqual({ config: {}, advertised: [] });
  await type("clear svc:web");
  expect(complained()).toContain("nothing to clear");
});

test.each([
  ["--service=svc:web --bg=false 3000", "--service flag is only compatible with background mode"],
  ["--service=svc:web --tun", "needs a kernel interface"],
  ["get-config --all", "there is no get-config here: services are declared in the services file"],
  ["drain web", `"web" is not a valid service name: must start with 'svc:'`],
  ["advertise SVC:web", `"SVC:web" is not a valid service name: must start with 'svc:'`],
  ["advertise svc:", "must not be empty after the 'svc:' prefix"],
  ["advertise svc:-x", `"-x" is not a valid DNS label: must start with a letter or number`],
  ["advertise svc:x-", `"x-" is not a valid DNS label: must end with a letter or number`],
  ["advertise svc:a.b", `"a.b" is not a valid DNS label: contains invalid character '.'`],
  [`advertise svc:${"a".repeat(64)}`, "is too long, max length is 63 bytes"],
  ["drain", "try `sallyport serve --help`"],
  ["advertise", "error: missing service name argument"],
  ["clear svc:a svc:b", "error: invalid number of arguments\n"],
  ["--service=svc:web --http=80 off", "failed to remove web serve: service does not exist"],
  ["--service=svc:web --tcp=80 off", "failed to remove TCP serve: serve config does not exist"],
])("serve %s is refused, and nothing changes", async (line, message) => {
  const { state, type } = await gateway();
  await expect(type(line)).rejects.toThrow(message);
  expect(state).toEqual({ config: { Services: {} }, advertised: null });
});

test.each([
  ["--service=web 3000", 2, 'invalid value "web" for flag -service: invalid service name: "web"'],
  ["--service=svc: 3000", 2, 'invalid value "svc:" for flag -service: invalid service name: "svc:"'],
  ["advertise --help", 0, "Serve content"],
  ["drain --now svc:web", 2, "flag provided but not defined: -now"],
])("serve %s ends with %d and shows how it is meant", async (line, status, said) => {
  const { state, type, complained } = await gateway();
  expect(await type(line)).toBe(status);
  expect(complained().startsWith(said)).toBe(true);
  expect(state).toEqual({ config: { Services: {} }, advertised: null });
});

test("only nodes with a tag host services, and TUN is left alone", async () => {
  const untagged = await gateway([]);
  await expect(untagged.type("--service=svc:web 3000")).rejects.toThrow("service hosts must be tagged nodes");
  const { type } = await gateway(["tag:web"], { "svc:web": { Tun: true } });
  await expect(type("--service=svc:web 3000")).rejects.toThrow("TUN mode is enabled");
});
