import { systemClock } from "../base/clock.ts";
import { Fault } from "../base/fault.ts";
import { createLog, type Log, type LogLevel } from "../base/log.ts";
import { limitedLog } from "../base/log-limit.ts";

const LEVELS: readonly LogLevel[] = ["debug", "info", "warn", "error", "silent"];

/** The log of a long-running program, by its `--log`: JSON lines on standard error that a flood cannot fill. */
export function programLog(level: string = "info"): Log {
  const known = LEVELS.find((one) => one === level);
  if (known === undefined) {
    throw new Fault("CLI_USAGE", `Cannot log at level "${level}": wanted one of ${LEVELS.join(", ")}`);
  }
  return limitedLog(createLog(known), systemClock);
}
