import { Bench, type BenchContext, populated } from "./bench.ts";
import type { Grant, PolicyDocument } from "./document.ts";

/** Runs `tests` and `sshTests`. The first that fails is a fault: such a policy must not come into force. */
export function runTests(document: PolicyDocument, grants: readonly Grant[], context: BenchContext): void {
  if (document.tests.length === 0 && document.sshTests.length === 0) return;
  const nodes = populated(document, context);
  const bench = new Bench(document, grants, nodes);
  for (const test of document.tests) {
    const problem = bench.trafficProblem(test);
    if (problem !== undefined) throw document.source.fault("POLICY_TEST_FAILED", test.path, "test(s) failed", problem);
  }
  for (const test of document.sshTests) {
    const problem = bench.sshProblem(test);
    if (problem !== undefined) throw document.source.fault("POLICY_TEST_FAILED", test.path, "test(s) failed", problem);
  }
}
