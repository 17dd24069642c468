import { generateKeyPairSync } from "node:crypto";
import { Fault } from "../base/fault.ts";
import type { Store } from "../base/store.ts";
import type { StoredServeConfig } from "../wire/ipn.ts";

export const SERVE_CONFIG: string = "serve.json";
const ASSERTION_KEY = "assertion-key.pem";

/** The serve configuration that a gateway was left with. */
export async function storedConfig(store: Store): Promise<StoredServeConfig> {
  const saved = await store.get(SERVE_CONFIG);
  if (saved === undefined) return null;
  try {
    return JSON.parse(Buffer.from(saved).toString("utf8")) as StoredServeConfig;
  } catch (error) {
    throw new Fault("STATE_DAMAGED", "Cannot read the stored serve configuration: it is not JSON", {
      cause: error,
      hint: `Remove the file ${SERVE_CONFIG} from the state folder and declare the services again.`,
    });
  }
}

/** It outlives the process: backends keep the public half. */
export async function storedAssertionKey(store: Store): Promise<string> {
  const saved = await store.get(ASSERTION_KEY);
  if (saved !== undefined) return Buffer.from(saved).toString("utf8");
  const pem = generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  await store.set(ASSERTION_KEY, Buffer.from(pem));
  return pem;
}
