import { type FSWatcher, watch } from "node:fs";
import path from "node:path";
import type { Clock } from "../base/clock.ts";
import { Fault, messageOf } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import { plainName } from "../wire/host-name.ts";
import type { Certificate } from "./certificate.ts";
import { findPairs, type OwnSource, type Pair, readPair, signatureOf } from "./own-pairs.ts";
import { wildcardAbove } from "./wanted-names.ts";

/** Writers replace a certificate and its key one after the other. */
const SETTLE_MS = 500;
/** Some file systems tell nobody of changes. */
const POLL_MS = 60_000;

export interface OwnFileStatus {
  /** Of the certificate. */
  readonly file: string;
  readonly names: readonly string[];
  /** Unix ms; absent as long as nothing good was read. */
  readonly notBefore?: number;
  readonly notAfter?: number;
  /** Why what is in the file now is not served; what was served before still is. */
  readonly problem?: string;
  /** When the file was last looked at. */
  readonly observed: number;
}

/** The operator's own certificates. */
export interface OwnFiles {
  /** As the keeper's: synchronous, exact match before wildcard, the same object until the file changes. */
  certificate(serverName: string): Certificate | undefined;
  list(): readonly OwnFileStatus[];
  /** Looks at once. */
  reload(): Promise<void>;
  /** After each change; the result stops it. */
  subscribe(listener: () => void): () => void;
  close(): void;
}

export interface OwnFilesOptions {
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Loads certificates from files and folders, and again when they change: a broken or half-written one is told in the log
 * and in `list`, and the one before it goes on being served.
 */
export async function openOwnFiles(sources: readonly OwnSource[], options: OwnFilesOptions): Promise<OwnFiles> {
  const files = new WatchedFiles(sources, options);
  await files.reload();
  return files;
}

interface Loaded {
  readonly pair: Pair;
  readonly signature: string;
  readonly certificate: Certificate | undefined;
  readonly problem: string | undefined;
}

class WatchedFiles implements OwnFiles {
  readonly #sources: readonly OwnSource[];
  readonly #options: OwnFilesOptions;
  readonly #listeners: Set<() => void> = new Set();
  readonly #watchers: Map<string, FSWatcher> = new Map();
  #loaded: ReadonlyMap<string, Loaded> = new Map();
  #byName: ReadonlyMap<string, Certificate> = new Map();
  #observed = 0;
  #reloading: Promise<void> = Promise.resolve();
  #cancelLook: () => void = () => {};
  #isSettling = false;
  #isClosed = false;

  constructor(sources: readonly OwnSource[], options: OwnFilesOptions) {
    this.#sources = sources;
    this.#options = options;
  }

  certificate(serverName: string): Certificate | undefined {
    const name = plainName(serverName);
    return this.#byName.get(name) ?? this.#byName.get(wildcardAbove(name) ?? "");
  }

  list(): readonly OwnFileStatus[] {
    return [...this.#loaded.values()].map(({ pair, certificate, problem }) => ({
      file: pair.certificate,
      names: certificate?.names ?? [],
      ...(certificate === undefined ? {} : { notBefore: certificate.notBefore, notAfter: certificate.notAfter }),
      ...(problem === undefined ? {} : { problem }),
      observed: this.#observed,
    }));
  }

  reload(): Promise<void> {
    this.#reloading = this.#reloading.then(() => this.#reload());
    return this.#reloading;
  }

  subscribe(listener: () => void): () => void {
    const own = (): void => listener();
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  }

  close(): void {
    this.#isClosed = true;
    this.#cancelLook();
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
  }

  async #reload(): Promise<void> {
    if (this.#isClosed) return;
    this.#isSettling = false;
    const { clock } = this.#options;
    const pairs = (await Promise.all(this.#sources.map((source) => this.#find(source)))).flat();
    const loaded = new Map<string, Loaded>();
    for (const pair of pairs) loaded.set(pair.certificate, await this.#load(pair));
    const changed =
      loaded.size !== this.#loaded.size ||
      [...loaded].some(([file, one]) => this.#loaded.get(file)?.certificate !== one.certificate);
    this.#loaded = loaded;
    this.#observed = clock.wall();
    this.#watch([...this.#sources.map(folderOf), ...pairs.map((pair) => path.dirname(pair.certificate))]);
    if (!this.#isSettling) this.#lookIn(POLL_MS);
    if (!changed) return;
    this.#byName = namesOf([...loaded.values()]);
    for (const listener of this.#listeners) listener();
  }

  /** A folder that cannot be read now is not an empty one. */
  async #find(source: OwnSource): Promise<readonly Pair[]> {
    try {
      return await findPairs(source);
    } catch (error) {
      const folder = path.resolve(folderOf(source));
      this.#options.log.error("certs.folder_unreadable", { folder, error: messageOf(error) });
      const known = [...this.#loaded.values()].map(({ pair }) => pair);
      return known.filter(({ certificate }) => certificate.startsWith(folder + path.sep));
    }
  }

  async #load(pair: Pair): Promise<Loaded> {
    const { clock, log } = this.#options;
    const before = this.#loaded.get(pair.certificate);
    const signature = await signatureOf(pair);
    // What was wrong with it may be its dates, and time goes on.
    if (before?.signature === signature && before.problem === undefined) return before;
    try {
      const certificate = await readPair(pair, clock.wall());
      const { names, notAfter } = certificate;
      log.info("certs.file_loaded", { file: pair.certificate, names, notAfter: new Date(notAfter).toISOString() });
      return { pair, signature, certificate, problem: undefined };
    } catch (error) {
      const problem = error instanceof Fault ? error.message : messageOf(error);
      if (before?.problem !== problem) log.error("certs.file_refused", { file: pair.certificate, error: problem });
      return { pair, signature, certificate: before?.certificate, problem };
    }
  }

  #watch(folders: readonly string[]): void {
    const wanted = new Set(folders);
    for (const [folder, watcher] of this.#watchers) {
      if (wanted.has(folder)) continue;
      watcher.close();
      this.#watchers.delete(folder);
    }
    for (const folder of wanted) {
      if (this.#watchers.has(folder)) continue;
      try {
        const watcher = watch(folder, { persistent: false }, () => this.#changed());
        const stop = (): void => {
          watcher.close();
          this.#watchers.delete(folder);
        };
        watcher.on("error", stop); // the poll goes on
        this.#watchers.set(folder, watcher);
      } catch (error) {
        this.#options.log.debug("certs.not_watched", { folder, error: messageOf(error) });
      }
    }
  }

  /** One look for all that happens within half a second; a folder that never rests does not put it off. */
  #changed(): void {
    if (this.#isSettling) return;
    this.#isSettling = true;
    this.#lookIn(SETTLE_MS);
  }

  #lookIn(ms: number): void {
    const { clock } = this.#options;
    this.#cancelLook();
    if (!this.#isClosed) this.#cancelLook = clock.at(clock.now() + ms, () => void this.reload());
  }
}

const folderOf = (source: OwnSource): string => ("folder" in source ? source.folder : path.dirname(source.certificate));

/** Of several for one name the one that ends last. */
function namesOf(loaded: readonly Loaded[]): ReadonlyMap<string, Certificate> {
  const byName = new Map<string, Certificate>();
  for (const { certificate } of loaded) {
    for (const name of certificate?.names ?? []) {
      if ((byName.get(name)?.notAfter ?? 0) < certificate!.notAfter) byName.set(name, certificate!);
    }
  }
  return byName;
}
