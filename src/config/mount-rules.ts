import { z } from "zod";

const LARGEST_BODY_BYTES = 2 ** 40;

/** What a mount asks beyond upstream's configuration. */
export const rulesSchema: {
  readonly [K in keyof GivenRules]-?: z.ZodOptional<z.ZodType<Exclude<GivenRules[K], undefined>>>;
} = {
  crossSite: z.enum(["pass", "deny"]).optional(),
  otherNames: z.array(z.string().regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/, "found no header name")).optional(),
  onOtherName: z.enum(["drop", "reject"]).optional(),
  bodyBytes: z.number().int().min(0).max(LARGEST_BODY_BYTES).optional(),
  door: z.string().nullable().optional(),
  guestsAsUsers: z
    .string()
    .refine((text) => /^https?:\/\//.test(text) && URL.canParse(text), { error: "found no issuer, wanted https://…" })
    .optional(),
  keepAliveAfterBody: z.boolean().optional(),
};

/**
 * What becomes of requests that a mount would rather not see; absent = as upstream. The proxy has its own words for the same
 * (`RouteRules`): it knows no file.
 */
export interface MountRules {
  /** Requests that another site's page makes with the caller's identity. */
  readonly crossSite?: "pass" | "deny";
  /** Header names with other characters than letters, digits and dashes that may pass. */
  readonly otherNames?: readonly string[];
  /** What becomes of a request with any other such name. */
  readonly onOtherName?: "drop" | "reject";
  /** Longest body of a request. */
  readonly bodyBytes?: number;
  /** The door before it. */
  readonly door?: string;
  /** The one issuer whose guests count as users. */
  readonly guestsAsUsers?: string;
  /** The backend, as the serve configuration names it, whose connections are kept after a request with a body. */
  readonly keepAliveAfterBody?: string;
}

/** As the file says it: `null` takes a door away that the endpoint has, and the backend is the mount's target. */
export type GivenRules = Omit<MountRules, "door" | "keepAliveAfterBody"> & {
  readonly door?: string | null;
  readonly keepAliveAfterBody?: boolean;
};

export function rulesOf({
  crossSite,
  otherNames,
  onOtherName,
  bodyBytes,
  door,
  guestsAsUsers,
}: GivenRules): MountRules {
  return {
    ...(crossSite === undefined ? {} : { crossSite }),
    ...(otherNames === undefined ? {} : { otherNames }),
    ...(onOtherName === undefined ? {} : { onOtherName }),
    ...(bodyBytes === undefined ? {} : { bodyBytes }),
    ...(door === undefined || door === null ? {} : { door }),
    ...(guestsAsUsers === undefined ? {} : { guestsAsUsers }),
  };
}

/** What a part inherits of the whole: whoever is stopped at an endpoint is stopped at all of its names and mounts. */
export function inherited({ door, guestsAsUsers }: GivenRules): GivenRules {
  return {
    ...(door === undefined ? {} : { door }),
    ...(guestsAsUsers === undefined ? {} : { guestsAsUsers }),
  };
}
