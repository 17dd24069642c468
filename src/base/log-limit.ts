import type { Clock } from "./clock.ts";
import type { Log, LogFields } from "./log.ts";

const WINDOW_MS = 1000;

/** Lines of one event in the current second. */
interface Window {
  startedAt: number;
  written: number;
  dropped: number;
}

/**
 * A log that a stranger cannot fill: of each event at most `mostPerSecond` lines a second are written, and how many were left
 * out is said once the second is over (`log.dropped`). Event names are fixed words of the program, so the table is bounded.
 */
export function limitedLog(log: Log, clock: Clock, mostPerSecond: number = 10): Log {
  const windows = new Map<string, Window>();
  const mayWrite = (event: string): boolean => {
    const now = clock.now();
    let window = windows.get(event);
    if (window === undefined || now - window.startedAt >= WINDOW_MS) {
      window = { startedAt: now, written: 0, dropped: 0 };
      windows.set(event, window);
    }
    if (window.written < mostPerSecond) {
      window.written++;
      return true;
    }
    if (window.dropped++ === 0) {
      const { startedAt } = window;
      const full = window;
      clock.at(startedAt + WINDOW_MS, () => log.warn("log.dropped", { event, lines: full.dropped }));
    }
    return false;
  };
  return limit(log, mayWrite);
}

function limit(log: Log, mayWrite: (event: string) => boolean): Log {
  const at = (level: "debug" | "info" | "warn" | "error") => (event: string, fields?: LogFields) => {
    if (mayWrite(event)) log[level](event, fields);
  };
  return {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    with: (part, fields) => limit(log.with(part, fields), mayWrite),
  };
}
