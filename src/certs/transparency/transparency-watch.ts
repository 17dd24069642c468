import { X509Certificate } from "node:crypto";
import type { Clock } from "../../base/clock.ts";
import { messageOf } from "../../base/fault.ts";
import type { Log } from "../../base/log.ts";
import { pause } from "../../base/pause.ts";
import { loadJson, saveJson } from "../../base/saved-json.ts";
import type { Store } from "../../base/store.ts";
import type { Certificate } from "../certificate.ts";
import type { Leaf } from "./log-entry.ts";
import { LogFollower } from "./log-follower.ts";
import { keyDigest, seenCertificate } from "./seen-certificate.ts";
import type { TransparencyLog } from "./transparency-log.ts";
import { alarmText, KEPT, type Kept, NOTHING_KEPT, type UnknownCertificate } from "./watch-record.ts";
import type { WatchedNames } from "./watched-names.ts";

export type { UnknownCertificate } from "./watch-record.ts";

export interface WatchOptions {
  readonly logs: readonly TransparencyLog[];
  readonly names: () => WatchedNames;
  /** What this gateway presents. */
  readonly held: () => readonly Certificate[];
  /** PEM of whatever else is ours, such as what others who share the store have; asked only in doubt. */
  readonly stored?: () => Promise<readonly string[]>;
  /** SHA-256 of further keys that are ours, in hex. */
  readonly known: readonly string[];
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly everyMs: number;
  /** Between two requests to one log. */
  readonly pauseMs?: number;
}

/** What was seen of one log. Times are Unix ms. */
export interface LogStatus {
  readonly url: string;
  /** When everything that it had signed was last read; 0: never yet. */
  readonly checkedAt: number;
  /** Entries that are not read yet. */
  readonly behind: number;
  readonly problem?: string;
}

/** A CA logs a certificate before it hands it out: for so long a new key may be one that we are about to get. */
const GRACE_MS = 5 * 60_000;
const REVIEW_MS = 60_000;
const PAUSE_MS = 200;
const SAVE_EVERY_MS = 5000;
const MOST_WAITING = 1000;
const MOST_ALARMS = 100;
const MOST_KEYS = 2000;
/** An alarm within the hour is what the watch is for. */
const LATE_MS = 3_600_000;
/** The longest that a log may take to show what it has promised (RFC 6962 section 3: the maximum merge delay). */
const MERGE_DELAY_MS = 24 * 3_600_000;

/** Looks through public logs for certificates of our names whose keys are not ours (FN-12). */
export class TransparencyWatch {
  readonly #options: WatchOptions;
  readonly #followers: readonly LogFollower[];
  readonly #seen: Map<string, { checkedAt: number; headAt: number; problem?: string }> = new Map();
  readonly #alarms: Map<string, UnknownCertificate>;
  readonly #waiting: Map<string, UnknownCertificate>;
  /** Oldest first. */
  readonly #keys: Set<string>;
  readonly #digests: WeakMap<Certificate, string> = new WeakMap();
  readonly #closing: AbortController = new AbortController();
  readonly #stops: Set<() => void> = new Set();
  readonly #running: Set<Promise<void>> = new Set();
  #savedAt = 0;
  readonly #startedAt: number;

  private constructor(options: WatchOptions, kept: Kept) {
    this.#options = options;
    this.#startedAt = options.clock.wall();
    this.#followers = options.logs.map((log) => new LogFollower(log, kept.logs[log.url]));
    this.#alarms = new Map(kept.alarms.map((one) => [idOf(one), one]));
    this.#waiting = new Map(kept.waiting.map((one) => [idOf(one), one]));
    this.#keys = new Set(kept.keys);
  }

  /** @throws {Fault} STATE_DAMAGED */
  static async open(options: WatchOptions): Promise<TransparencyWatch> {
    const watch = new TransparencyWatch(options, (await loadJson(options.store, KEPT)) ?? NOTHING_KEPT);
    for (const follower of watch.#followers) watch.#every(options.everyMs, () => watch.#follow(follower));
    watch.#every(REVIEW_MS, () => watch.#review());
    return watch;
  }

  get alarms(): readonly UnknownCertificate[] {
    return [...this.#alarms.values()];
  }

  get logs(): readonly LogStatus[] {
    return this.#followers.map((follower) => {
      const { url } = follower.log;
      const { checkedAt = 0 } = this.#seen.get(url) ?? {};
      const problem = this.#problemOf(follower);
      return { url, checkedAt, behind: follower.behind, ...(problem === undefined ? {} : { problem }) };
    });
  }

  /** What is wrong, in words. */
  get problems(): readonly string[] {
    const logs = this.logs.flatMap(({ problem }) => problem ?? []);
    return [...this.alarms.map(alarmText), ...logs];
  }

  #problemOf({ log: { url }, forkedAt, behind }: LogFollower): string | undefined {
    if (forkedAt !== undefined) return `The transparency log ${url} has shown entries that it has not signed`;
    const seen = this.#seen.get(url);
    const now = this.#options.clock.wall();
    const since = Math.max(seen?.checkedAt ?? 0, this.#startedAt);
    if (now - since > LATE_MS) {
      const why = seen?.problem ?? `${behind} entries are to be read`;
      return `The transparency log ${url} was not read to its end for ${Math.floor((now - since) / 60_000)} minutes: ${why}`;
    }
    if (seen !== undefined && seen.headAt > 0 && now - seen.headAt > MERGE_DELAY_MS) {
      return `The transparency log ${url} shows nothing newer than ${new Date(seen.headAt).toISOString()}`;
    }
    return undefined;
  }

  /** Runs `work` now and `ms` after each end. */
  #every(ms: number, work: () => Promise<void>): void {
    const { clock, log } = this.#options;
    const run = (): void => {
      this.#stops.delete(stop);
      const done: Promise<void> = work()
        .catch((error: unknown) => log.error("certificates.watch_failed", { error: messageOf(error) }))
        .then(() => {
          this.#running.delete(done);
          if (this.#closing.signal.aborted) return;
          stop = clock.at(clock.now() + ms, run);
          this.#stops.add(stop);
        });
      this.#running.add(done);
    };
    let stop = (): void => {};
    run();
  }

  async #follow(follower: LogFollower): Promise<void> {
    const { clock, log, pauseMs = PAUSE_MS } = this.#options;
    const { signal } = this.#closing;
    const { url } = follower.log;
    const names = this.#options.names();
    const seen = this.#seen.get(url) ?? { checkedAt: 0, headAt: 0 };
    this.#seen.set(url, seen);
    try {
      const head = await follower.follow({
        signal,
        wall: () => clock.wall(),
        onLeaf: (index, leaf) => this.#look(names, url, index, leaf),
        onStep: async () => {
          if (clock.now() - this.#savedAt >= SAVE_EVERY_MS) await this.#save();
          await pause(clock, pauseMs, signal);
        },
      });
      if (seen.checkedAt === 0) log.info("certificates.watching", { log: url, entries: head.size });
      Object.assign(seen, { checkedAt: clock.wall(), headAt: head.timestamp });
      delete seen.problem;
    } catch (error) {
      if (signal.aborted) return;
      seen.problem = messageOf(error);
      log.warn("certificates.log_unread", { log: url, error: seen.problem });
    }
    await this.#save();
  }

  #look(names: WatchedNames, log: string, index: number, { entry }: Leaf): void {
    if (!names.mayBeIn(entry.certificate)) return;
    const found = seenCertificate(entry);
    if (found === undefined) return void this.#options.log.warn("certificates.unreadable", { log, index });
    const ours = names.among(found.names);
    if (ours.length === 0 || this.#isKnown(found.key)) return;
    const one = { ...found, names: ours, log, index, loggedAt: entry.timestamp, seenAt: this.#options.clock.wall() };
    if (this.#alarms.has(idOf(one)) || this.#waiting.has(idOf(one))) return;
    if (this.#waiting.size >= MOST_WAITING) this.#sound(idOf(one), one);
    else this.#waiting.set(idOf(one), one);
  }

  #isKnown(key: string): boolean {
    return this.#keys.has(key) || this.#options.known.includes(key);
  }

  /** What is still unknown when an order of ours would have brought it is somebody else's. */
  async #review(): Promise<void> {
    const { held, stored, clock } = this.#options;
    for (const certificate of held()) this.#rememberHeld(certificate);
    const now = clock.wall();
    const isDue = (one: UnknownCertificate): boolean => !this.#isKnown(one.key) && now - one.seenAt >= GRACE_MS;
    if ([...this.#waiting.values()].some(isDue)) {
      for (const pem of (await stored?.()) ?? []) this.#remember(keyDigest(new X509Certificate(pem)));
    }
    for (const [id, one] of this.#waiting) {
      if (isDue(one)) this.#sound(id, one);
      if (isDue(one) || this.#isKnown(one.key)) this.#waiting.delete(id);
    }
    for (const [id, one] of this.#alarms) if (one.notAfter < now || this.#isKnown(one.key)) this.#alarms.delete(id);
  }

  #rememberHeld(certificate: Certificate): void {
    const digest = this.#digests.get(certificate) ?? keyDigest(new X509Certificate(certificate.chain));
    this.#digests.set(certificate, digest);
    this.#remember(digest);
  }

  #remember(digest: string): void {
    this.#keys.delete(digest); // the newest is last
    this.#keys.add(digest);
    for (const oldest of this.#keys) {
      if (this.#keys.size <= MOST_KEYS) break;
      this.#keys.delete(oldest);
    }
  }

  #sound(id: string, one: UnknownCertificate): void {
    const { names, issuer, serial, key, log, index } = one;
    this.#options.log.error("certificates.unknown", { names, issuer, serial, key, log, index });
    this.#alarms.set(id, one);
    for (const oldest of this.#alarms.keys()) {
      if (this.#alarms.size <= MOST_ALARMS) break;
      this.#alarms.delete(oldest);
    }
    this.#save().catch((error: unknown) =>
      this.#options.log.error("certificates.watch_failed", { error: messageOf(error) }),
    );
  }

  async #save(): Promise<void> {
    this.#savedAt = this.#options.clock.now();
    const kept: Kept = {
      logs: Object.fromEntries(this.#followers.map(({ log: { url }, place }) => [url, place])),
      alarms: [...this.#alarms.values()],
      waiting: [...this.#waiting.values()],
      keys: [...this.#keys],
    };
    await saveJson(this.#options.store, KEPT.file, kept);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    for (const stop of this.#stops) stop();
    await Promise.all(this.#running);
  }
}

const idOf = ({ issuer, serial }: UnknownCertificate): string => `${issuer} ${serial}`;
