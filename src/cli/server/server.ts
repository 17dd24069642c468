import path from "node:path";
import type { OidcOptions } from "../../server/oidc-provider.ts";
import { exitOnCrash } from "../crash.ts";
import { readGivenFile, readSecretFile } from "../given-file.ts";
import { drain, drainMsOf } from "../ingress.ts";
import { CliExit, type CliIo } from "../io.ts";
import { portFlag } from "../port-flag.ts";
import { programLog } from "../program-log.ts";
import { administer } from "./server-admin.ts";
import { backup, restore } from "./server-backup.ts";
import { ServerClient } from "./server-client.ts";
import { dns } from "./server-dns.ts";
import { parseServerArgs, type ServerValues } from "./server-flags.ts";
import { derpPortOf, ingressOf } from "./server-ingress.ts";
import { wireGuard } from "./server-wireguard.ts";
import { publicZoneOf } from "./server-zone.ts";

const USAGE = `sallyport server: coordination, DERP and STUN in one process

  sallyport server [--state DIR] [--address IP] [--port N] [--derp-port N] [--stun-port N]
                   [--url URL] [--domain NAME] [--policy FILE] [--log LEVEL]
                   [--dns-zone ZONE --dns-ns NAME[=IP,IP] [--dns-listen IP[:PORT]] [--dns-caa VALUE] [--url-address IP,IP]]
                   [--https-listen [IP:]443 [--cert-authority CA] [--cert-authority-bundle FILE] [--acme-http 80]]
                   [--ingress-ports 443,8443 [--ingress-address IP] [--ingress-http-port 80] [--ingress-public-address IP,IP]
                    [--lease-ports 2222,7000-7010] [--drain SECONDS] [--tls-cert FILE --tls-key FILE]
                    [--visitor-rate N] [--name-rate N] [--visitor-connections N] [--visitor-hellos N]]
                   [--ingress-addresses IP,IP]
                   [--oidc-issuer URL --oidc-client-id ID --oidc-client-secret file:PATH [--oidc-domains a.com,b.org]]
  sallyport server users list | create LOGIN [--name TEXT] [--picture URL] [--role ROLE] | set LOGIN … | delete LOGIN
                         | role LOGIN owner|admin|it-admin|network-admin|billing-admin|auditor|member
  sallyport server keys list | create [--user LOGIN] [--tags tag:a,tag:b] [--reusable] [--ephemeral] [--expiry 12h]
                        [--preapproved] | expire ID
  sallyport server nodes list | waiting | approve ID --user LOGIN | reject ID | expire NODE | delete NODE
                         | rename NODE NAME | release NAME | tag NODE tag:a,tag:b | assign NODE --user LOGIN
                         | routes NODE 10.1.0.0/24,0.0.0.0/0 | attr NODE custom:tier=prod custom:old=
                         | approval on|off (do new devices need one?) | approve NODE
  sallyport server wireguard list | remove NODE
                             | add NAME --user LOGIN --gateway NODE [--gateway NODE] [--public-key KEY]
                                   [--endpoint NODE=HOST:PORT] [--expiry 180d]
  sallyport server claims list | release DOMAIN|PORT
  sallyport server services list | create svc:NAME | delete svc:NAME | approve svc:NAME NODE | revoke svc:NAME NODE
  sallyport server dns show | nameservers 1.1.1.1,9.9.9.9|none | override on|off | search a.example,b.example|none
                       | split DOMAIN 10.0.0.53|none|off | record add NAME ADDRESS | record remove NAME [ADDRESS]
                       | magic on|off
  sallyport server policy get | check FILE | set FILE
  sallyport server backup FILE                 everything, in one new file, while the server runs
  sallyport server restore FILE [--state DIR]  while it does not
  sallyport server log

The commands talk to the running server at DIR/server.sock (--socket). NODE: id, name or address.
Lists are tables on a terminal and JSON elsewhere (--json: JSON always).
`;

/** `sallyport server`: runs the server, or asks the running one. */
export async function server(args: readonly string[], io: CliIo): Promise<number> {
  const { values, positionals } = parseServerArgs(args);
  if (values.help === true) {
    io.stdout(USAGE);
    return 0;
  }
  const state = values.state ?? path.join(io.env["HOME"] ?? ".", ".local", "state", "sallyport-server");
  const socketPath = values.socket ?? path.join(state, "server.sock");
  if (positionals.length === 0) return serve(values, state, socketPath, io);
  const client = new ServerClient(socketPath, io.env["USER"] ?? "local");
  const [area = "", ...words] = positionals;
  const commands: Readonly<Record<string, () => Promise<number | undefined>>> = {
    wireguard: () => wireGuard(values, words, client, io),
    dns: () => dns(values, words, client, io),
    backup: () => backup(words, client, io),
    restore: () => restore(words, state, io),
  };
  const status = Object.hasOwn(commands, area)
    ? await commands[area]!()
    : await administer(values, positionals, client, io);
  if (status === undefined) throw new CliExit(USAGE, 2);
  return status;
}

async function serve(values: ServerValues, state: string, socketPath: string, io: CliIo): Promise<number> {
  const { directoryStore } = await import("../../base/directory-store.ts");
  const { SqliteCoordinationStore } = await import("../../coordination/store/sqlite-store.ts");
  const { Server } = await import("../../server/server.ts");
  const { openAdminApi } = await import("../../server/admin-api.ts");
  const { ownCertificateOf } = await import("./server-certificate.ts");
  const log = programLog(values.log);
  exitOnCrash(log);
  const drainMs = drainMsOf(values.drain);
  await using stack = new AsyncDisposableStack();
  const certificate = await ownCertificateOf(values, path.join(state, "certs"), log.with("certificates"));
  stack.defer(async () => certificate?.close());
  const { publicZone: zone } = publicZoneOf(values);
  const running = await Server.open({
    state: await directoryStore(state, log),
    store: await SqliteCoordinationStore.open(path.join(state, "server.db")),
    baseDomain: values.domain ?? values["dns-zone"]?.toLowerCase().replace(/\.$/, "") ?? "mesh.internal",
    port: portFlag("port", values.port, 8080),
    derpPort: derpPortOf(values),
    stunPort: portFlag("stun-port", values["stun-port"], 3478),
    log,
    ...(values.address === undefined ? {} : { address: values.address }),
    ...(values.url === undefined ? {} : { serverUrl: values.url }),
    ...(values.policy === undefined ? {} : { policy: await readGivenFile(values.policy, "a policy file") }),
    ...(zone === undefined ? {} : { publicZone: { ...zone, ...(certificate && { records: certificate.records }) } }),
    ...(certificate === undefined ? {} : { https: certificate.https }),
    ...(await ingressOf(values)),
    ...(await oidcOf(values)),
  }).catch(async (thrown: unknown) => {
    throw values.policy === undefined ? thrown : (await import("../policy.ts")).placed(thrown, values.policy);
  });
  stack.defer(() => running.close());
  const admin = await openAdminApi({ socketPath, server: running, log: log.with("admin") });
  stack.defer(() => admin.close());
  await certificate?.start();
  const { publicZone } = running;
  if (publicZone !== undefined) log.info("zone.started", { zone: values["dns-zone"], port: publicZone.port });
  log.info("server.started", { url: running.url, socketPath });
  if (!io.signal.aborted) {
    await new Promise<void>((resolve) => io.signal.addEventListener("abort", () => resolve(), { once: true }));
  }
  // Their bytes come through nodes that may need coordination and DERP meanwhile: all of it stays until they are gone.
  if (running.relay !== undefined) await drain(running.relay, drainMs, log);
  return 0;
}

/** The secret comes from a file: process arguments are public. */
async function oidcOf(values: ServerValues): Promise<{ oidc?: OidcOptions }> {
  const { "oidc-issuer": issuer, "oidc-client-id": clientId, "oidc-client-secret": secret } = values;
  if (issuer === undefined) return {};
  if (clientId === undefined || secret?.startsWith("file:") !== true) {
    throw new CliExit("Cannot use --oidc-issuer: wanted --oidc-client-id ID and --oidc-client-secret file:PATH", 2);
  }
  const clientSecret = await readSecretFile(secret.slice("file:".length), "the client's secret");
  const domains = values["oidc-domains"]?.split(",").filter((domain) => domain !== "") ?? [];
  return { oidc: { issuer, clientId, clientSecret, domains } };
}
