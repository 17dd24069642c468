export interface FaultOptions {
  /** What the operator can do about it. */
  readonly hint?: string;
  readonly cause?: unknown;
  /** Where in a file: both from 1. */
  readonly line?: number;
  readonly column?: number;
}

/**
 * An error that somebody can act on. Callers match `code`, never the message; codes are explained in docs/errors.md.
 * Message: `Cannot <action> "<value>": <found>, <wanted>`.
 */
export class Fault extends Error {
  override readonly name: string = "Fault";
  readonly code: string;
  readonly hint: string | undefined;
  readonly line: number | undefined;
  readonly column: number | undefined;

  constructor(code: string, message: string, options: FaultOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
    this.line = options.line;
    this.column = options.column;
  }
}

/** The message of anything that was thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
