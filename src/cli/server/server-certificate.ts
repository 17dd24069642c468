import type { SecureContext } from "node:tls";
import { systemClock } from "../../base/clock.ts";
import { Fault, messageOf } from "../../base/fault.ts";
import type { Log } from "../../base/log.ts";
import { systemRandom } from "../../base/random.ts";
import { ChallengeRecords } from "../../certs/zone/challenge-records.ts";
import { CHALLENGE_TTL_S } from "../../certs/zone/node-records.ts";
import { type RecordSource, textRecord } from "../../certs/zone/records.ts";
import { authorityOf, type ChallengeConfig, isCertificateName } from "../../config/certificates.ts";
import { CertificateContexts } from "../../gateway/certificates/certificate-contexts.ts";
import { openCertificateSources } from "../../gateway/certificates/certificate-sources.ts";
import type { CertificateSources } from "../../gateway/certificates/certificates.ts";
import type { OwnHttpsOptions } from "../../server/own-https.ts";
import { CliExit } from "../io.ts";
import type { ServerValues } from "./server-flags.ts";

export interface OwnCertificate {
  readonly https: OwnHttpsOptions;
  /** Challenges for the server's own name, where it lies in the zone that the server answers for. */
  readonly records: RecordSource;
  /** To be called once the server can be asked: orders, and looks after what it got. */
  start(): Promise<void>;
  close(): Promise<void>;
}

/** `--https-listen` and what belongs to it: the server's own name, its certificate, and how it is proved. */
export async function ownCertificateOf(
  values: ServerValues,
  folder: string,
  log: Log,
): Promise<OwnCertificate | undefined> {
  const { "https-listen": listen, "cert-authority": ca, "cert-authority-bundle": bundle, "acme-http": http } = values;
  if (listen === undefined && ca === undefined && http === undefined) return undefined;
  const name = values.url?.startsWith("https://") === true ? new URL(values.url).hostname : "";
  if (!isCertificateName(name)) {
    throw new CliExit("Cannot serve HTTPS under the server's own name: wanted --url https://NAME", 2);
  }
  const at = listen === undefined ? undefined : /^(?:\[?([0-9a-f.:]*?)\]?:)?(\d{1,5})$/i.exec(listen);
  if (at === null) throw new CliExit(`Cannot use --https-listen "${listen}": wanted PORT or IP:PORT`, 2);
  const zone = values["dns-zone"]?.toLowerCase().replace(/\.$/, "");
  const isInZone = zone !== undefined && (name === zone || name.endsWith(`.${zone}`));
  const challenges: ChallengeConfig[] = [{ type: "tls-alpn-01" }];
  if (http !== undefined) challenges.push({ type: "http-01", listen: http.includes(":") ? http : `:${http}` });
  const proofs = new ChallengeRecords(systemClock);
  const authority = authorityOf(ca, bundle);
  const sources = await openCertificateSources(
    { challenges, ...(authority === undefined ? {} : { authority }) },
    {
      control: { names: () => (isInZone ? [name] : []), set: async (record, value) => proofs.set(record, value) },
      clock: systemClock,
      random: systemRandom,
      log,
      folder,
    },
  );
  const contexts = new CertificateContexts(systemClock);
  const https: OwnHttpsOptions = {
    secureContext: () => contextOf(name, sources, contexts),
    challengeContext: (asked) => sources.challengeContext(asked),
    ...(at === undefined ? {} : { listen: { address: at[1] || "::", port: Number(at[2]) } }),
  };
  return {
    https,
    records: (asked) => {
      const found = asked === `_acme-challenge.${name}` ? proofs.values(asked) : [];
      return found.length === 0 ? undefined : found.map((value) => textRecord(value, CHALLENGE_TTL_S));
    },
    async start() {
      await sources.keeper?.want([{ names: [name], when: "ahead" }]);
    },
    close: () => sources.close(),
  };
}

function contextOf(
  name: string,
  { keeper }: CertificateSources,
  contexts: CertificateContexts,
): SecureContext | Fault | Promise<SecureContext | Fault> {
  const ready = keeper?.certificate(name);
  if (ready !== undefined) return contexts.of(name, ready);
  if (keeper === undefined) return new Fault("CERT_UNAVAILABLE", "Cannot serve HTTPS: no public CA is configured");
  return keeper.obtain(name).then(
    (certificate) => contexts.of(name, certificate),
    (error: unknown) => new Fault("CERT_UNAVAILABLE", messageOf(error), { cause: error }),
  );
}
