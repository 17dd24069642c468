import { LinkedList } from "../base/linked-list.ts";

/** Of each caller's signal: what is to be done about his connections. */
const cutsOf: WeakMap<AbortSignal, LinkedList<() => void>> = new WeakMap();

/**
 * Runs `cut` when `revoked` aborts; the result takes that back. All visitors of a relay have one signal, and an
 * `EventTarget` looks through its listeners whenever one comes or goes: with 10,000 of them that is felt.
 */
export function onRevoked(revoked: AbortSignal, cut: () => void): () => void {
  const cuts = cutsOf.get(revoked) ?? watched(revoked);
  const place = cuts.add(cut);
  return () => void cuts.remove(place);
}

function watched(revoked: AbortSignal): LinkedList<() => void> {
  const cuts = new LinkedList<() => void>();
  cutsOf.set(revoked, cuts);
  revoked.addEventListener("abort", () => cutAll(cuts.toArray()), { once: true });
  return cuts;
}

/** One that fails does not spare the others. */
function cutAll(cuts: readonly (() => void)[]): void {
  for (const [i, cut] of cuts.entries()) {
    try {
      cut();
    } catch (thrown) {
      cutAll(cuts.slice(i + 1));
      throw thrown;
    }
  }
}
