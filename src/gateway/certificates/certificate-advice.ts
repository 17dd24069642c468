import type { Authority } from "../../certs/acme/authority.ts";
import { type CaaAdvice, caaAdvice } from "../../certs/challenges/caa.ts";
import type { ChallengeSolver } from "../../certs/challenges/challenge.ts";
import type { DnsLookup } from "../../certs/challenges/dns-lookup.ts";

/** What CAs call themselves in CAA records; others say it in their documentation (RFC 8659 section 4.2). */
const ISSUERS: Readonly<Record<string, string>> = {
  letsencrypt: "letsencrypt.org",
  "letsencrypt-staging": "letsencrypt.org",
  zerossl: "sectigo.com",
  google: "pki.goog",
};

export interface AdviceOptions {
  readonly lookup: DnsLookup;
  readonly authorities: readonly Authority[];
  readonly solvers: readonly ChallengeSolver[];
}

/** Who else could obtain a certificate for a name, and the records that keep them from it (AC-15). */
export async function certificateAdvice(
  name: string,
  { lookup, authorities, solvers }: AdviceOptions,
  signal: AbortSignal,
): Promise<string> {
  const methods = [...new Set(solvers.filter((one) => one.canProve(name)).map(({ type }) => type))];
  if (methods.length === 0) return `No configured challenge can prove ${name}: it gets no public certificate.\n`;
  const parts: string[] = [];
  for (const authority of authorities) {
    const issuer = ISSUERS[authority.id];
    if (issuer === undefined) {
      parts.push(`${authority.id}: its documentation says what it is called in CAA records.\n`);
      continue;
    }
    const accountUri = await authority.accountUrl(signal);
    parts.push(adviceText(issuer, await caaAdvice(lookup, { name, issuers: [issuer], accountUri, methods }, signal)));
  }
  return parts.join("");
}

/** In words, and the missing records in those of a zone file. */
export function adviceText(issuer: string, { verdict, foundAt, isBound, wanted }: CaaAdvice): string {
  const lines = [`${issuer}: ${verdictText(verdict, foundAt)}`];
  if (verdict === "allowed") {
    lines.push(
      isBound
        ? "Only the accounts and the kinds of proof that are named get a certificate."
        : "Whoever can answer for this name on the way, such as a relay, could get a certificate too.",
    );
  }
  if (wanted.length > 0)
    lines.push("Records that bind it to this gateway's account:", ...wanted.map((one) => `  ${one}`));
  return `${lines.join("\n")}\n`;
}

function verdictText(verdict: CaaAdvice["verdict"], foundAt: string | undefined): string {
  const where = foundAt === undefined ? "there is no CAA record" : `by the CAA records of ${foundAt}`;
  if (verdict === "unknown") return "DNS does not answer for CAA, and then no CA issues.";
  return verdict === "allowed" ? `may issue, ${where}.` : `must not issue, ${where}.`;
}
