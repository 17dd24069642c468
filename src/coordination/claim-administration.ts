import { Fault } from "../base/fault.ts";
import type { ClaimState } from "../wire/claims.ts";
import { foldPattern } from "../wire/host-name.ts";
import type { Core } from "./core.ts";

/** What a node asks for beside its own name, as who runs the network sees it. */
export interface ClaimView {
  /** `shop.example.org`, `2222`. */
  readonly claim: string;
  readonly node: string;
  readonly state: ClaimState;
  /** No node gets it: it is the server's own. */
  readonly isServers?: true;
  readonly isOnline: boolean;
  /** Its holder has it only until another node asks. */
  readonly isReleased: boolean;
}

/** All that nodes ask for, by claim; of one claim its holder first. */
export function listClaims(core: Core): readonly ClaimView[] {
  const { claims } = core.views.ingresses();
  const all = [...claims.all].flatMap(([id, answers]) => {
    const node = core.ledger.nodes.get(id)?.name ?? String(id);
    return answers.map(({ claim, state, isServers }) => {
      const isHolder = claims.holders.get(claim) === id;
      return {
        claim,
        node,
        state,
        ...(isServers === true ? { isServers } : {}),
        isOnline: core.isOnline(id),
        isReleased: isHolder && claims.released.has(claim),
        isHolder,
      };
    });
  });
  const inOrder = all.toSorted(
    (a, b) => a.claim.localeCompare(b.claim, "en", { numeric: true }) || Number(b.isHolder) - Number(a.isHolder),
  );
  return inOrder.map(({ isHolder: _, ...view }) => view);
}

/**
 * Whoever else asks for it, by now or later, gets it; until then its holder keeps it. The answer says who has it now.
 * @throws {Fault} COORDINATION_CLAIM
 */
export async function releaseClaim(core: Core, text: string, by: string): Promise<ClaimView> {
  const claim = foldPattern(text) ?? text;
  await core.exclusive(async () => {
    const holder = core.views.ingresses().claims.holders.get(claim);
    if (holder === undefined) {
      throw new Fault(
        "COORDINATION_CLAIM",
        `Cannot release "${claim.slice(0, 300)}": no node holds it, wanted a domain or port that \`claims list\` shows`,
      );
    }
    await core.ledger.commit([core.entry(by, "claim.release", `node:${holder}`, claim)]);
    core.views.release(claim);
    core.streams.touchAll();
  });
  return listClaims(core).find((one) => one.claim === claim)!;
}
