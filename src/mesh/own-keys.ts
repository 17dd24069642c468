import type { Log } from "../base/log.ts";
import type { Random } from "../base/random.ts";
import type { Store } from "../base/store.ts";
import { generatePrivateKey, publicKeyOf } from "../crypto/keys.ts";
import { type Identity, loadIdentity, saveIdentity, TIMESTAMP_RESERVE_MS } from "./state.ts";

/** The node's own keys, and the copy of them that outlives the process. */
export class OwnKeys {
  readonly #store: Store;
  readonly #random: Random;
  #identity: Identity;
  /** Writes go one after the other: they share a file. */
  #writing: Promise<void> = Promise.resolve();

  private constructor(store: Store, random: Random, identity: Identity) {
    this.#store = store;
    this.#random = random;
    this.#identity = identity;
  }

  static async load(store: Store, random: Random): Promise<OwnKeys> {
    return new OwnKeys(store, random, await loadIdentity(store, random));
  }

  /** Private. */
  get machineKey(): Uint8Array {
    return this.#identity.machineKey;
  }

  /** Private; `old` is the one before, once there was any. */
  get nodeKey(): { readonly private: Uint8Array; readonly old?: Uint8Array } {
    const { nodeKey, oldNodeKey } = this.#identity;
    return { private: nodeKey, ...(oldNodeKey === undefined ? {} : { old: oldNodeKey }) };
  }

  get nodePublicKey(): Uint8Array {
    return publicKeyOf(this.#identity.nodeKey);
  }

  get timestampFloor(): number {
    return this.#identity.timestampFloor;
  }

  /** The Noise key of the server at `url`, if it was ever seen. */
  serverKeyOf(url: string): string | undefined {
    const { server } = this.#identity;
    return server?.url === url ? server.key : undefined;
  }

  /** The server has taken this key in place of the present one. */
  adopt(privateKey: Uint8Array): Promise<void> {
    return this.#change({ nodeKey: privateKey, oldNodeKey: this.#identity.nodeKey });
  }

  rememberServer(url: string, key: string): Promise<void> {
    if (this.serverKeyOf(url) === key) return Promise.resolve();
    return this.#change({ server: { url, key } });
  }

  /** After a logout: another node on the same machine, which trusts no server yet. */
  forget(): Promise<void> {
    const { machineKey, timestampFloor } = this.#identity;
    this.#identity = { machineKey, nodeKey: generatePrivateKey(this.#random), timestampFloor };
    return this.#change({});
  }

  /** Keeps the stored floor ahead of the timestamps in use. */
  reserveTimestamps(wall: number, log: Log): void {
    if (wall < this.#identity.timestampFloor) return;
    this.#change({ timestampFloor: wall + TIMESTAMP_RESERVE_MS }).catch((error: unknown) =>
      log.error("state.unsaved", { error }),
    );
  }

  #change(change: Partial<Identity>): Promise<void> {
    this.#identity = { ...this.#identity, ...change };
    const identity = this.#identity;
    const write = this.#writing.then(() => saveIdentity(this.#store, identity));
    this.#writing = write.catch(() => {});
    return write;
  }
}
