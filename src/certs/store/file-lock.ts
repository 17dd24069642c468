import { mkdir, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import type { Clock } from "../../base/clock.ts";
import { pause } from "../../base/pause.ts";
import type { Random } from "../../base/random.ts";
import { BeatingLease } from "./beating-lease.ts";
import { leaseLost, STALE_MS } from "./certificate-store.ts";
import { Turns } from "./turns.ts";

const FIRST_POLL_MS = 25;
const LONGEST_POLL_MS = 400;
const RELEASED = "released";

export interface FileLockOptions {
  readonly clock: Clock;
  readonly random: Random;
}

/**
 * Locks in a folder that processes share, one folder a name, in it a file a generation; the highest is in force. A
 * generation is made once, by exclusive creation, so of all who find the one before it released or dead only one is next;
 * the highest file is never removed. A holder changes its file every 5 s; whoever waits takes it for dead when it saw no
 * change during 10 s of its own monotonic time: no clock of a machine and no time stamp of a file is asked.
 */
export class FileLocks {
  readonly #folder: string;
  readonly #options: FileLockOptions;
  readonly #turns: Turns = new Turns();

  constructor(folder: string, options: FileLockOptions) {
    this.#folder = folder;
    this.#options = options;
  }

  async acquire(name: string, signal: AbortSignal): Promise<FileLease> {
    const end = await this.#turns.take(name, signal); // of this process only one stands in the queue of all
    try {
      const folder = path.join(this.#folder, name);
      await mkdir(folder, { recursive: true, mode: 0o700 });
      return await this.#wait(folder, name, end, signal);
    } catch (error) {
      end();
      throw error;
    }
  }

  async #wait(folder: string, name: string, end: () => void, signal: AbortSignal): Promise<FileLease> {
    const { clock, random } = this.#options;
    let seen = { generation: -1, content: "", unchangedMs: 0, at: clock.now() };
    let wait = 0;
    for (let poll = FIRST_POLL_MS; ; poll = Math.min(poll * 2, LONGEST_POLL_MS)) {
      signal.throwIfAborted();
      const now = clock.now();
      const generation = await highestGeneration(folder);
      const content = generation === 0 ? RELEASED : await readContent(path.join(folder, fileOf(generation)));
      if (generation !== seen.generation || content !== seen.content) {
        seen = { generation, content, unchangedMs: 0, at: now };
      } else {
        // Time in which this process did not look (it was stopped, and perhaps the holder with it) does not count.
        const counted = Math.min(now - seen.at, 2 * wait);
        seen = { generation, content, unchangedMs: seen.unchangedMs + counted, at: now };
      }
      if (content.startsWith(RELEASED) || seen.unchangedMs >= STALE_MS) {
        if (!(await createGeneration(folder, generation + 1))) continue;
        return new FileLease(folder, name, generation + 1, this.#options, end);
      }
      wait = poll * (1 + random(1)[0]! / 510);
      await pause(clock, wait, signal);
    }
  }
}

export class FileLease extends BeatingLease {
  readonly #folder: string;
  readonly #generation: number;
  readonly #token: string;
  #beats = 0;

  constructor(folder: string, name: string, generation: number, { clock, random }: FileLockOptions, end: () => void) {
    super(name, clock, clock.now(), end);
    this.#folder = folder;
    this.#generation = generation;
    this.#token = Buffer.from(random(12)).toString("hex");
    this.begin();
  }

  /** @throws {Fault} CERT_LEASE_LOST */
  async check(): Promise<void> {
    if (this.isLate || !(await this.#isHighest())) this.giveUp();
    if (this.isOver) throw leaseLost(this.name);
  }

  async #isHighest(): Promise<boolean> {
    return (await highestGeneration(this.#folder)) === this.#generation;
  }

  #content(): string {
    return `held ${this.#token} ${String(this.#beats).padStart(12, "0")}\n`;
  }

  /** In place, and only if it is there: a generation is nobody else's. */
  async #write(content: string): Promise<void> {
    await writeFile(path.join(this.#folder, fileOf(this.#generation)), content, { flag: "r+" });
  }

  protected override async beat(): Promise<boolean> {
    if (!(await this.#isHighest())) return false;
    this.#beats++;
    await this.#write(this.#content());
    return true;
  }

  protected override async letGo(): Promise<void> {
    await this.#write(RELEASED.padEnd(this.#content().length));
  }
}

const fileOf = (generation: number): string => String(generation).padStart(12, "0");

/** 0 when nobody ever held it. */
async function highestGeneration(folder: string): Promise<number> {
  const names = await readdir(folder);
  return names.reduce((highest, name) => (/^\d{12}$/.test(name) ? Math.max(highest, Number(name)) : highest), 0);
}

async function readContent(file: string): Promise<string> {
  try {
    return await readFile(file, "latin1");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return ""; // overtaken meanwhile; the next look tells
    throw error;
  }
}

/** False when another process was first. */
async function createGeneration(folder: string, generation: number): Promise<boolean> {
  const file = path.join(folder, fileOf(generation));
  try {
    await (await open(file, "wx", 0o600)).close();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
  // A slow process may make a generation again that was held, released and cleared away: the highest decides.
  if ((await highestGeneration(folder)) !== generation) {
    await rm(file, { force: true });
    return false;
  }
  for (const name of await readdir(folder)) {
    // The one before stays, for whoever reads the folder at this moment.
    if (Number(name) < generation - 1) await rm(path.join(folder, name), { force: true });
  }
  return true;
}
