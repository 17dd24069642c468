import type { SourcePorts } from "./endpoints.ts";

/** `true` or rules for visitors: every port of the endpoint; a number: that one. The text says why not. */
export function leasedPorts(
  given: unknown,
  { first, last }: SourcePorts,
  endpoint: { readonly listen: string; readonly funnel: boolean },
): readonly number[] | { readonly refusal: string } {
  if (given === undefined || given === false) return [];
  const { listen, funnel } = endpoint;
  if (listen !== "tcp" && listen !== "tls-terminated-tcp")
    return { refusal: `found it on an ${listen} listener, wanted tcp or tls-terminated-tcp` };
  if (funnel) return { refusal: "found it beside funnel, wanted one of them: a port is public in one way" };
  if (typeof given !== "number") return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  if (first <= given && given <= last) return [given];
  return { refusal: `found port ${given}, wanted true or one of the endpoint's own ports` };
}
