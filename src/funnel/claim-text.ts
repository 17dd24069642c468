import { type ClaimAnswer, type ClaimState, isPortClaim, MOST_LEASES } from "../wire/claims.ts";

const WHY: Readonly<Record<Exclude<ClaimState, "held">, (claim: string) => string>> = {
  taken: () => "another node of this network holds it, and keeps it until it says `off`",
  ungranted: (claim) => {
    const grant = isPortClaim(claim) ? `sallyport.dev/ports": [{"ports": ["${claim}"]}]` : DOMAIN_GRANT(claim);
    return `the network's policy does not give it to this node (nodeAttrs, "app": {"${grant}})`;
  },
  closed: (claim) => `no ingress has it to let (\`sallyport ingress --lease-ports ${claim}\`)`,
  crowded: () => `a node may hold ${MOST_LEASES} ports`,
};
const DOMAIN_GRANT = (name: string): string => `sallyport.dev/domains": [{"names": ["${name}"]}]`;

/** Why a claim leads to nothing; undefined: it is held. */
export function claimRefusal({ claim, state }: ClaimAnswer): string | undefined {
  if (state === "held") return undefined;
  return `${isPortClaim(claim) ? "port " : ""}${claim} is not this node's: ${WHY[state](claim)}`;
}

/** Of the claims that are made now, those that lead to nothing. */
export function claimRefusals(claims: readonly string[], answers: readonly ClaimAnswer[]): readonly string[] {
  return answers.flatMap((answer) => (claims.includes(answer.claim) ? (claimRefusal(answer) ?? []) : []));
}
