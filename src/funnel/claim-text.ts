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

/** Why a claim leads to nothing; undefined: it is held. `ownName`: this node's. */
export function claimRefusal({ claim, state, isServers }: ClaimAnswer, ownName: string): string | undefined {
  if (state === "held") return undefined;
  let why = WHY[state](claim);
  if (isServers === true) why = OF_SERVER;
  else if (state === "ungranted" && isOfMesh(claim, ownName)) why = OF_MESH;
  return `${isPortClaim(claim) ? "port " : ""}${claim} is not this node's: ${why}`;
}

/** Of the claims that are made now, those that lead to nothing. */
export function claimRefusals(
  claims: readonly string[],
  answers: readonly ClaimAnswer[],
  ownName: string,
): readonly string[] {
  return answers.flatMap((answer) => (claims.includes(answer.claim) ? (claimRefusal(answer, ownName) ?? []) : []));
}

/** With it a node could have the server's certificate, and be sent its callers. */
const OF_SERVER = "it is a name of this network's server, which no node gets";

/** No policy gives a name of the mesh: it is that of the node which is called so. */
const OF_MESH = "it is a name of the mesh, and public only on the node of that name: run `funnel` there";

function isOfMesh(claim: string, ownName: string): boolean {
  const dot = ownName.indexOf(".");
  return dot > 0 && `.${claim.replace(/^\*\./, "")}`.toLowerCase().endsWith(ownName.slice(dot).toLowerCase());
}
