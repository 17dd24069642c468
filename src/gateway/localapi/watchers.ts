import type { ServerResponse } from "node:http";
import { messageOf } from "../../base/fault.ts";
import type { Log } from "../../base/log.ts";
import { endedSessions, withoutSession } from "../../config/serve-rules.ts";
import { NOTIFY, type Notify, type StoredServeConfig } from "../../wire/ipn.ts";
import type { LocalApiBackend } from "./backend.ts";

/** Upstream closes a watcher that is further behind (`ipnlocal/bus.go`). */
const MAX_BEHIND = 128;
const MAX_WATCHERS = 256;
/** Each one that fails is a write of somebody else's. */
const MAX_ATTEMPTS = 64;
const FELL_BEHIND = "IPN bus consumer fell behind; closing watch";

/** Members that every message carries, empty where they say nothing. */
const SILENT: Notify = {
  ErrMessage: null,
  LoginFinished: null,
  State: null,
  Prefs: null,
  NetMap: null,
  Engine: null,
  BrowseToURL: null,
  DriveShares: null,
};

/** The open notification streams, and the foreground parts of the serve configuration that live and die with them. */
export class Watchers {
  readonly #backend: LocalApiBackend;
  readonly #version: string;
  readonly #log: Log;
  readonly #streams = new Map<string, ServerResponse>();

  constructor(backend: LocalApiBackend, version: string, log: Log) {
    this.#backend = backend;
    this.#version = version;
    this.#log = log;
  }

  get count(): number {
    return this.#streams.size;
  }

  /** False when there are too many. */
  open(mask: number, response: ServerResponse): boolean {
    if (this.#streams.size >= MAX_WATCHERS) return false;
    response.writeHead(200, { "Content-Type": "application/json" });
    response.flushHeaders();
    let session: string | undefined;
    let behind = 0;
    let isOver = false;
    const early: Notify[] = [];
    const write = (notify: Notify): void => {
      if (isOver) return;
      if (behind >= MAX_BEHIND) {
        isOver = true;
        response.end(`${JSON.stringify({ Version: this.#version, ...SILENT, ErrMessage: FELL_BEHIND })}\n`);
        return;
      }
      behind += 1;
      response.write(`${JSON.stringify(ordered(this.#version, notify))}\n`, () => {
        behind -= 1;
      });
    };
    const watch = this.#backend.watch(mask, (notify) => {
      if (session === undefined) early.push(notify);
      else write(notify);
    });
    session = watch.session;
    this.#streams.set(watch.session, response);
    if ((mask & NOTIFY.initialState) !== 0 && early.length === 0) early.push({});
    early.forEach((notify, at) => {
      const isFirst = at === 0 && (mask & NOTIFY.initialState) !== 0;
      write(isFirst ? { ...notify, SessionID: watch.session } : notify);
    });
    response.once("close", () => {
      isOver = true;
      this.#streams.delete(watch.session);
      watch.close();
      void this.#forget(watch.session);
    });
    return true;
  }

  /** Ends the streams whose foreground part a write took away, and the parts whose stream has ended before they were written. */
  settle(before: StoredServeConfig, after: StoredServeConfig): void {
    for (const session of endedSessions(before, after)) this.#streams.get(session)?.end();
    for (const session of endedSessions(after, before)) if (!this.#streams.has(session)) void this.#forget(session);
  }

  async #forget(session: string): Promise<void> {
    // Somebody else may write in between: then their version is read again.
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt += 1) {
      const { config, etag } = this.#backend.serveConfig();
      if (config?.Foreground?.[session] === undefined) return;
      try {
        await this.#backend.setServeConfig(withoutSession(config, session), etag);
        return;
      } catch (thrown) {
        this.#log.debug("localapi.foreground_retry", { session, reason: messageOf(thrown) });
      }
    }
    this.#log.warn("localapi.foreground_stuck", { session });
  }

  /** A stream that is ended, and not cut off, is no error to who reads it. */
  close(): void {
    for (const response of this.#streams.values()) response.end();
  }
}

function ordered(version: string, notify: Notify): Notify {
  const { Version, SessionID, ...rest } = notify;
  return { Version: Version ?? version, ...(SessionID === undefined ? {} : { SessionID }), ...SILENT, ...rest };
}
