import path from "node:path";
import { parseArgs } from "node:util";
import { directoryStore } from "../base/directory-store.ts";
import { Fault, messageOf } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import { memoryStore } from "../base/store.ts";
import { authorityOf, type CertificatesConfig, pathsOfKeys } from "../config/certificates.ts";
import { filesOfDoors } from "../config/doors.ts";
import {
  advertisedServices,
  mountRules,
  nodeServeConfig,
  type Place,
  visitorRules,
} from "../config/node-serve-config.ts";
import { readServices, type ServicesConfig } from "../config/services.ts";
import { GatewayAdmin } from "../gateway/admin.ts";
import { openDoors } from "../gateway/doors/doors.ts";
import { Gateway } from "../gateway/gateway.ts";
import { openLocalApi } from "../gateway/localapi/index.ts";
import type { Door } from "../proxy/doors/door.ts";
import { readAuthKey } from "./auth-key.ts";
import { exitOnCrash } from "./crash.ts";
import type { CliIo } from "./io.ts";
import { loginWords } from "./login-words.ts";
import { portFlag } from "./port-flag.ts";
import { programLog } from "./program-log.ts";
import { defaultSocketPath } from "./socket-path.ts";

/** What requests under way may take after a termination signal; a second signal ends at once. */
const DRAIN_MS = 30_000;

const USAGE = `sallyport run: a gateway that joins a mesh and serves

  --login-server URL    the coordination server
  --auth-key file:PATH  a key to join with; also $TS_AUTHKEY, or "-" for standard input
  --hostname NAME       the node's name            (default: this machine's)
  --state DIR           keys and configuration; "mem:" keeps nothing
  --socket PATH         where the other commands reach this gateway  (default: where they look)
  --config FILE         services.hujson: what to serve; read again on SIGHUP
  --cert-authority CA   letsencrypt, letsencrypt-staging, another CA's directory, or internal (a CA of its own)
  --cert-authority-bundle FILE
                        PEM of what may sign that directory's own TLS certificate
  --port PORT           UDP port of the tunnel      (default: any)
  --trust-ingress A,B   tags and node keys that may deliver Funnel visitors, where the server cannot say so (Headscale)
  --udp ffi|dgram       how UDP is spoken           (default: the fastest that works here)
  --inspect             keep the last requests and print an address where they can be looked at (docs/inspector.md)
  --log LEVEL           debug, info, warn or error  (default: info)
`;

/** `sallyport run`: a gateway in the foreground, until it is told to end. */
export async function run(args: readonly string[], io: CliIo): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      "login-server": { type: "string" },
      "auth-key": { type: "string" },
      hostname: { type: "string" },
      state: { type: "string" },
      socket: { type: "string" },
      config: { type: "string" },
      "cert-authority": { type: "string" },
      "cert-authority-bundle": { type: "string" },
      port: { type: "string" },
      "trust-ingress": { type: "string" },
      udp: { type: "string" },
      inspect: { type: "boolean" },
      log: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    io.stdout(USAGE);
    return 0;
  }
  const controlUrl = values["login-server"];
  if (controlUrl === undefined) {
    throw new Fault("CLI_USAGE", "Cannot run without a coordination server: wanted --login-server URL", {
      hint: "For example --login-server https://mesh.example.com",
    });
  }
  const { udp } = values;
  if (udp !== undefined && udp !== "ffi" && udp !== "dgram") {
    throw new Fault("CLI_USAGE", `Cannot speak UDP by "${udp}": wanted ffi or dgram`);
  }
  const log = programLog(values.log);
  exitOnCrash(log);
  const state = values.state ?? path.join(io.env["HOME"] ?? ".", ".local", "state", "sallyport");
  const store = state === "mem:" ? memoryStore() : await directoryStore(state, log);
  const authKey = await readAuthKey(values["auth-key"], io);
  const authority = authorityOf(values["cert-authority"], values["cert-authority-bundle"]);
  const settingsOf: SettingsOf = (file) => (authority === undefined ? file : { ...file, authority });
  // A bad file is told before anything is joined.
  const declared = values.config === undefined ? undefined : await readServices(values.config);
  const certificates = settingsOf(declared?.certificates ?? {});
  const doorsOf: DoorsOf = ({ doors }) =>
    openDoors(doors, io.env, (secret) => log.warn("doors.secret_readable", { file: secret, wanted: "mode 0600" }));
  await using stack = new AsyncDisposableStack();
  const socketPath = values.socket ?? defaultSocketPath(io.env);
  const keyFile = values["auth-key"]?.startsWith("file:") === true ? [values["auth-key"].slice("file:".length)] : [];
  const gateway = await Gateway.open({
    controlUrl,
    store,
    log,
    port: portFlag("port", values.port, 0),
    ...(udp === undefined ? {} : { udp }),
    trustedIngresses: trustedIngresses(values["trust-ingress"]),
    protectedPaths: [
      socketPath,
      ...(state === "mem:" ? [] : [state]),
      ...(values.config === undefined ? [] : [values.config]),
      ...keyFile,
      ...(declared === undefined ? [] : secretsOf(declared, settingsOf)),
    ],
    ...(declared === undefined
      ? {}
      : {
          doors: await doorsOf(declared),
          rulesOf: (place: Place) => mountRules(declared, place),
          visitorRulesOf: ({ port }: { readonly port: number }) => visitorRules(declared, port),
          limits: declared.limits,
          ...(declared.saysWhatIsServed ? { declared: nodeServeConfig(declared, "") } : {}),
          advertised: advertisedServices(declared),
        }),
    certificates,
    ...(state === "mem:" ? {} : { certificateFolder: path.join(state, "certs") }),
    ...(authKey === undefined ? {} : { authKey }),
    ...(values.hostname === undefined ? {} : { hostname: values.hostname }),
    ...loginWords(io),
  });
  stack.defer(() => gateway.close());
  const backend = new GatewayAdmin(gateway);
  const localApi = await openLocalApi({ socketPath, backend, log });
  stack.defer(() => localApi.close());
  if (values.config !== undefined && declared !== undefined) {
    warnOf(declared, values.config, log);
    stack.defer(followFile(gateway, { file: values.config, before: declared }, { settingsOf, doorsOf }, log));
  }
  if (values.inspect === true) io.stderr(`\nRequests, in one browser: ${await gateway.inspection.invite()}\n\n`);
  log.info("gateway.started", { controlUrl, socketPath, ...gateway.node.means });
  await ended(io.signal);
  log.info("gateway.draining");
  await gateway.proxy.drain(DRAIN_MS);
  return 0;
}

type SettingsOf = (file: CertificatesConfig) => CertificatesConfig;

/** Files with secrets that a services file names. */
function secretsOf({ certificates, doors }: ServicesConfig, settingsOf: SettingsOf): readonly string[] {
  return [...pathsOfKeys(settingsOf(certificates)), ...filesOfDoors(doors)];
}

type DoorsOf = (services: ServicesConfig) => Promise<readonly Door[]>;

/** After SIGHUP, what the file says is served by then; a file that has become bad changes nothing (CF-2). */
function followFile(
  gateway: Gateway,
  { file, before }: { file: string; before: ServicesConfig },
  { settingsOf, doorsOf }: { settingsOf: SettingsOf; doorsOf: DoorsOf },
  log: Log,
): () => void {
  const read = async (): Promise<readonly [ServicesConfig, readonly Door[]]> => {
    const found = await readServices(file);
    gateway.guarded.add(secretsOf(found, settingsOf));
    const doors = await doorsOf(found);
    gateway.check(nodeServeConfig(found, gateway.name)); // last: another reading may have made secrets of its targets
    return [found, doors];
  };
  let hasSaid = before.saysWhatIsServed;
  let begun = 0;
  let inForce = 0;
  const reload = (): void => {
    const turn = ++begun;
    read()
      .then(([services, doors]) => {
        if (turn < inForce) return; // it took longer to read, and is older than what has come into force meanwhile
        inForce = turn;
        gateway.gatekeeper.setDoors(doors); // before the mounts that they guard
        gateway.certificates.configure(settingsOf(services.certificates));
        // What the file itself has put there goes when it says nothing of that any more.
        const isSaid = services.saysWhatIsServed || hasSaid;
        hasSaid = services.saysWhatIsServed;
        gateway.declare(isSaid ? nodeServeConfig(services, gateway.name) : undefined, {
          rulesOf: (place) => mountRules(services, place),
          visitorRulesOf: ({ port }) => visitorRules(services, port),
          limits: services.limits,
          advertised: advertisedServices(services),
        });
        log.info("config.reloaded", { file });
        warnOf(services, file, log);
      })
      .catch((error: unknown) => {
        log.error("config.refused", { file, error: messageOf(error) });
        if (turn < inForce) return;
        const { line, column } = error instanceof Fault ? error : {};
        gateway.refuseDeclaration(line === undefined ? file : `${file}, line ${line}, column ${column}`);
      });
  };
  process.on("SIGHUP", reload);
  return () => process.off("SIGHUP", reload);
}

function warnOf({ warnings }: ServicesConfig, file: string, log: Log): void {
  for (const warning of warnings) log.warn("config.warning", { file, warning });
}

function ended(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/** @throws {Fault} CLI_USAGE */
function trustedIngresses(given: string | undefined): readonly string[] {
  const names = given === undefined || given === "" ? [] : given.split(",");
  const bad = names.find((name) => !/^(?:tag:[A-Za-z][A-Za-z0-9-]*|nodekey:[0-9a-f]{64})$/.test(name));
  if (bad === undefined) return names;
  throw new Fault("CLI_USAGE", `Cannot trust "${bad}" as an ingress: wanted tag:NAME or nodekey:HEX`);
}
