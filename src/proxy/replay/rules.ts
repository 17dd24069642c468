import { ADAPTATIONS } from "./adaptations.ts";
import { REFUSALS } from "./refusals.ts";
import type { Rule } from "./rule.ts";

/** Every deliberate difference. The order matters: what refuses comes last, as it overrules everything before. */
export const RULES: readonly Rule[] = [...ADAPTATIONS, ...REFUSALS];
