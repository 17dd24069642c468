/** One at a time by name, within this process, in the order of asking. */
export class Turns {
  readonly #last: Map<string, Promise<void>> = new Map();

  /** Settles when it is the caller's turn; the result ends it. An aborted caller loses its place and nothing else. */
  async take(name: string, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    const before = this.#last.get(name) ?? Promise.resolve();
    let end = (): void => {};
    const mine = new Promise<void>((resolve) => {
      end = resolve;
    });
    const after = before.then(() => mine);
    this.#last.set(name, after);
    void after.then(() => this.#last.get(name) === after && this.#last.delete(name));
    try {
      await orAbort(before, signal);
    } catch (error) {
      end();
      throw error;
    }
    return end;
  }
}

/** `promise`, or the signal's reason as soon as it aborts. */
export async function orAbort<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  let stop = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}
