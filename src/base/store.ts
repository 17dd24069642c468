/** State of a node that must outlive it: small values by name. */
export interface Store {
  get(name: string): Promise<Uint8Array | undefined>;
  /** Durable when the promise settles; a crash leaves the old or the new value, never a part. */
  set(name: string, value: Uint8Array): Promise<void>;
  delete(name: string): Promise<void>;
}

/** A store that forgets everything with the process. */
export function memoryStore(): Store {
  const values = new Map<string, Uint8Array>();
  return {
    async get(name) {
      return values.get(name)?.slice();
    },
    async set(name, value) {
      values.set(name, value.slice());
    },
    async delete(name) {
      values.delete(name);
    },
  };
}
