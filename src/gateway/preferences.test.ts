import { describe, expect, test } from "vitest";
import { memoryStore } from "../base/store.ts";
import { EMPTY_PREFS, type Prefs } from "../wire/ipn.ts";
import { Preferences, refusalOfPrefs } from "./preferences.ts";

describe("what this gateway cannot do is refused", () => {
  test.each<[string, Partial<Prefs>, RegExp]>([
    ["an SSH server", { RunSSH: true } as Partial<Prefs>, /^RunSSH: .* an SSH server$/],
    ["an exit node", { ExitNodeIP: "100.64.0.9" } as Partial<Prefs>, /exit node$/],
    ["routes", { AdvertiseRoutes: ["10.0.0.0/8"] }, /^AdvertiseRoutes/],
    ["an app connector", { AppConnector: { Advertise: true } } as Partial<Prefs>, /app connector$/],
    ["another server", { ControlURL: "https://other.test" }, /belongs to https:\/\/mine\.test/],
    ["a user that is not there", { OperatorUser: "nobody-of-that-name" } as Partial<Prefs>, /no user/],
  ])("%s", (_, change, wanted) => {
    const before: Prefs = { ...EMPTY_PREFS, ControlURL: "https://mine.test" };
    expect(refusalOfPrefs({ ...before, ...change } as Prefs, before)).toMatch(wanted);
    expect(refusalOfPrefs({ ...before, Hostname: "gw", RouteAll: true, CorpDNS: true }, before)).toBeUndefined();
  });
});

test("preferences outlive the process, private keys do not", async () => {
  const store = memoryStore();
  const first = await Preferences.load(store);
  expect(first.now.WantRunning).toBe(true);
  await first.set({ ...first.now, Hostname: "gw", OperatorUser: "root", Config: { PrivateNodeKey: "secret" } });
  expect(Buffer.from((await store.get("prefs.json"))!).toString()).not.toContain("secret");
  const second = await Preferences.load(store);
  expect(second.now.Hostname).toBe("gw");
  expect(second.operatorUid()).toBe(0);
  await second.set({ ...second.now, OperatorUser: "1234" });
  expect(second.operatorUid()).toBe(1234);
  await store.set("prefs.json", Buffer.from("{"));
  await expect(Preferences.load(store)).rejects.toThrow(/not JSON/);
});
