import { generateKeyPairSync } from "node:crypto";
import { loadJson, type SavedForm, saveJson } from "../base/saved-json.ts";
import type { Store } from "../base/store.ts";
import type { StoredServeConfig } from "../wire/ipn.ts";

/** Under whose name it is that something is served: after a rename the same node has another one. Both empty: nobody's yet. */
export interface Owner {
  readonly id: string;
  readonly name: string;
}

export const NOBODY: Owner = { id: "", name: "" };

type KeptConfig = NonNullable<StoredServeConfig> & { readonly Owner?: Owner };

const SERVE_CONFIG: SavedForm<KeptConfig> = {
  file: "serve.json",
  what: "the stored serve configuration",
  remedy: "declare the services again",
  read: (json) => (typeof json === "object" ? (json ?? {}) : undefined),
};
const ASSERTION_KEY = "assertion-key.pem";

/** What a gateway was left with. @throws {Fault} STATE_DAMAGED */
export async function storedConfig(
  store: Store,
): Promise<{ readonly config: StoredServeConfig; readonly owner: Owner }> {
  const kept = await loadJson(store, SERVE_CONFIG);
  if (kept === undefined) return { config: null, owner: NOBODY };
  const { Owner: owner = NOBODY, ...config } = kept;
  return { config, owner };
}

export function keepConfig(store: Store, config: StoredServeConfig, owner: Owner): Promise<void> {
  // Foreground parts end with the process that asked for them.
  const { Foreground: _, ...lasting } = config ?? {};
  return saveJson(store, SERVE_CONFIG.file, { ...lasting, Owner: owner });
}

/** It outlives the process: backends keep the public half. */
export async function storedAssertionKey(store: Store): Promise<string> {
  const saved = await store.get(ASSERTION_KEY);
  if (saved !== undefined) return Buffer.from(saved).toString("utf8");
  const pem = generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  await store.set(ASSERTION_KEY, Buffer.from(pem));
  return pem;
}
