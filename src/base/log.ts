import { pino } from "pino";

export type LogFields = Readonly<Record<string, unknown>>;

/** Lines are a fixed event name and fields: `log.info("link.online", { server, rttMs })`. */
export interface Log {
  debug(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
  /** A log of one part, whose lines carry its name and `fields`. */
  with(part: string, fields?: LogFields): Log;
}

export type LogLevel = "debug" | "info" | "warn" | "error" | "silent";

/** JSON lines on standard error. */
export function createLog(level: LogLevel = "info"): Log {
  return wrap(pino({ level, base: null }, pino.destination({ fd: 2, sync: true })));
}

function wrap(logger: pino.Logger): Log {
  return {
    debug: (event, fields) => logger.debug(fields ?? {}, event),
    info: (event, fields) => logger.info(fields ?? {}, event),
    warn: (event, fields) => logger.warn(fields ?? {}, event),
    error: (event, fields) => logger.error(fields ?? {}, event),
    with: (part, fields) => wrap(logger.child({ part, ...fields })),
  };
}

/** A log that keeps nothing. */
export const silentLog: Log = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  with: () => silentLog,
};
