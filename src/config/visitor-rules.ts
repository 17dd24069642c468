import { z } from "zod";
import type { Prefix } from "../base/address.ts";
import {
  LIMIT_RANGES,
  MOST_PREFIXES,
  parseVisitorPrefix,
  type VisitorLimits,
  type VisitorRules,
} from "../wire/visitor-rules.ts";

const prefixes = z
  .array(
    z.string().refine((text) => parseVisitorPrefix(text) !== undefined, {
      error: "found no IP address and no block of them without host bits, such as 203.0.113.0/24",
    }),
  )
  .min(1, "found an empty list, wanted at least one address");

const limit = (name: keyof VisitorLimits): z.ZodOptional<z.ZodNumber> => {
  const [least, most] = LIMIT_RANGES[name];
  const error = `wanted a whole number from ${least} to ${most}`;
  return z.number({ error }).int(error).min(least, error).max(most, error).optional();
};

/** As the file says it. */
export interface GivenVisitorRules {
  readonly allow?: readonly string[] | undefined;
  readonly deny?: readonly string[] | undefined;
  readonly limits?: { readonly [K in keyof VisitorLimits]?: number | undefined } | undefined;
}

/** `funnel` of an endpoint: open to visitors from the Internet, or only to some of them. */
export const funnelSchema: z.ZodType<boolean | GivenVisitorRules> = z.union([
  z.boolean(),
  z
    .strictObject({
      allow: prefixes.optional(),
      deny: prefixes.optional(),
      limits: z
        .strictObject({
          connectionsPerSecond: limit("connectionsPerSecond"),
          connections: limit("connections"),
          visitorConnectionsPerSecond: limit("visitorConnectionsPerSecond"),
          visitorConnections: limit("visitorConnections"),
          bytesPerSecond: limit("bytesPerSecond"),
        })
        .optional(),
    })
    .refine(({ allow = [], deny = [] }) => allow.length + deny.length <= MOST_PREFIXES, {
      error: `found more than ${MOST_PREFIXES} addresses and blocks`,
    }),
]);

/** Undefined: no rules. */
export function visitorRulesOf(given: boolean | GivenVisitorRules | undefined): VisitorRules | undefined {
  if (typeof given !== "object") return undefined;
  const { allow, deny, limits = {} } = given;
  const known = Object.entries(limits).filter(([, value]) => value !== undefined);
  return {
    ...(Object.fromEntries(known) as VisitorLimits),
    ...(allow === undefined ? {} : { allow: prefixesOf(allow) }),
    ...(deny === undefined ? {} : { deny: prefixesOf(deny) }),
  };
}

const prefixesOf = (list: readonly string[]): readonly Prefix[] =>
  list.flatMap((text) => parseVisitorPrefix(text) ?? []);
