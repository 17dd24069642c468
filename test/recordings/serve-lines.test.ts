import { readFileSync } from "node:fs";
import path from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Fault } from "../../src/base/fault.ts";
import { serveConfigEtag } from "../../src/config/serve-document.ts";
import type { LocalApiBackend } from "../../src/gateway/localapi/index.ts";
import { applyMaskedPrefs, EMPTY_PREFS, type Prefs, type StoredServeConfig } from "../../src/wire/ipn.ts";
import type { ServeConfig } from "../../src/wire/serve-config.ts";
import { peersOrSkip } from "../peers.ts";
import { gatewayStatus, idleGateway, type LocalSocket, openLocalSocket } from "../suites/local-gateway.ts";
import { SERVE_STORIES, wordsOf } from "../suites/serve-lines.ts";
import { FOREGROUND, plain, type Said, stockSays, type Told } from "../suites/stock-words.ts";
import { typedAt } from "../suites/typed-command.ts";

// What upstream's command line said at upstream's daemon: ours says the same, and theirs does at our gateway's socket.

const file = path.join(import.meta.dirname, "serve-lines-1.103.0.jsonl.gz");
const recorded = gunzipSync(readFileSync(file))
  .toString("utf8")
  .split("\n")
  .map((line) => JSON.parse(line) as Told);

/** Where ours does something else on purpose: the lines so far, what the last of them says then, and why (docs/cli.md). */
const DIFFERENT: readonly (readonly [lines: RegExp, exit: number, says: RegExp, why: string])[] = [
  [/^serve --bg(?: --t\S+)? 0$/, 1, /invalid port "0"/, "nothing listens on port 0"],
  [/:pw?@\S+$/, 1, /target with a password/, "every reader of the configuration would see it"],
  [/accept-app-caps=a\.com\/x (?:text|--tcp|\/etc)/, 1, /--accept-app-caps needs a web/, "it would read as protection"],
  [/^funnel .*9999/, 1, /port 9999 cannot be funnelled; allowed are 443,8443,10000/, "no relay listens there"],
  [/ --tun(?!=false)/, 1, /--tun needs a kernel interface/, "there is none"],
  [/ [gs]et-config/, 1, /there is no [gs]et-config here/, "the services file is the declaration"],
  [/--http=443 off$/, 1, /handler does not exist/, "only what was named is removed"],
  [/funnel reset; serve status --json$/, 0, /"443"/, "it takes away only what funnel gave"],
  [/serve --tcp=8443 off; serve status --json$/, 0, /^\{\}$/m, "off for TCP takes back the permission"],
  [/tls-terminated-tcp=10000 off; serve status$/, 0, /No serve config/, "off for TCP takes back the permission"],
];

/** Upstream's text as ours would say it, or both as one. */
function likened(text: string): string {
  return text
    .replaceAll("sallyport", "tailscale")
    .replace(
      /(?:^|(?<=\n))(?:Serve content and local servers|(?:View current|Reset current|Expose|Drain|Remove|Advertise)[^\n]*\n\nUSAGE)[\s\S]*$/,
      "USAGE",
    )
    .replace(/(?:^|(?<=\n))(?:The easiest, most secure way|A gate for a private mesh)[\s\S]*$/, "USAGE")
    .replace(/^Warning: Anyone on the internet may use .*\n/gm, "") // FN-10: a script is warned
    .replace(/^# From outside:\n(?:# .*\n)+\n/m, "") // FN-9: what was last seen
    .replace(/^Removing Funnel for (\S+):\1:/m, "Removing Funnel for $1:") // upstream says the name twice
    .replace(/(\/\/)((?:2001:db8)?::1)(:\d+)?$/gm, (_, slashes, host, port = "") => `${slashes}[${host}]${port}`)
    .replaceAll("tcp://unix:", "unix:")
    .replaceAll("a\nb", "a\\u{a}b");
}

/** Upstream loses the brackets of an IPv6 address. */
const bracketed = (config: unknown): unknown =>
  JSON.parse(
    JSON.stringify(config).replace(
      /"(http:\/\/)?((?:2001:db8)?::1)(:\d+)?"/g,
      (_, scheme = "", host, port = "") => `"${scheme}[${host}]${port}"`,
    ),
  );

const seen = new Set<unknown>();
let config: StoredServeConfig = null;
let prefs: Prefs = EMPTY_PREFS;
let sessions = 0;
const ports = "https://tailscale.com/cap/funnel-ports?ports=443,8443,10000";
const Self = { DNSName: "box.tail.test.", Tags: ["tag:web"], CapMap: { funnel: null, https: null, [ports]: null } };
const CurrentTailnet = { Name: "tail.test", MagicDNSSuffix: "tail.test", MagicDNSEnabled: true };
const backend: LocalApiBackend = {
  ...idleGateway,
  status: async () =>
    gatewayStatus({
      Self,
      TailscaleIPs: ["100.64.0.1", "fd7a:115c:a1e0::1"],
      MagicDNSSuffix: "tail.test",
      CurrentTailnet,
    }),
  serveConfig: () => ({ config, etag: serveConfigEtag(config) }),
  setServeConfig: async (next, ifMatch) => {
    if (ifMatch !== undefined && ifMatch !== serveConfigEtag(config)) throw new Fault("GATEWAY_ETAG_MISMATCH", "other");
    config = next;
  },
  prefs: () => prefs,
  editPrefs: async (change) => {
    prefs = applyMaskedPrefs(prefs, change);
    return prefs;
  },
  watch: (_mask, onNotify) => {
    onNotify({ State: 6 });
    sessions += 1;
    return { session: sessions.toString(16).padStart(16, "0"), close: () => undefined };
  },
};

let socket: LocalSocket;
beforeAll(async () => {
  socket = await openLocalSocket(backend);
});
afterAll(() => socket.close());

async function oursSays(line: string): Promise<Said> {
  const stop = new AbortController();
  const { code, stdout, stderr } = await typedAt(socket.path, wordsOf(line.replace(FOREGROUND, "")), {
    signal: stop.signal,
    onText: (screen) => {
      if (screen.stdout.includes("Press Ctrl+C")) setImmediate(() => stop.abort());
    },
  });
  return { exit: code, stdout, stderr };
}

/** Types a story; the gateway hears of the end of a foreground command a moment later. */
async function tell(told: Told, says: (line: string) => Promise<Said>): Promise<Said[]> {
  config = {};
  prefs = EMPTY_PREFS;
  const said: Said[] = [];
  for (const line of told.story) {
    said.push(plain(await says(line)));
    await expect.poll(() => config?.Foreground).toBeUndefined();
  }
  return said;
}

test("every story was recorded", () => {
  expect(recorded.map(({ story }) => story)).toEqual(SERVE_STORIES);
});

describe("ours says what upstream's says", () => {
  test.each(recorded.map((told) => [told.story.join("; "), told] as const))("%s", async (_, told) => {
    const said = await tell(told, oursSays);
    for (const [at, line] of told.story.entries()) {
      const [found, wanted] = [said[at]!, told.said[at]!];
      const different = DIFFERENT.find(([lines]) => lines.test(told.story.slice(0, at + 1).join("; ")));
      const isSame =
        found.exit === wanted.exit &&
        likened(found.stdout) === likened(wanted.stdout) &&
        likened(found.stderr) === likened(wanted.stderr);
      if (different !== undefined && !isSame) {
        const [, exit, says] = different;
        seen.add(different);
        expect(found.exit, line).toBe(exit);
        expect(found.stdout + found.stderr, line).toMatch(says);
        return;
      }
      expect(found.exit, `${line}: ${found.stderr}`).toBe(wanted.exit);
      expect(likened(found.stdout), line).toBe(likened(wanted.stdout));
      expect(likened(found.stderr), line).toBe(likened(wanted.stderr));
    }
    expect(config).toEqual(bracketed(told.config));
    // Upstream offers a service whose configuration is refused, or empty; ours what it has.
    const { Services = {} } = config as ServeConfig;
    expect([told.advertised, Object.keys(Services)]).toContainEqual(prefs.AdvertiseServices ?? []);
  });

  test("and every difference that is told of is there", () => {
    expect(DIFFERENT.filter((one) => !seen.has(one))).toEqual([]);
  });
});

const peers = peersOrSkip("tailscale");
/** `SALLYPORT_LINES=all`: every story; else some of them, for each line is a process. */
const typed = recorded.filter((_, at) => process.env["SALLYPORT_LINES"] === "all" || at % 12 === 0);

describe.skipIf(peers.missing !== undefined)(
  `upstream's says at our socket what it says at upstream's${peers.missing ? ` (${peers.missing})` : ""}`,
  () => {
    test.each(typed.map((told) => [told.story.join("; "), told] as const))("%s", async (_, told) => {
      expect(await tell(told, (line) => stockSays(socket.path, line))).toEqual(told.said);
      expect(config).toEqual(told.config);
      expect(prefs.AdvertiseServices ?? []).toEqual(told.advertised);
    });
  },
);
