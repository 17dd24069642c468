import { randomBytes } from "node:crypto";
import { rename, writeFile } from "node:fs/promises";
import type { SecureContext } from "node:tls";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Random } from "../../base/random.ts";
import type { ChallengeSolver } from "../../certs/challenges/challenge.ts";
import { ChallengeJournal } from "../../certs/challenges/challenge-journal.ts";
import type { DnsLookup } from "../../certs/challenges/dns-lookup.ts";
import { type DnsSolver, dnsSolver } from "../../certs/challenges/dns-solver.ts";
import { HttpChallenges } from "../../certs/challenges/http-01.ts";
import { type DnsProviderSettings, dnsProvider } from "../../certs/challenges/providers/provider.ts";
import { setDnsProvider } from "../../certs/challenges/providers/set-dns.ts";
import { ACME_TLS, TlsAlpnChallenges } from "../../certs/challenges/tls-alpn-01.ts";
import type { CertificateStore } from "../../certs/store/certificate-store.ts";
import type { CertificatesConfig, ChallengeConfig } from "../../config/certificates.ts";
import { serverContext } from "../../proxy/tls/tls-context.ts";
import { isBelow } from "./certificate-plan.ts";

/** By whom names of the mesh are proved: it writes the record into its own zone. */
export interface ControlDns {
  /** Lower case, without a dot at the end; as the network map has them now. */
  names(): readonly string[];
  set(record: string, value: string, signal: AbortSignal): Promise<void>;
}

export interface SolverOptions {
  readonly store: CertificateStore;
  readonly lookup: DnsLookup;
  readonly control: ControlDns;
  readonly isVisited?: (name: string) => boolean;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** All ways to prove names that are configured, and what answers a CA that comes to us. */
export class Solvers {
  readonly list: readonly ChallengeSolver[];
  readonly #dns: readonly DnsSolver[];
  readonly #http: HttpChallenges;
  readonly #tls: TlsAlpnChallenges;

  /** @throws {Fault} CERT_CHALLENGE_SECRET */
  constructor({ challenges = [] }: CertificatesConfig, options: SolverOptions) {
    const { clock, control, isVisited = () => false } = options;
    const isFor =
      (type: ChallengeConfig["type"]) =>
      (name: string): boolean =>
        challenges.some((one) => one.type === type && covers(one, name));
    this.#http = new HttpChallenges(isFor("http-01"));
    const byTls = isFor("tls-alpn-01");
    this.#tls = new TlsAlpnChallenges({ mayProve: (name) => byTls(name) || isVisited(name), clock });
    const journal = new ChallengeJournal(options.store, clock);
    const { lookup, log } = options;
    const byControl = dnsSolver({
      id: "control",
      provider: setDnsProvider((record, value, signal) => control.set(record, value, signal)),
      covers: (name) => control.names().includes(name),
      ...{ lookup, clock, log },
    });
    const byProviders = challenges.flatMap((one, at): readonly DnsSolver[] => {
      const settings = providerOf(one);
      if (settings === undefined) return [];
      return [
        dnsSolver({
          id: `${settings.type}-${at}`,
          provider: dnsProvider(settings, {
            ...options,
            env: options.env ?? process.env,
            fetch,
            writeFile: replaceFile,
          }),
          covers: (name) => covers(one, name),
          ...(one.waitMs === undefined ? {} : { propagation: { insteadMs: one.waitMs } }),
          ...{ journal, lookup, clock, log },
        }),
      ];
    });
    this.#dns = byProviders;
    this.list = [byControl, ...byProviders, this.#tls.solver, this.#http.solver];
  }

  /** Takes away what a process that died has left in zones. */
  async sweep(): Promise<void> {
    for (const solver of this.#dns) await solver.sweep();
  }

  challengeContext(name: string): SecureContext | undefined {
    const found = this.#tls.find(name, [ACME_TLS]);
    return found === undefined ? undefined : serverContext({ key: found.key, chain: found.certificate });
  }

  challengeAnswer(host: string, path: string): string | undefined {
    return this.#http.answer(host, path);
  }
}

function covers({ for: domains }: ChallengeConfig, name: string): boolean {
  return domains === undefined || domains.some((domain) => isBelow(name, domain.toLowerCase()));
}

function providerOf(challenge: ChallengeConfig): DnsProviderSettings | undefined {
  const { for: _, waitMs: __, ...settings } = challenge;
  const { type } = settings;
  if (type === "control" || type === "http-01" || type === "tls-alpn-01") return undefined;
  return settings as DnsProviderSettings; // members that are undefined are absent: zod makes none
}

async function replaceFile(path: string, text: string): Promise<void> {
  const scratch = `${path}.${randomBytes(6).toString("hex")}.new`;
  await writeFile(scratch, text, { mode: 0o600, flush: true });
  await rename(scratch, path);
}
