import { CliExit } from "./io.ts";

/**
 * A port that a flag gives; 0 = any.
 * @throws {CliExit}
 */
export function portFlag(flag: string, text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  const port = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (port <= 65_535) return port;
  throw new CliExit(`Cannot use --${flag} "${text}": wanted a port, 0 to 65535`, 2);
}
