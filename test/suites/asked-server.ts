type Args = Readonly<Record<string, unknown>>;

export interface AskedServer {
  /** Verbs and what came with them. */
  readonly asked: readonly (readonly [verb: string, args: Args | undefined])[];
  readonly client: { ask<T>(verb: string, args?: Args): Promise<T> };
}

/** A server that answers whatever it is asked with this. */
export function askedServer(answer: unknown): AskedServer {
  const asked: [string, Args | undefined][] = [];
  const ask = async <T>(verb: string, args?: Args): Promise<T> => {
    asked.push([verb, args]);
    return answer as T;
  };
  return { asked, client: { ask } };
}
