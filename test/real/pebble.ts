import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { createSecureContext, createServer as createTlsServer } from "node:tls";
import { Agent, fetch } from "undici";
import { systemClock } from "../../src/base/clock.ts";
import type { ChallengeSolver } from "../../src/certs/challenges/challenge.ts";
import { HttpChallenges } from "../../src/certs/challenges/http-01.ts";
import { ACME_TLS, TlsAlpnChallenges } from "../../src/certs/challenges/tls-alpn-01.ts";
import { LocalCa } from "../../src/certs/local-ca.ts";
import { findPeer } from "../peers.ts";
import { eventually } from "./namespace.ts";
import { freePorts } from "./processes.ts";

const HOST = "127.0.0.1";
const KEPT_BYTES = 256 * 1024;

export interface PebbleOptions {
  /** Of Pebble: its knobs are environment variables. */
  readonly env?: Readonly<Record<string, string>>;
  readonly externalAccounts?: Readonly<Record<string, string>>;
}

/** Pebble, its DNS, and what answers the challenges, all on free ports of loopback. */
export interface Pebble {
  readonly directory: string;
  /** PEM of the root of Pebble's own TLS. */
  readonly caBundle: string;
  readonly dns: ChallengeSolver;
  readonly http: ChallengeSolver;
  readonly tlsAlpn: ChallengeSolver;
  /** Of its management interface, such as `/roots/0`. */
  ask(path: string): Promise<string>;
  log(): string;
  close(): void;
}

export async function startPebble(options: PebbleOptions = {}): Promise<Pebble> {
  const scratch = mkdtempSync(path.join(tmpdir(), "sp-pebble-"));
  const [acme, management, dns, dnsManagement, http, tls] = await freePorts(HOST, 6);
  const ca = await LocalCa.create(systemClock);
  const { key, certificate } = await ca.issue([HOST, "localhost"]);
  writeFileSync(`${scratch}/key.pem`, key);
  writeFileSync(`${scratch}/cert.pem`, certificate);
  const pebble = {
    listenAddress: `${HOST}:${acme}`,
    managementListenAddress: `${HOST}:${management}`,
    certificate: `${scratch}/cert.pem`,
    privateKey: `${scratch}/key.pem`,
    httpPort: Number(http),
    tlsPort: Number(tls),
    externalAccountBindingRequired: options.externalAccounts !== undefined,
    externalAccountMACKeys: options.externalAccounts ?? {},
  };
  writeFileSync(`${scratch}/config.json`, JSON.stringify({ pebble }));

  let log = "";
  const start = (name: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): ChildProcess => {
    const words = ["--pdeathsig", "KILL", findPeer(name)!, ...args];
    const child = spawn("setpriv", words, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk) => {
        log = (log + String(chunk)).slice(-KEPT_BYTES);
      });
    }
    return child;
  };
  const own = ["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""];
  const children = [
    start("pebble-challtestsrv", ["-dns01", `${HOST}:${dns}`, "-management", `${HOST}:${dnsManagement}`, ...own]),
    start("pebble", ["-strict", "-config", `${scratch}/config.json`, "-dnsserver", `${HOST}:${dns}`], {
      PEBBLE_VA_NOSLEEP: "1",
      PEBBLE_WFE_NONCEREJECT: "0",
      ...options.env,
    }),
  ];
  const caBundle = ca.export().certificate;
  const dispatcher = new Agent({ connect: { ca: caBundle } });
  const httpChallenges = new HttpChallenges(() => true);
  const tlsChallenges = new TlsAlpnChallenges({ mayProve: () => true, clock: systemClock });
  const servers = [
    httpServer(httpChallenges).listen(Number(http), HOST),
    tlsServer(tlsChallenges).listen(Number(tls), HOST),
  ];
  await eventually("Pebble", () => (log.includes("ACME directory available") ? true : undefined));
  await eventually("Pebble's DNS", () => (log.includes("Starting management server") ? true : undefined));
  return {
    directory: `https://${HOST}:${acme}/dir`,
    caBundle,
    dns: txtSolver(`http://${HOST}:${dnsManagement}`),
    http: httpChallenges.solver,
    tlsAlpn: tlsChallenges.solver,
    ask: async (at) => (await fetch(`https://${HOST}:${management}${at}`, { dispatcher })).text(),
    log: () => log,
    close() {
      for (const child of children) child.kill("SIGKILL");
      for (const server of servers) server.close();
      void dispatcher.destroy();
      rmSync(scratch, { recursive: true, force: true });
    },
  };
}

/** Writes to Pebble's DNS, which can only clear all values of a record: so that is for the last one that goes. */
function txtSolver(management: string): ChallengeSolver {
  const shown = new Map<string, number>();
  const post = async (what: string, body: object): Promise<void> => {
    const { ok, status } = await fetch(`${management}/${what}`, { method: "POST", body: JSON.stringify(body) });
    if (!ok) throw new Error(`challtestsrv answered ${status}`);
  };
  const count = (record: string, by: number): number => {
    const left = (shown.get(record) ?? 0) + by;
    shown.set(record, left);
    return left;
  };
  return {
    type: "dns-01",
    canProve: () => true,
    async present(challenge) {
      if (challenge.type !== "dns-01") throw new Error(`a ${challenge.type} challenge for DNS`);
      const host = `${challenge.record}.`;
      count(host, 1);
      await post("set-txt", { host, value: challenge.value });
      return async () => {
        if (count(host, -1) === 0) await post("clear-txt", { host });
      };
    },
  };
}

function httpServer(challenges: HttpChallenges): Server {
  return createHttpServer((request, response) => {
    const text = challenges.answer(request.headers.host ?? "", request.url ?? "");
    response.writeHead(text === undefined ? 404 : 200).end(text);
  });
}

function tlsServer(challenges: TlsAlpnChallenges): ReturnType<typeof createTlsServer> {
  return createTlsServer({
    ALPNProtocols: [ACME_TLS],
    SNICallback(name, done) {
      const found = challenges.find(name, [ACME_TLS]);
      if (found === undefined) done(new Error("no such challenge"));
      else done(null, createSecureContext({ key: found.key, cert: found.certificate }));
    },
  }).on("tlsClientError", () => {});
}
