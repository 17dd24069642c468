import { Fault, type FaultOptions } from "../../base/fault.ts";

const LONGEST_WORDS = 300;

export interface AuthorityFaultOptions extends FaultOptions {
  /** Milliseconds. */
  readonly retryAfter?: number | undefined;
  readonly problem?: string | undefined;
}

/** What went wrong at a CA. */
export class AuthorityFault extends Fault {
  /** The CA asks to be left alone for so many ms. */
  readonly retryAfter: number | undefined;
  /** Type of the CA's problem document without its prefix, such as `rateLimited` (RFC 8555 section 6.7). */
  readonly problem: string | undefined;

  constructor(code: string, message: string, options: AuthorityFaultOptions = {}) {
    super(code, message, options);
    this.retryAfter = options.retryAfter;
    this.problem = options.problem;
  }
}

/** Words of a stranger as they may stand in a log line: short, on one line, without escapes. */
export function wordsOf(text: unknown): string {
  if (typeof text !== "string") return "no explanation";
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is taken out
  const line = text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]+/g, " ").trim();
  return line.length > LONGEST_WORDS ? `${line.slice(0, LONGEST_WORDS)} …` : line;
}
