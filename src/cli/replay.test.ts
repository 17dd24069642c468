import { existsSync, readFileSync } from "node:fs";
import { request } from "node:http";
import path from "node:path";
import { gunzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { idleGateway, openLocalSocket } from "../../test/suites/local-gateway.ts";
import { type Typed, typedAt } from "../../test/suites/typed-command.ts";
import { Fault } from "../base/fault.ts";
import { decodeServeConfig, serveConfigEtag } from "../config/serve-document.ts";
import type { LocalApiBackend } from "../gateway/localapi/index.ts";
import type { IpnStatus, PingResult, StoredServeConfig, WhoIsResponse } from "../wire/ipn.ts";

// What upstream's own command line and daemon said to each other (shared/corpora/stock): ours prints the same, and our
// interface answers the same requests the same way.

interface Exchange {
  readonly method: string;
  readonly path: string;
  readonly body: string;
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly responseHeaders: Readonly<Record<string, string>>;
  readonly response: string;
}
interface Step {
  readonly args: readonly string[];
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly interrupted?: boolean;
  readonly exchanges: readonly Exchange[];
}
interface Scenario {
  readonly id: string;
  readonly group: string;
  readonly steps: readonly Step[];
}

const file = path.resolve(import.meta.dirname, "../../../shared/corpora/stock/localapi.jsonl.gz");
const scenarios: readonly Scenario[] = existsSync(file)
  ? gunzipSync(readFileSync(file))
      .toString("utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Scenario)
  : [];

const COMMANDS = ["serve", "funnel", "status", "whois", "whoami", "ping", "ip", "nope"];
const isOurs = (step: Step): boolean => {
  const [command = "", verb = ""] = step.args;
  if (!COMMANDS.includes(command)) return false;
  if (["get-config", "set-config"].includes(verb)) return false;
  return !step.args.some((word) => /^--tun\b/.test(word));
};

/** Where ours does something else on purpose: what it is, in the step that shows it. */
const DIFFERENCES: Readonly<Record<string, string>> = {
  "gw-target-029": "port 0 is refused",
  "gw-target-043": "a password in a target is refused",
  "gw-target-045": "[::1] keeps its brackets",
  "gw-caps-126": "capabilities with a TCP target are an error",
  "gw-caps-127": "capabilities with a text target are an error",
};
/** Upstream prints ports, and mounts of equal length, in random order. */
const SHUFFLED: ReadonlySet<string> = new Set(["gw-status-180", "gw-caps-128"]);
/** What a system without the laboratory's resolver says of an unknown name. */
const normal = (text: string): string =>
  text
    .replaceAll("sallyport", "tailscale")
    .replace(/^\d{4}(?:\/\d\d){2} \d\d:\d\d:\d\d /gm, "") // upstream's logger writes it
    .replace(/lookup (\S+) on \S+:53:/, "lookup $1:");
const lines = (text: string): readonly string[] => text.split("\n").sort();

class Recorded {
  config: StoredServeConfig = null;
  status: IpnStatus | undefined;
  step: Step | undefined;
  readonly backend: LocalApiBackend = this.#make();
  #pings = 0;

  begin(step: Step): void {
    this.step = step;
    this.#pings = 0;
    const found = step.exchanges.find((one) => one.path.startsWith("/localapi/v0/status"));
    if (found !== undefined) this.status = JSON.parse(found.response) as IpnStatus;
  }

  #answer(prefix: string, at: number = 0): Exchange | undefined {
    return this.step?.exchanges.filter((one) => one.path.startsWith(`/localapi/v0/${prefix}`))[at];
  }

  #make(): LocalApiBackend {
    return {
      ...idleGateway,
      status: async ({ peers }) => {
        const answer = this.#answer(peers ? "status" : "status?peers=false");
        const status = answer === undefined ? this.status : (JSON.parse(answer.response) as IpnStatus);
        if (status === undefined) throw new Error("no status was recorded");
        return status;
      },
      serveConfig: () => ({ config: this.config, etag: serveConfigEtag(this.config) }),
      setServeConfig: async (config, ifMatch) => {
        if (ifMatch !== undefined && ifMatch !== serveConfigEtag(this.config)) {
          throw new Fault("GATEWAY_ETAG_MISMATCH", "another version");
        }
        this.config = config;
      },
      whois: async (address) => {
        const query = new URLSearchParams({ addr: address });
        const answer = this.#answer(`whois?proto=&${query}`);
        return answer?.status === 200 ? (JSON.parse(answer.response) as WhoIsResponse) : undefined;
      },
      ping: async () => {
        const answer = this.#answer("ping", this.#pings);
        this.#pings += 1;
        return JSON.parse(answer?.response ?? "") as PingResult;
      },
    };
  }
}

function type(socket: string, step: Step): Promise<Typed> {
  const stop = new AbortController();
  return typedAt(socket, step.args, {
    signal: stop.signal,
    onText: ({ stdout }) => {
      if (step.interrupted && stdout.includes("Ctrl+C")) setImmediate(() => stop.abort());
    },
  });
}

/** The configuration as the recording found it. */
function initialConfig(scenario: Scenario): StoredServeConfig {
  const first = scenario.steps.flatMap((step) => step.exchanges).find((one) => one.path.endsWith("/serve-config"));
  return first?.method === "GET" ? decodeServeConfig(first.response) : {};
}

const typed = scenarios.filter(
  (scenario) =>
    scenario.steps.some(isOurs) && scenario.steps.every((step) => isOurs(step) || step.args[1] === "get-config"),
);

describe.skipIf(scenarios.length === 0)("upstream's command lines, recorded (corpora/stock absent: skipped)", () => {
  for (const scenario of typed) {
    const difference = DIFFERENCES[scenario.id];
    test(`${scenario.id}${difference === undefined ? "" : ` (differs: ${difference})`}`, async () => {
      const recorded = new Recorded();
      recorded.config = initialConfig(scenario);
      await using socket = await openLocalSocket(recorded.backend);
      for (const step of scenario.steps.filter(isOurs)) {
        recorded.begin(step);
        const found = await type(socket.path, step);
        const words = step.args.join(" ");
        // The gateway hears of the end a moment later.
        if (step.interrupted) await expect.poll(() => recorded.config?.Foreground).toBeUndefined();
        if (difference !== undefined) {
          if (step.args.includes("status")) continue;
          const isSame = found.code === step.exit && normal(found.stdout) === step.stdout;
          expect(isSame, words).toBe(false);
          break;
        }
        expect(found.code, `${words}: ${found.stderr}`).toBe(step.exit);
        if (step.args.includes("--json") && step.stdout.startsWith("{")) {
          expect(JSON.parse(found.stdout), words).toEqual(JSON.parse(step.stdout));
        }
        if (SHUFFLED.has(scenario.id)) expect(lines(normal(found.stdout)), words).toEqual(lines(step.stdout));
        else expect(normal(found.stdout), words).toBe(step.stdout);
        // Usage is our own text; what comes before it is upstream's.
        const usage = step.stderr.search(/(?:^|\n)Serve content and local servers/);
        const wanted = usage < 0 ? step.stderr : step.stderr.slice(0, usage);
        if (usage < 0) expect(normal(found.stderr), words).toBe(normal(wanted));
        else expect(found.stderr.startsWith(wanted), `${words}: ${found.stderr}`).toBe(true);
      }
    });
  }
});

/** Requests whose answer the recording determines. */
const isAnswered = (one: Exchange): boolean =>
  /^\/localapi\/v0\/(?:status|serve-config|whois|ping|check-so-mark-in-use)(?:\?|$)/.test(one.path);

function ask(socketPath: string, one: Exchange): Promise<{ status: number; type: string; etag: string; body: string }> {
  return new Promise((resolve, reject) => {
    const headers = { ...one.headers, Host: "local-tailscaled.sock" };
    const call = request({ socketPath, method: one.method, path: one.path, headers }, (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (text: string) => {
        body += text;
      });
      response.on("end", () =>
        resolve({
          status: response.statusCode ?? 0,
          type: response.headers["content-type"] ?? "",
          etag: response.headers.etag ?? "",
          body,
        }),
      );
    });
    call.once("error", reject);
    call.end(one.body);
  });
}

describe.skipIf(scenarios.length === 0)("upstream's requests, recorded", () => {
  for (const scenario of scenarios) {
    const count = scenario.steps.flatMap((step) => step.exchanges).filter(isAnswered).length;
    if (count === 0) continue;
    test(`${scenario.id}: ${count} requests`, async () => {
      const recorded = new Recorded();
      await using socket = await openLocalSocket(recorded.backend);
      for (const step of scenario.steps) {
        recorded.begin(step);
        for (const one of step.exchanges.filter(isAnswered)) {
          const isConfig = one.path.endsWith("/serve-config");
          if (isConfig && one.method === "GET") recorded.config = decodeServeConfig(one.response);
          const found = await ask(socket.path, one);
          const where = `${step.args.join(" ")}: ${one.method} ${one.path} ${one.body}`;
          expect(found.status, `${where}: ${found.body}`).toBe(one.status);
          expect(found.type, where).toBe(one.responseHeaders["Content-Type"] ?? "");
          if (isConfig) {
            expect(found.body, where).toBe(one.response);
            if (one.responseHeaders["Etag"] !== undefined) expect(found.etag, where).toBe(one.responseHeaders["Etag"]);
          } else if (found.type === "application/json")
            expect(JSON.parse(found.body), where).toEqual(JSON.parse(one.response));
          else expect(found.body, where).toBe(one.response);
        }
      }
    });
  }
});
