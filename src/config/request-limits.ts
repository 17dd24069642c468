import { z } from "zod";

/** What a request may have of each; absent = what the gateway has by itself. */
export interface RequestLimits {
  /** Names, values and target of a head. */
  readonly headBytes?: number;
  /** Lines of a head. */
  readonly headFields?: number;
  readonly targetBytes?: number;
  /** Where the mount has no limit of its own. */
  readonly bodyBytes?: number;
}

/** At a time: in all, and of one peer or one visitor's address. */
export interface CrowdLimits {
  /** TLS handshakes under way. */
  readonly handshakes?: number;
  readonly handshakesPerCaller?: number;
  /** Connections on plain ports. */
  readonly connections?: number;
  readonly connectionsPerCaller?: number;
}

/** `limits` of the file. What it says counts for everybody, where `visitors` does not say something else for the Internet. */
export interface LimitsConfig extends RequestLimits, CrowdLimits {
  readonly visitors?: RequestLimits;
}

/** Browsers send a kilobyte; above the most, each connection could hold too much of us. */
const RANGES: Readonly<Record<keyof RequestLimits | keyof CrowdLimits, readonly [least: number, most: number]>> = {
  headBytes: [1024, 1024 * 1024],
  headFields: [16, 10_000],
  targetBytes: [128, 1024 * 1024],
  bodyBytes: [0, 2 ** 40],
  handshakes: [16, 100_000],
  handshakesPerCaller: [1, 100_000],
  connections: [16, 100_000],
  connectionsPerCaller: [1, 100_000],
};

const limit = (name: keyof typeof RANGES): z.ZodOptional<z.ZodNumber> => {
  const [least, most] = RANGES[name];
  const error = `wanted a whole number from ${least} to ${most}`;
  return z.number({ error }).int(error).min(least, error).max(most, error).optional();
};

const sizes = {
  headBytes: limit("headBytes"),
  headFields: limit("headFields"),
  targetBytes: limit("targetBytes"),
  bodyBytes: limit("bodyBytes"),
};

export const limitsSchema: z.ZodType<LimitsConfig> = z.strictObject({
  ...sizes,
  handshakes: limit("handshakes"),
  handshakesPerCaller: limit("handshakesPerCaller"),
  connections: limit("connections"),
  connectionsPerCaller: limit("connectionsPerCaller"),
  visitors: z.strictObject(sizes).optional(),
}) as z.ZodType<LimitsConfig>;
