/** Of each caller's signal: what is to be done about his connections. */
const cutsOf: WeakMap<AbortSignal, Set<() => void>> = new WeakMap();

/**
 * Runs `cut` when `revoked` aborts; the result takes that back. All visitors of a relay have one signal, and an
 * `EventTarget` looks through its listeners whenever one comes or goes: with 10,000 of them that is felt.
 */
export function onRevoked(revoked: AbortSignal, cut: () => void): () => void {
  const cuts = cutsOf.get(revoked) ?? watched(revoked);
  cuts.add(cut);
  return () => void cuts.delete(cut);
}

function watched(revoked: AbortSignal): Set<() => void> {
  const cuts = new Set<() => void>();
  cutsOf.set(revoked, cuts);
  revoked.addEventListener("abort", () => cutAll([...cuts]), { once: true });
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
