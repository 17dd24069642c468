import { readFile } from "node:fs/promises";
import type { Clock } from "../../base/clock.ts";
import { Fault, messageOf } from "../../base/fault.ts";
import type { Log } from "../../base/log.ts";
import type { Random } from "../../base/random.ts";
import { openAuthority } from "../../certs/acme/acme-authority.ts";
import type { Authority } from "../../certs/acme/authority.ts";
import { directoryOf } from "../../certs/acme/known-authorities.ts";
import { letsEncryptLimits, type RateLimits } from "../../certs/budget.ts";
import { dnsClient } from "../../certs/challenges/dns-client.ts";
import { secretOf } from "../../certs/challenges/providers/secret.ts";
import { openKeeper } from "../../certs/open-keeper.ts";
import { openOwnFiles } from "../../certs/own-files.ts";
import type { CertificateStore } from "../../certs/store/certificate-store.ts";
import { fileCertificateStore } from "../../certs/store/file-store.ts";
import { memoryCertificateStore } from "../../certs/store/memory-store.ts";
import type { AuthorityConfig, CertificatesConfig } from "../../config/certificates.ts";
import { certificateAdvice } from "./certificate-advice.ts";
import { type ControlDns, Solvers } from "./certificate-solvers.ts";
import type { CertificateSources } from "./certificates.ts";
import { openChallengeListeners } from "./challenge-listeners.ts";
import { openWatch, type WatchSurroundings } from "./open-watch.ts";

const SWEEP_EVERY_MS = 3_600_000;
const DEFAULT_AUTHORITY = "letsencrypt";

export interface SourceOptions {
  readonly control: ControlDns;
  /** Does a CA that asks for this name on port 443 come here, through an ingress? @default nobody does */
  readonly isVisited?: (name: string) => boolean;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Where certificates are kept unless the settings name another place; absent = in memory only. */
  readonly folder?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** For the watch over transparency logs; absent = there is none. */
  readonly watched?: Pick<WatchSurroundings, "names" | "held" | "store">;
}

/** Opens the store, the CAs and the ways to prove names that `settings` ask for. */
export async function openCertificateSources(
  settings: CertificatesConfig,
  options: SourceOptions,
): Promise<CertificateSources> {
  const { clock, random, log } = options;
  await using stack = new AsyncDisposableStack();
  const store = await openStore(settings, options);
  stack.defer(() => store.close());
  const sources = (settings.files ?? []).map((one) => (typeof one === "string" ? { folder: one } : one));
  const files = await openOwnFiles(sources, { clock, log });
  stack.defer(() => files.close());
  const lookup = dnsClient({
    clock,
    random,
    ...(settings.resolvers === undefined ? {} : { servers: settings.resolvers }),
  });
  const solvers = new Solvers(settings, { ...options, store, lookup });
  stack.defer(await openChallengeListeners(settings, { solvers, clock, log }));
  const authorities = await openAuthorities(settings, store, options);
  const household = { store, authorities, solvers: solvers.list, clock, random, log, limits: limitsOf };
  const keeper = authorities.length === 0 ? undefined : await openKeeper(household);
  stack.defer(async () => keeper?.close());
  stack.defer(sweeping(solvers, clock, log));
  const { watched } = options;
  const isWatching = settings.transparency !== undefined && watched !== undefined;
  const transparency = isWatching
    ? await openWatch(settings.transparency, { ...watched, stored: () => storedChains(store), clock, log })
    : undefined;
  stack.defer(async () => transparency?.close());
  const closing = new AbortController();
  stack.defer(() => closing.abort());
  const opened = stack.move();
  return {
    keeper,
    transparency,
    file: (name) => files.certificate(name),
    challengeContext: (name) => solvers.challengeContext(name),
    challengeAnswer: (host, path) => solvers.challengeAnswer(host, path),
    advice: (name, signal) => certificateAdvice(name, { lookup, authorities, solvers: solvers.list }, signal),
    rollAccountKey: async (id) => authorityOf(id, authorities).rollAccountKey(closing.signal),
    onFiles: (listener) => files.subscribe(listener),
    fileList: () => files.list(),
    close: () => opened.disposeAsync(),
  };
}

/** PEM of every certificate that those who share the store have. */
async function storedChains(store: CertificateStore): Promise<readonly string[]> {
  const paths = (await store.list("certificates/")).filter((path) => path.endsWith(".pem"));
  const files = await Promise.all(paths.map((path) => store.read(path)));
  return files.flatMap((file) => {
    const text = file === undefined ? "" : Buffer.from(file).toString("latin1");
    const start = text.indexOf("-----BEGIN CERTIFICATE-----");
    return start < 0 ? [] : [text.slice(start)];
  });
}

function sweeping(solvers: Solvers, clock: Clock, log: Log): () => void {
  let stop = (): void => {};
  const sweep = (): void => {
    solvers.sweep().catch((error: unknown) => log.warn("certificates.sweep_failed", { error: messageOf(error) }));
    stop = clock.at(clock.now() + SWEEP_EVERY_MS, sweep);
  };
  sweep();
  return () => stop();
}

/** Staging and private CAs publish no limits. */
function limitsOf(authority: string): RateLimits | undefined {
  return authority === DEFAULT_AUTHORITY ? letsEncryptLimits : undefined;
}

async function openStore({ store }: CertificatesConfig, options: SourceOptions): Promise<CertificateStore> {
  const { env = process.env, folder } = options;
  const place = store?.startsWith("env:") ? await secretOf(store, env)() : (store ?? folder);
  if (place === undefined) return memoryCertificateStore();
  if (!/^postgres(?:ql)?:/.test(place)) return fileCertificateStore(place.replace(/^file:/, ""), options);
  const { postgresCertificateStore } = await import("../../certs/store/postgres-store.ts"); // pg is for those who use it
  return postgresCertificateStore(place, options);
}

async function openAuthorities(
  settings: CertificatesConfig,
  store: CertificateStore,
  options: SourceOptions,
): Promise<readonly Authority[]> {
  const { clock, log, env = process.env } = options;
  const { authority = DEFAULT_AUTHORITY, second, staging, contact } = settings;
  const first = staging === true && typeof authority === "string" ? `${authority}-staging` : authority;
  const wanted = second === undefined ? [first] : [first, second];
  return Promise.all(
    wanted
      .filter((one) => one !== "internal")
      .map(async (one) => {
        const { directory, caBundle, externalAccount, ...rest } =
          typeof one === "string" ? { directory: directoryOf(one) } : one;
        const hmacKey = externalAccount === undefined ? undefined : await secretOf(externalAccount.hmacKey, env)();
        return openAuthority({
          ...{ id: idOf(one), directory, store, clock, log, contact, ...rest },
          agreeToTerms: true, // as upstream does; docs/certificates.md says so
          caBundle: caBundle === undefined ? undefined : await pemFile(caBundle),
          externalAccount: hmacKey === undefined ? undefined : { keyId: externalAccount!.keyId, hmacKey },
        });
      }),
  );
}

function authorityOf(wanted: string, authorities: readonly Authority[]): Authority {
  const found = authorities.find(({ id }) => id === wanted);
  if (found !== undefined) return found;
  const ids = authorities.map(({ id }) => id).join(", ");
  throw new Fault("CERT_AUTHORITY_UNKNOWN", `Cannot find the CA "${wanted}": this gateway uses ${ids}`);
}

/** Stable: account, history and budget are kept under it. */
function idOf(authority: AuthorityConfig): string {
  if (typeof authority === "string" && !authority.includes(":")) return authority;
  const { host, pathname } = new URL(typeof authority === "string" ? authority : authority.directory);
  return `${host}${pathname}`
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "")
    .slice(0, 63);
}

async function pemFile(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw new Fault("CERT_AUTHORITY_BUNDLE", `Cannot read "${path}": ${messageOf(cause)}`, { cause });
  }
}
