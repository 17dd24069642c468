import { messageOf } from "../base/fault.ts";
import type { Log } from "../base/log.ts";

/** `EX_SOFTWARE` of sysexits.h: a supervisor starts the program again. */
const EXIT_STATUS = 70;

/**
 * A fault of ours that nobody caught leaves the program in a state that nobody knows: one line, and the end (PR-9). Only the
 * message and the places in our code are written, never the values that were at hand.
 */
export function exitOnCrash(log: Log): void {
  const crash = (thrown: unknown): void => {
    const stack = thrown instanceof Error ? (thrown.stack ?? "") : "";
    const frames = stack.split("\n").filter((line) => line.startsWith("    at "));
    log.error("process.crashed", { error: messageOf(thrown), frames: frames.map((line) => line.trim()) });
    process.exit(EXIT_STATUS);
  };
  process.on("uncaughtException", crash);
  process.on("unhandledRejection", crash);
}
