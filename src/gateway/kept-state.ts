import { generateKeyPairSync } from "node:crypto";
import { loadJson, type SavedForm, saveJson } from "../base/saved-json.ts";
import type { Store } from "../base/store.ts";
import type { StoredServeConfig } from "../wire/ipn.ts";

const SERVE_CONFIG: SavedForm<NonNullable<StoredServeConfig>> = {
  file: "serve.json",
  what: "the stored serve configuration",
  remedy: "declare the services again",
  read: (json) => (typeof json === "object" ? (json ?? {}) : undefined),
};
const ASSERTION_KEY = "assertion-key.pem";

/** The serve configuration that a gateway was left with. @throws {Fault} STATE_DAMAGED */
export async function storedConfig(store: Store): Promise<StoredServeConfig> {
  return (await loadJson(store, SERVE_CONFIG)) ?? null;
}

export function keepConfig(store: Store, config: StoredServeConfig): Promise<void> {
  // Foreground parts end with the process that asked for them.
  const { Foreground: _, ...lasting } = config ?? {};
  return saveJson(store, SERVE_CONFIG.file, lasting);
}

/** It outlives the process: backends keep the public half. */
export async function storedAssertionKey(store: Store): Promise<string> {
  const saved = await store.get(ASSERTION_KEY);
  if (saved !== undefined) return Buffer.from(saved).toString("utf8");
  const pem = generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  await store.set(ASSERTION_KEY, Buffer.from(pem));
  return pem;
}
