import { Worker } from "node:worker_threads";
import { Fault, messageOf } from "../../base/fault.ts";
import type { Change, CoordinationState } from "../records.ts";
import type { CoordinationStore, LogQuery, StateFiles, StoredLogEntry } from "./coordination-store.ts";

export type SqliteQuestion = { readonly id: number } & (
  | { readonly ask: "open" | "load" | "close" }
  | { readonly ask: "commit"; readonly changes: readonly Change[] }
  | { readonly ask: "log"; readonly query: LogQuery }
  | { readonly ask: "backup"; readonly target: string; readonly files: StateFiles }
);
type Question = SqliteQuestion extends infer Each ? (Each extends unknown ? Omit<Each, "id"> : never) : never;

export interface SqliteAnswer {
  readonly id: number;
  readonly result?: unknown;
  readonly failure?: { readonly code: string; readonly message: string; readonly hint: string | undefined };
}

/** SQLite in a worker, so that its waits for the disk do not hold up the network. */
export class SqliteCoordinationStore implements CoordinationStore {
  readonly #worker: Worker;
  readonly #waiting: Map<number, PromiseWithResolvers<unknown>> = new Map();
  #next = 1;
  #closed: Fault | undefined;

  private constructor(file: string) {
    // The same folder in the source tree and in the build, but for the ending.
    const ending = import.meta.url.endsWith(".ts") ? "ts" : "js";
    this.#worker = new Worker(new URL(`./sqlite-worker.${ending}`, import.meta.url), {
      workerData: { file },
      // Options of the process, such as --input-type, are not for a file that Node loads.
      execArgv: [],
    });
    this.#worker.on("message", (answer: SqliteAnswer) => this.#settle(answer));
    this.#worker.on("error", (thrown) => this.#fail(messageOf(thrown)));
    this.#worker.on("exit", () => this.#fail("its worker ended"));
  }

  /** Opens or creates the file and brings it to the current schema. */
  static async open(file: string): Promise<SqliteCoordinationStore> {
    const store = new SqliteCoordinationStore(file);
    try {
      await store.#ask({ ask: "open" });
    } catch (thrown) {
      await store.#worker.terminate();
      throw thrown;
    }
    return store;
  }

  async load(): Promise<CoordinationState> {
    return (await this.#ask({ ask: "load" })) as CoordinationState;
  }

  async commit(changes: readonly Change[]): Promise<void> {
    await this.#ask({ ask: "commit", changes });
  }

  async log(query: LogQuery): Promise<readonly StoredLogEntry[]> {
    return (await this.#ask({ ask: "log", query })) as readonly StoredLogEntry[];
  }

  /** A consistent copy under write load; never copy the file itself. `target` must not exist. */
  async backup(target: string, files: StateFiles): Promise<void> {
    await this.#ask({ ask: "backup", target, files });
  }

  async close(): Promise<void> {
    if (this.#closed !== undefined) return;
    const exited = new Promise<void>((resolve) => void this.#worker.once("exit", () => resolve()));
    const asked = this.#ask({ ask: "close" });
    this.#closed = closedFault("it was closed");
    await asked;
    await exited;
  }

  #ask(question: Question): Promise<unknown> {
    if (this.#closed !== undefined) return Promise.reject(this.#closed);
    const id = this.#next++;
    const waiting = Promise.withResolvers<unknown>();
    this.#waiting.set(id, waiting);
    this.#worker.postMessage({ ...question, id });
    return waiting.promise;
  }

  #settle({ id, result, failure }: SqliteAnswer): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (failure === undefined) waiting?.resolve(result);
    else
      waiting?.reject(
        new Fault(failure.code, failure.message, failure.hint === undefined ? {} : { hint: failure.hint }),
      );
  }

  #fail(found: string): void {
    this.#closed ??= closedFault(found);
    for (const waiting of this.#waiting.values()) waiting.reject(this.#closed);
    this.#waiting.clear();
  }
}

function closedFault(found: string): Fault {
  return new Fault("COORDINATION_STORE_CLOSED", `Cannot use the coordination store: ${found}, wanted an open one`);
}
