import type { Certificate } from "../../certs/certificate.ts";
import type { CertificateStatus } from "../../certs/keeper.ts";
import type { OwnFileStatus } from "../../certs/own-files.ts";
import type { TransparencyWatch } from "../../certs/transparency/transparency-watch.ts";
import { alarmText } from "../../certs/transparency/watch-record.ts";
import { wildcardOf } from "../../wire/host-name.ts";
import type { ObservedCertificate } from "../../wire/ipn.ts";

/** What our own CA issued, as the keeper tells of the others; `now`: Unix ms. */
export function localStatus({ names, notBefore, notAfter }: Certificate, now: number): CertificateStatus {
  const state = notAfter > now ? "valid" : "expired";
  return { id: names[0] ?? "", names, state, notBefore, notAfter, authority: "internal", observed: now };
}

/** Made when the first visitor asks for it. */
export function unmadeStatus(name: string, now: number): CertificateStatus {
  return { id: name, names: [name], state: "none", authority: "internal", observed: now };
}

export function fileStatus(
  { file, names, notBefore, notAfter, problem, observed }: OwnFileStatus,
  now: number,
): CertificateStatus {
  const failure = { at: observed, authority: file, code: "CERT_FILE", message: problem ?? "" };
  return {
    id: file,
    names,
    state: notAfter === undefined ? "none" : notAfter > now ? "valid" : "expired",
    authority: "file",
    observed,
    ...(notBefore === undefined ? {} : { notBefore }),
    ...(notAfter === undefined ? {} : { notAfter }),
    ...(problem === undefined ? {} : { lastFailure: failure }),
  };
}

/** As `status` shows it. */
export function observedCertificate(status: CertificateStatus): ObservedCertificate {
  const { names, state, authority = "", notAfter, renewAt, observed } = status;
  const time = (at: number | undefined): string => (at === undefined ? "" : new Date(at).toISOString());
  return {
    Names: names,
    State: state,
    Authority: authority,
    NotAfter: time(notAfter),
    RenewAt: time(renewAt),
    Observed: time(observed),
  };
}

/** In words; a renewal that failed is none as long as the old certificate is good, a file that cannot be used always is. */
export function problemOf({ names, state, authority, lastFailure }: CertificateStatus): string | undefined {
  if (lastFailure === undefined || (state === "valid" && authority !== "file")) return undefined;
  const what =
    state === "expired"
      ? "The certificate has expired"
      : state === "valid"
        ? "The new certificate is not used"
        : "There is no certificate yet";
  return `${what} for ${names.join(", ") || lastFailure.authority}: ${lastFailure.message}`;
}

/** What public logs say of a name's certificates. */
export function transparencyText(name: string, watch: Pick<TransparencyWatch, "alarms" | "logs"> | undefined): string {
  if (watch === undefined) return "Transparency logs are not looked through (`transparency`, docs/certificates.md).\n";
  const lines = watch.logs.map(({ url, checkedAt, behind, problem }) => {
    const seen = checkedAt === 0 ? "not read yet" : `read to its end at ${new Date(checkedAt).toISOString()}`;
    const left = behind === 0 ? "" : `, ${behind} entries to go`;
    return `log ${url}: ${problem ?? seen + left}`;
  });
  const covers = (one: string): boolean => one === name || one === wildcardOf(name) || wildcardOf(one) === name;
  const strangers = watch.alarms.filter(({ names }) => names.some(covers));
  const found =
    strangers.length === 0 ? ["No certificate but ours was logged since the watch began."] : strangers.map(alarmText);
  return [...found, ...lines].map((line) => `${line}\n`).join("");
}
