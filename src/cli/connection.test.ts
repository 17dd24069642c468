import { afterEach, beforeEach, expect, test } from "vitest";
import { gatewayStatus, idleGateway, type LocalSocket, openLocalSocket } from "../../test/suites/local-gateway.ts";
import { Screen } from "../../test/suites/typed-command.ts";
import type { LocalApiBackend } from "../gateway/localapi/index.ts";
import {
  applyMaskedPrefs,
  type BackendState,
  EMPTY_PREFS,
  type Notify,
  type Prefs,
  STATE_NUMBERS,
  type StartOptions,
} from "../wire/ipn.ts";
import { main } from "./main.ts";

let state: BackendState = "NeedsLogin";
let prefs: Prefs = EMPTY_PREFS;
let calls: unknown[] = [];
/** What `start` and `login-interactive` make happen. */
let onStart: (options: StartOptions) => void;
let onLogin: () => void;
let notify: (document: Notify) => void = () => undefined;
let socket: LocalSocket;

const become = (next: BackendState): void => {
  state = next;
  notify({ State: STATE_NUMBERS[next] });
};
const backend: LocalApiBackend = {
  ...idleGateway,
  status: async () =>
    gatewayStatus({
      BackendState: state,
      HaveNodeKey: state !== "NeedsLogin",
      AuthURL: state === "NeedsLogin" ? "http://control/a" : "",
      Self: { PublicKey: "nodekey:old" },
    }),
  prefs: () => prefs,
  editPrefs: async (change) => {
    prefs = applyMaskedPrefs(prefs, change);
    calls.push(["prefs", change]);
    return prefs;
  },
  start: async (options: StartOptions) => {
    calls.push(["start", options.AuthKey, options.UpdatePrefs?.Hostname]);
    onStart(options);
  },
  loginInteractive: async () => {
    calls.push("login");
    onLogin();
  },
  logout: async () => {
    calls.push("logout");
  },
  watch: (_mask, onNotify) => {
    notify = onNotify;
    onNotify({ State: STATE_NUMBERS[state] });
    return { session: "0123456789abcdef", close: () => undefined };
  },
};

beforeEach(async () => {
  calls = [];
  prefs = EMPTY_PREFS;
  state = "NeedsLogin";
  onStart = ({ AuthKey }) => {
    if (AuthKey !== undefined) setImmediate(() => become("Running"));
  };
  onLogin = () =>
    setImmediate(() => {
      notify({ BrowseToURL: "http://control/a/\u001b[2J1" });
      become("Running");
    });
  socket = await openLocalSocket(backend);
});
afterEach(() => socket.close());

async function type(...words: string[]): Promise<readonly [exit: number, stdout: string, stderr: string]> {
  const screen = new Screen({ env: { SALLYPORT_SOCKET: socket.path } });
  return [await main(words, screen.io), screen.stdout, screen.stderr];
}

test("up with a key logs in at once", async () => {
  expect(await type("up", "--auth-key=k", "--hostname", "box")).toEqual([0, "", ""]);
  expect(calls).toEqual([["start", "k", "box"]]);
});

test("CF-8 up without a key shows where to log in, safely", async () => {
  const [exit, , stderr] = await type("up");
  expect([exit, stderr]).toEqual([0, "\nTo authenticate, visit:\n\n\thttp://control/a/\\u{1b}[2J1\n\nSuccess.\n"]);
  expect(calls).toEqual([["start", undefined, ""], "login"]);
});

test("up when running changes only what was said", async () => {
  state = "Running";
  expect((await type("up", "--advertise-tags=tag:a,tag:b"))[0]).toBe(0);
  expect(prefs).toEqual({ ...EMPTY_PREFS, WantRunning: true, AdvertiseTags: ["tag:a", "tag:b"] });
  expect((await type("up", "--advertise-tags=a"))[0]).toBe(1);
});

test('up --force-reauth on a busy machine: the old key\'s "Running", and its maps, end nothing', async () => {
  state = "Running";
  const running = { State: STATE_NUMBERS.Running };
  onStart = () => {
    notify(running); // preferences were set: a map comes
    notify({ ...running, SelfChange: { Key: "nodekey:old" } });
  };
  onLogin = () => {
    notify(running);
    setImmediate(() => {
      notify({ State: STATE_NUMBERS.NeedsLogin });
      notify({ BrowseToURL: "http://control/a/2" });
      notify({ SelfChange: { Key: "nodekey:old" } });
      setImmediate(() => {
        notify(running);
        notify({ ...running, SelfChange: null });
        setImmediate(() => notify({ ...running, SelfChange: { Key: "nodekey:new" } }));
      });
    });
  };
  expect(await type("up", "--force-reauth")).toEqual([
    0,
    "",
    "\nTo authenticate, visit:\n\n\thttp://control/a/2\n\nSuccess.\n",
  ]);
});

test.each<[order: string, before: BackendState, notes: readonly Notify[]]>([
  ["key first", "Running", [{ SelfChange: { Key: "nodekey:new" } }, { State: STATE_NUMBERS.Running }]],
  ["state first", "Running", [{ State: STATE_NUMBERS.Running }, { SelfChange: { Key: "nodekey:new" } }]],
  ["no key before", "NeedsLogin", [{ State: STATE_NUMBERS.Running }]],
])("up --force-reauth with a key asks for a new one and nobody: %s", async (_order, before, notes) => {
  state = before;
  onStart = () => undefined;
  onLogin = () =>
    setImmediate(() => {
      for (const note of notes) notify(note);
    });
  expect(await type("up", "--force-reauth", "--auth-key=k")).toEqual([0, "", ""]);
  expect(calls).toEqual([["start", "k", ""], "login"]);
});

test("up --force-reauth that gets no new key is not done", async () => {
  state = "Running";
  onStart = () => notify({ State: STATE_NUMBERS.Running });
  onLogin = () => notify({ State: STATE_NUMBERS.Running, SelfChange: { Key: "nodekey:old" } });
  const [exit, , stderr] = await type("up", "--force-reauth", "--timeout=50ms");
  expect([exit, stderr]).toEqual([1, expect.stringMatching(/^timeout waiting/)]);
});

test("up gives up in time, and never shows a key", async () => {
  state = "Stopped";
  const [exit, , stderr] = await type("up", "--timeout=20ms");
  expect([exit, stderr]).toEqual([1, expect.stringMatching(/^timeout waiting/)]);
  expect((await type("up", "--timeout=tskey-auth-secret"))[2]).not.toContain("secret");
});

test("down stops it and says so when it was stopped already; logout forgets it", async () => {
  state = "Running";
  expect(await type("down")).toEqual([0, "", ""]);
  expect(prefs.WantRunning).toBe(false);
  state = "Stopped";
  expect(await type("down")).toEqual([0, "", "Sallyport was already stopped.\n"]);
  expect(await type("logout")).toEqual([0, "", ""]);
  expect(calls.at(-1)).toBe("logout");
});

test("what cannot work says why", async () => {
  expect(await type("status")).toEqual([1, "Logged out.\nLog in at: http://control/a\n", ""]);
  expect(await type("serve", "--bg", "3000")).toEqual([1, "", "Logged out.\nLog in at: http://control/a\n"]);
  expect((await type("status", "--json"))[0]).toBe(0);
  expect((await type("--socket=/nope", "status"))[2]).toMatch(/^failed to connect to the gateway at \/nope/);
  expect(await type("status", "--nope")).toEqual([
    2,
    "",
    expect.stringMatching(/^flag provided but not defined: -nope\n/),
  ]);
});
