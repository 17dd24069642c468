import { createInterface } from "node:readline/promises";
import type { CliIo } from "./io.ts";

/** Asks on the terminal; the first line, or nothing at its end and where Ctrl+C is the answer. */
export async function ask(question: string, io: CliIo): Promise<string> {
  io.stdout(question);
  const lines = createInterface({ input: io.stdin, signal: io.signal });
  try {
    for await (const line of lines) return line.trim();
    return "";
  } finally {
    lines.close();
  }
}

export const isYes = (answer: string): boolean => /^y(es)?$/i.test(answer);
