import { isIP } from "node:net";
import { Fault, messageOf } from "../../base/fault.ts";
import { decodeServeConfig, encodeServeConfig, goJson } from "../../config/serve-document.ts";
import { opensLocalFiles, refusalOfServeChange } from "../../config/serve-rules.ts";
import type { Prefs } from "../../wire/ipn.ts";
import { isWhoIsAddress, type Permission } from "./admission.ts";
import type { LocalApiBackend } from "./backend.ts";
import type { Watchers } from "./watchers.ts";

export interface Call {
  readonly method: string;
  readonly query: URLSearchParams;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
  readonly signal: AbortSignal;
  readonly permission: Permission;
}

export interface Answer {
  readonly status: number;
  readonly body: string;
  readonly type?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export type Route = (call: Call) => Promise<Answer> | Answer;

const JSON_TYPE = "application/json";
const METRICS_TYPE = "text/plain;version=0.0.4;charset=utf-8";

/** A refusal in words, as Go's `http.Error` writes it. */
export function refuse(status: number, text: string): Answer {
  return {
    status,
    body: `${text}\n`,
    type: "text/plain; charset=utf-8",
    headers: { "X-Content-Type-Options": "nosniff" },
  };
}

export const json = (value: unknown, status: number = 200): Answer => ({
  status,
  body: `${goJson(value)}\n`,
  type: JSON_TYPE,
});
export const tabbed = (value: unknown): Answer => ({ status: 200, body: goJson(value, "\t"), type: JSON_TYPE });
const nothing = (status: number): Answer => ({ status, body: "" });

function parseJson(text: string): unknown {
  try {
    return text === "" ? undefined : JSON.parse(text);
  } catch (cause) {
    throw new Fault("LOCALAPI_JSON", messageOf(cause), { cause });
  }
}

function objectOf(text: string): Readonly<Record<string, unknown>> {
  const value = parseJson(text) ?? {};
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Fault("LOCALAPI_JSON", "Cannot read the body: found another kind of value, wanted an object");
  }
  return value as Readonly<Record<string, unknown>>;
}

/** Runs a handler only for the method that it is made for. */
export function only(method: string, handler: Route): Route {
  return (call) => (call.method === method ? handler(call) : refuse(405, `want ${method}`));
}

/** Everything that answers with one document. `watch-ipn-bus` is the server's own: it never ends. */
export function createRoutes(backend: LocalApiBackend, watchers: Watchers): ReadonlyMap<string, Route> {
  const routes = new Map<string, Route>([
    [
      "status",
      only("GET", async (call) => tabbed(await backend.status({ peers: call.query.get("peers") !== "false" }))),
    ],
    ["serve-config", (call) => serveConfig(call, backend, watchers)],
    ["whois", only("GET", (call) => whois(call, backend))],
    ["ping", only("POST", (call) => ping(call, backend))],
    ["prefs", (call) => prefs(call, backend)],
    ["check-prefs", only("POST", (call) => checkPrefs(call, backend))],
    [
      "start",
      only("POST", async (call) => {
        try {
          await backend.start(objectOf(call.body));
          return nothing(204);
        } catch (thrown) {
          return json({ error: messageOf(thrown) }, 500);
        }
      }),
    ],
    [
      "login-interactive",
      only("POST", async () => {
        await backend.loginInteractive();
        return nothing(204);
      }),
    ],
    [
      "logout",
      only("POST", async () => {
        await backend.logout();
        return nothing(204);
      }),
    ],
    [
      "query-feature",
      only("POST", async (call) => {
        const feature = call.query.get("feature") ?? "";
        return feature === "" ? refuse(400, "missing feature") : json(await backend.queryFeature(feature));
      }),
    ],
    // Upstream asks this before it accepts a remote target: can the backend be reached outside the mesh? It always can here.
    ["check-so-mark-in-use", only("GET", () => json({ UseSOMark: true }))],
    ["check-ip-forwarding", only("GET", () => json({ Warning: "" }))],
    ["check-udp-gro-forwarding", only("GET", () => json({ Warning: "" }))],
    ["upload-client-metrics", only("POST", () => json({}))],
    ["file-targets", only("GET", () => json([]))],
    ["services", only("GET", () => json(backend.services?.() ?? {}))],
    ["policy/Device", only("GET", () => tabbed({ Summary: { Scope: "Device" } }))],
  ]);
  const { metrics, derpMap, idToken } = backend;
  if (metrics !== undefined) {
    routes.set(
      "usermetrics",
      only("GET", async () => ({ status: 200, body: await metrics.call(backend), type: METRICS_TYPE })),
    );
  }
  if (derpMap !== undefined)
    routes.set(
      "derpmap",
      only("GET", () => tabbed(derpMap.call(backend))),
    );
  if (idToken !== undefined) {
    routes.set(
      "id-token",
      only("POST", async (call) => {
        const audience = (call.query.get("aud") ?? "").trim();
        return audience === ""
          ? refuse(400, "no audience requested")
          : json({ id_token: await idToken.call(backend, audience) });
      }),
    );
  }
  return routes;
}

/** What monitoring systems and backends ask for; not upstream's, so outside of `/localapi/v0/`. By whole path. */
export function createOwnRoutes(backend: LocalApiBackend): ReadonlyMap<string, Route> {
  const { health, metrics, jwks, authority, netcheck, bugReport } = backend;
  const routes = new Map<string, Route>();
  const text = (body: string, type: string): Answer => ({ status: 200, body, type });
  const add = (path: string, answer: (() => Promise<Answer> | Answer) | undefined): void => {
    if (answer !== undefined) routes.set(path, only("GET", answer));
  };
  add(
    "/healthz",
    health &&
      (() => {
        const { isHealthy, problems } = health.call(backend);
        return json({ status: isHealthy ? "ok" : "failing", problems }, isHealthy ? 200 : 503);
      }),
  );
  add("/netcheck.json", netcheck && (() => json(netcheck.call(backend))));
  add("/bugreport.json", bugReport && (() => json(bugReport.call(backend))));
  add("/metrics", metrics && (async () => text(await metrics.call(backend), METRICS_TYPE)));
  add("/jwks.json", jwks && (async () => json(await jwks.call(backend))));
  add("/ca.pem", authority && (async () => text(await authority.call(backend), "application/x-pem-file")));
  return routes;
}

/** Word for word upstream's: its own command line shows it. */
const NOT_LOCAL_ADMIN =
  "must be root, or be an operator and able to run 'sudo tailscale' to serve a path or Unix socket";

async function serveConfig(call: Call, backend: LocalApiBackend, watchers: Watchers): Promise<Answer> {
  if (call.method === "GET") {
    const { config, etag } = backend.serveConfig();
    return { status: 200, body: encodeServeConfig(config), type: JSON_TYPE, headers: { Etag: etag } };
  }
  if (call.method !== "POST") return refuse(405, "method not allowed");
  let incoming: ReturnType<typeof decodeServeConfig>;
  try {
    incoming = decodeServeConfig(call.body);
  } catch (thrown) {
    return json({ error: `decoding config: ${messageOf(thrown)}` }, 500);
  }
  const given = call.headers["if-match"];
  const ifMatch = typeof given === "string" && given !== "" ? given : undefined;
  const { config: before, etag } = backend.serveConfig();
  if (ifMatch !== undefined && ifMatch !== etag) return refuse(412, "etag mismatch");
  if (!call.permission.localAdmin && opensLocalFiles(incoming)) return refuse(401, NOT_LOCAL_ADMIN);
  const refusal = refusalOfServeChange(before, incoming);
  if (refusal !== undefined) return json({ error: `updating config: ${refusal}` }, 500);
  try {
    await backend.setServeConfig(incoming, ifMatch);
  } catch (thrown) {
    if (thrown instanceof Fault && thrown.code === "GATEWAY_ETAG_MISMATCH") return refuse(412, "etag mismatch");
    return json({ error: `updating config: ${messageOf(thrown)}` }, 500);
  }
  watchers.settle(before, incoming);
  return nothing(200);
}

async function whois(call: Call, backend: LocalApiBackend): Promise<Answer> {
  const address = call.query.get("addr") ?? "";
  if (address === "") return refuse(400, "missing 'addr' parameter");
  if (!isWhoIsAddress(address, (text) => isIP(text) !== 0)) return refuse(400, "invalid 'addr' parameter");
  const proto = call.query.get("proto") ?? "";
  const found = await backend.whois(address, proto === "" ? undefined : proto);
  if (found !== undefined) return tabbed(found);
  return refuse(404, "no match for IP:port");
}

async function ping(call: Call, backend: LocalApiBackend): Promise<Answer> {
  const ip = call.query.get("ip") ?? "";
  if (ip === "") return refuse(400, "missing 'ip' parameter");
  if (isIP(ip) === 0) return refuse(400, "invalid IP");
  const type = call.query.get("type") ?? "";
  if (type === "") return refuse(400, "missing 'type' parameter");
  const size = call.query.get("size") ?? "";
  if (!/^\d{0,6}$/.test(size)) return refuse(400, "invalid 'size' parameter");
  if (Number(size) !== 0 && type !== "disco") return refuse(400, "'size' parameter is only supported with disco pings");
  if (Number(size) > 1_500 * 6) return refuse(400, "maximum value for 'size' is 9000");
  try {
    return json(await backend.ping(ip, type, Number(size), call.signal));
  } catch (thrown) {
    return json({ error: messageOf(thrown) }, 500);
  }
}

async function prefs(call: Call, backend: LocalApiBackend): Promise<Answer> {
  if (call.method === "GET") return tabbed(withoutKeys(backend.prefs()));
  if (call.method !== "PATCH") return refuse(405, "unsupported method");
  try {
    return tabbed(withoutKeys(await backend.editPrefs(objectOf(call.body))));
  } catch (thrown) {
    return json({ Error: messageOf(thrown) }, 400);
  }
}

const ZERO_KEY = "0".repeat(64);

/** Nothing that reads preferences sees a private key (upstream zeroes them for LocalAPI readers). */
function withoutKeys(given: Prefs): Prefs {
  const config = given["Config"];
  if (typeof config !== "object" || config === null) return given;
  return {
    ...given,
    Config: {
      ...config,
      PrivateNodeKey: `privkey:${ZERO_KEY}`,
      OldPrivateNodeKey: `privkey:${ZERO_KEY}`,
      NetworkLockKey: `nlpriv:${ZERO_KEY}${ZERO_KEY}`,
    },
  };
}

async function checkPrefs(call: Call, backend: LocalApiBackend): Promise<Answer> {
  try {
    const refusal = await backend.checkPrefs?.(objectOf(call.body) as Prefs);
    return json(refusal === undefined ? {} : { Error: refusal });
  } catch (thrown) {
    return refuse(400, `invalid JSON body: ${messageOf(thrown)}`);
  }
}
