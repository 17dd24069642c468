import path from "node:path";
import { parseArgs } from "node:util";
import { formatAddress, parseAddress } from "../base/address.ts";
import { directoryStore } from "../base/directory-store.ts";
import { Fault, messageOf } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import { memoryStore } from "../base/store.ts";
import { INGRESS_LIMITS, type IngressLimits } from "../funnel/options.ts";
import type { Relay, RelayListener, RelayOptions } from "../server/relay.ts";
import { isInRanges, parsePortRanges } from "../wire/claims.ts";
import { readAuthKey } from "./auth-key.ts";
import { exitOnCrash } from "./crash.ts";
import type { CliIo } from "./io.ts";
import { loginWords } from "./login-words.ts";
import { portFlag } from "./port-flag.ts";
import { programLog } from "./program-log.ts";

const USAGE = `sallyport ingress: Funnel's public end, a node that brings visitors to the nodes they ask for

  --login-server URL    the coordination server
  --auth-key file:PATH  a key to join with; also $TS_AUTHKEY, or "-" for standard input
  --hostname NAME       the node's name            (default: ingress)
  --state DIR           keys; "mem:" keeps nothing
  --address IP          where visitors come in     (default: every address of this machine)
  --public-address IP,IP  where the world reaches it, if it is behind a translator that maps them  (default: as it finds out)
  --ports A,B           for TLS                    (default: 443,8443,10000)
  --http-port PORT      sends plain HTTP on to HTTPS, for public names alone; 0: not at all  (default: 80)
  --lease-ports A,B-C   raw ports that nodes may lease, as far as the policy lets them  (default: none)
  --visitor-rate N      connections a second of one visitor  (default: 1000)
  --name-rate N         connections a second of one name     (default: 5000)
  --visitor-connections N  at a time, of one visitor           (default: 1024)
  --visitor-hellos N    TLS hellos of one visitor that are not whole yet; the oldest makes room  (default: 64)
  --trust-hostinfo      nodes are public by their own word: for Headscale, which has none (docs/funnel.md)
  --port PORT           UDP port of the tunnel     (default: any)
  --udp ffi|dgram       how UDP is spoken          (default: the fastest that works here)
  --drain SECONDS       what visitors who are here may still take after a termination signal  (default: 30)
  --socket PATH         health and metrics, for \`sallyport --socket PATH health\`  (default: ingress.sock below --state)
  --log LEVEL           debug, info, warn or error (default: info)

The server's policy makes the node an ingress: "nodeAttrs": [{"target": ["tag:ingress"], "attr": ["sallyport.dev/ingress"]}]
`;

/** `sallyport ingress`: a relay in the foreground, until it is told to end. */
export async function ingress(args: readonly string[], io: CliIo): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      ...{ "login-server": { type: "string" }, "auth-key": { type: "string" }, hostname: { type: "string" } },
      ...{ state: { type: "string" }, address: { type: "string" }, ports: { type: "string" } },
      "public-address": { type: "string" },
      ...{
        "http-port": { type: "string" },
        port: { type: "string" },
        udp: { type: "string" },
        log: { type: "string" },
      },
      "trust-hostinfo": { type: "boolean" },
      "lease-ports": { type: "string" },
      ...{ "visitor-rate": { type: "string" }, "name-rate": { type: "string" } },
      ...{ "visitor-connections": { type: "string" }, "visitor-hellos": { type: "string" } },
      ...{ drain: { type: "string" }, socket: { type: "string" } },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    io.stdout(USAGE);
    return 0;
  }
  const { "login-server": controlUrl, udp } = values;
  if (controlUrl === undefined) {
    throw new Fault("CLI_USAGE", "Cannot relay without a coordination server: wanted --login-server URL", {
      hint: "For example --login-server https://mesh.example.com",
    });
  }
  if (udp !== undefined && udp !== "ffi" && udp !== "dgram") {
    throw new Fault("CLI_USAGE", `Cannot speak UDP by "${udp}": wanted ffi or dgram`);
  }
  const drainMs = drainMsOf(values.drain);
  const log = programLog(values.log);
  exitOnCrash(log);
  const state = values.state ?? path.join(io.env["HOME"] ?? ".", ".local", "state", "sallyport-ingress");
  const store = state === "mem:" ? memoryStore() : await directoryStore(state, log);
  const authKey = await readAuthKey(values["auth-key"], io);
  const { Relay } = await import("../server/relay.ts");
  const { openRelayStatus } = await import("../server/relay-status.ts");
  await using stack = new AsyncDisposableStack();
  const ports = values.ports ?? "443,8443,10000";
  const listeners = listenersOf(values.address ?? "", ports, values["http-port"] ?? "80");
  const relay = await Relay.open({
    controlUrl,
    store,
    log,
    hostname: values.hostname ?? "ingress",
    port: portFlag("port", values.port, 0),
    listeners,
    ...leasesOf(values["lease-ports"], values.address ?? "", listeners),
    ...publicAddressesOf(values["public-address"]),
    limits: limitsOf(values),
    remedy: "Start `sallyport ingress` anew with an --auth-key that is good.",
    ...(values["trust-hostinfo"] === true ? { hostinfoPorts: ports.split(",").map(Number) } : {}),
    ...(udp === undefined ? {} : { udp }),
    ...(authKey === undefined ? {} : { authKey }),
    ...loginWords(io),
  });
  stack.defer(() => relay.close());
  const socketPath = values.socket ?? (state === "mem:" ? undefined : path.join(state, "ingress.sock"));
  if (socketPath !== undefined) {
    const opened = openRelayStatus(relay, socketPath);
    const status = await opened.catch((thrown: unknown) => {
      const found = `Cannot listen on "${socketPath}": ${messageOf(thrown)}`;
      if (values.socket !== undefined) throw new Fault("INGRESS_LISTEN", found, { cause: thrown });
      log.warn("ingress.no_status", { error: found }); // nobody asked for it, and visitors need none
    });
    if (status !== undefined) stack.defer(() => status.close());
  }
  log.info("ingress.started", { controlUrl, ports: relay.ports, socketPath });
  if (!io.signal.aborted) {
    await new Promise<void>((resolve) => io.signal.addEventListener("abort", () => resolve(), { once: true }));
  }
  await drain(relay, drainMs, log);
  return 0;
}

/** After a termination signal; a second one ends the process at once. */
export async function drain(relay: Relay, limitMs: number, log: Log): Promise<void> {
  log.info("ingress.draining", { visitors: relay.ingress.open, limitMs });
  await relay.drain(limitMs);
}

/** @throws {Fault} CLI_USAGE */
export function listenersOf(address: string, ports: string, plain: string): readonly RelayListener[] {
  if (address !== "" && parseAddress(address) === undefined) {
    throw new Fault("CLI_USAGE", `Cannot take visitors at "${address}": wanted an IP address`);
  }
  const secure = ports.split(",").map((text) => ({ address, port: portOf(text) }));
  return plain === "0" ? secure : [...secure, { address, port: portOf(plain), isPlain: true }];
}

/** In their one form. @throws {Fault} CLI_USAGE */
export function publicAddressesOf(given: string | undefined): Pick<RelayOptions, "publicAddresses"> {
  if (given === undefined) return {};
  const publicAddresses = given.split(",").map((text) => {
    const address = parseAddress(text);
    if (address === undefined) throw new Fault("CLI_USAGE", `Cannot be reached at "${text}": wanted IP addresses`);
    return formatAddress(address);
  });
  return { publicAddresses };
}

/** @throws {Fault} CLI_USAGE */
export function leasesOf(
  given: string | undefined,
  address: string,
  listeners: readonly RelayListener[],
): Pick<RelayOptions, "leases"> {
  if (given === undefined) return {};
  const ranges = parsePortRanges(given);
  if (ranges === undefined) {
    throw new Fault("CLI_USAGE", `Cannot lease ports "${given}": wanted ports and ranges, such as 2222,7000-7010`);
  }
  const taken = listeners.find(({ port }) => isInRanges(ranges, port));
  if (taken === undefined) return { leases: { ranges, address } };
  throw new Fault("CLI_USAGE", `Cannot lease port ${taken.port}: the ingress listens on it for all names`);
}

export type LimitFlag = "visitor-rate" | "name-rate" | "visitor-connections" | "visitor-hellos";

/** What each says, and the most that it may. */
const LIMITS: Readonly<Record<LimitFlag, readonly [limit: keyof IngressLimits, most: number]>> = {
  "visitor-rate": ["visitorConnectionsPerSecond", 1_000_000],
  "name-rate": ["nameConnectionsPerSecond", 1_000_000],
  "visitor-connections": ["visitorOpen", INGRESS_LIMITS.open],
  "visitor-hellos": ["visitorPending", INGRESS_LIMITS.pending],
};
export const LIMIT_FLAGS: readonly LimitFlag[] = Object.keys(LIMITS) as LimitFlag[];

/** A network behind one address counts as one visitor. @throws {Fault} CLI_USAGE */
export function limitsOf(values: { readonly [K in LimitFlag]?: string | undefined }): Partial<IngressLimits> {
  const said = LIMIT_FLAGS.flatMap((flag) => {
    const text = values[flag];
    const [limit, most] = LIMITS[flag];
    if (text === undefined) return [];
    if (/^[1-9]\d{0,8}$/.test(text) && Number(text) <= most) return [[limit, Number(text)] as const];
    throw new Fault("CLI_USAGE", `Cannot use --${flag} "${text}": wanted a whole number, 1 to ${most}`);
  });
  return Object.fromEntries(said);
}

/** @throws {Fault} CLI_USAGE */
export function drainMsOf(text: string = "30"): number {
  if (/^\d{1,6}$/.test(text)) return 1000 * Number(text);
  throw new Fault("CLI_USAGE", `Cannot drain for "${text}" seconds: wanted a whole number`);
}

function portOf(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port > 0 && port <= 65_535) return port;
  throw new Fault("CLI_USAGE", `Cannot take visitors on port "${text}": wanted 1 to 65535`);
}
