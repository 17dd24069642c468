import { cpuSeconds, LOAD_CORE, OwnProcess, residentMb } from "./processes.ts";

const SECONDS = 2;
const AT_ONCE = 32;
const DOWNLOADS = 4;

/** Where visitors are sent, and whose time it takes. */
export interface Place {
  readonly port: number;
  /** Ours first; then those of ours that stand behind it. */
  readonly pids: readonly number[];
}

/** What short visits and a few downloads at once came to. CPU is told of each process. */
export interface Visits {
  readonly connections: number;
  /** Microseconds a connection. */
  readonly cost: readonly number[];
  readonly megabytes: number;
  /** CPU seconds a gigabyte. */
  readonly bulkCost: readonly number[];
  readonly memory: number;
}

/** A process that visits. */
export class Visitors {
  readonly #process: OwnProcess = OwnProcess.start(LOAD_CORE, "visitors-process.ts");

  async ready(): Promise<void> {
    await this.#process.next();
  }

  async measure({ port, pids }: Place): Promise<Visits> {
    const times = () => pids.map(cpuSeconds);
    const begun = times();
    const short = await this.#ask({ port, seconds: SECONDS, atOnce: AT_ONCE, bulk: false });
    const between = times();
    if (short.failed > short.connections / 100) throw new Error(`${short.failed} visits failed`);
    const memory = residentMb(pids[0]!);
    const bulk = await this.#ask({ port, seconds: SECONDS, atOnce: DOWNLOADS, bulk: true });
    const ended = times();
    return {
      connections: short.connections,
      cost: pids.map((_, i) => ((between[i]! - begun[i]!) * 1e6) / (short.connections * SECONDS)),
      megabytes: bulk.bytes / 1e6,
      bulkCost: pids.map((_, i) => (ended[i]! - between[i]!) / ((bulk.bytes * SECONDS) / 1e9)),
      memory,
    };
  }

  async #ask(question: object): Promise<{ connections: number; bytes: number; failed: number }> {
    return (await this.#process.ask(JSON.stringify(question))) as {
      connections: number;
      bytes: number;
      failed: number;
    };
  }

  end(): Promise<void> {
    return this.#process.end();
  }
}
