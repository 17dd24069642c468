import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createSecureContext, createServer as createTlsServer } from "node:tls";
import { Agent, fetch } from "undici";
import { systemClock } from "../../src/base/clock.ts";
import type { ChallengeSolver } from "../../src/certs/challenges/challenge.ts";
import { HttpChallenges } from "../../src/certs/challenges/http-01.ts";
import { ACME_TLS, TlsAlpnChallenges } from "../../src/certs/challenges/tls-alpn-01.ts";
import { LocalCa } from "../../src/certs/local-ca.ts";
import { findPeer } from "../peers.ts";
import { freePorts } from "./processes.ts";
import { txtSolver } from "./txt-solver.ts";

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
  /** Of the interface that `txtSolver` writes to. */
  readonly dnsManagement: string;
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
  // What they log, they log before they listen.
  await answering(`https://${HOST}:${acme}/dir`, dispatcher);
  await answering(`https://${HOST}:${management}/roots/0`, dispatcher);
  await answering(`http://${HOST}:${dnsManagement}/`, dispatcher);
  return {
    directory: `https://${HOST}:${acme}/dir`,
    caBundle,
    dnsManagement: `http://${HOST}:${dnsManagement}`,
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

async function answering(url: string, dispatcher: Agent): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      await (await fetch(url, { dispatcher })).text();
      return;
    } catch (cause) {
      if (tries === 300) throw new Error(`Waited in vain for ${url}`, { cause });
      await sleep(100);
    }
  }
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
