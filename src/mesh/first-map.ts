import { Fault } from "../base/fault.ts";
import type { NetworkMap } from "../wire/network-map.ts";

/** Gives the current map at once, if there is one, and every later one. */
type OnMap = (listener: (map: NetworkMap) => void) => () => void;

/**
 * Settles when there is a network map.
 * @throws {Fault} MESH_NOT_JOINED when `signal` aborts before
 */
export async function firstMap(onMap: OnMap, signal: AbortSignal | undefined): Promise<NetworkMap> {
  const { promise, resolve, reject } = Promise.withResolvers<NetworkMap>();
  const giveUp = (): void =>
    reject(new Fault("MESH_NOT_JOINED", "Cannot join the mesh: ended before a network map came"));
  const stop = onMap(resolve);
  if (signal?.aborted === true) giveUp();
  signal?.addEventListener("abort", giveUp, { once: true });
  try {
    return await promise;
  } finally {
    stop();
    signal?.removeEventListener("abort", giveUp);
  }
}
