import { Fault } from "../base/fault.ts";
import type { Random } from "../base/random.ts";
import type { Store } from "../base/store.ts";
import { formatKey, generatePrivateKey, parseKey } from "../crypto/keys.ts";

/** The keys that make a node the same node after a restart. */
export interface Identity {
  readonly machineKey: Uint8Array;
  readonly nodeKey: Uint8Array;
  /** The key before the last rotation: sent along on every register call since. */
  readonly oldNodeKey?: Uint8Array;
  /** Wall ms of the newest WireGuard timestamp that we may have sent; ours must be greater after a restart. */
  readonly timestampFloor: number;
  /** The server that we joined: another key at the same URL is refused. */
  readonly server?: { readonly url: string; readonly key: string };
}

/** The file of it. */
export const IDENTITY = "identity.json";
/** Saved ahead of use, so that a write a handshake is not needed: a restart begins this much later at the worst. */
export const TIMESTAMP_RESERVE_MS: number = 60_000;

export async function loadIdentity(store: Store, random: Random): Promise<Identity> {
  const bytes = await store.get(IDENTITY);
  if (bytes === undefined) {
    const identity = { machineKey: generatePrivateKey(random), nodeKey: generatePrivateKey(random), timestampFloor: 0 };
    await saveIdentity(store, identity);
    return identity;
  }
  return parseIdentity(Buffer.from(bytes).toString("utf8"));
}

export async function saveIdentity(store: Store, identity: Identity): Promise<void> {
  const { machineKey, nodeKey, oldNodeKey, timestampFloor, server } = identity;
  const document = {
    version: 1,
    machineKey: formatKey("privkey", machineKey),
    nodeKey: formatKey("privkey", nodeKey),
    ...(oldNodeKey === undefined ? {} : { oldNodeKey: formatKey("privkey", oldNodeKey) }),
    timestampFloor,
    ...(server === undefined ? {} : { server }),
  };
  await store.set(IDENTITY, Buffer.from(JSON.stringify(document)));
}

function parseIdentity(text: string): Identity {
  const damaged = (found: string, cause?: unknown) =>
    new Fault("STATE_DAMAGED", `Cannot read the node's identity: ${found}, wanted version 1 with two private keys`, {
      cause,
      hint: "Restore the state folder from a backup, or remove it to join as a new node.",
    });
  let document: Record<string, unknown>;
  try {
    document = JSON.parse(text) as Record<string, unknown>;
  } catch (error) {
    throw damaged("found text that is not JSON", error);
  }
  if (document["version"] !== 1) throw damaged(`found version ${String(document["version"])}`);
  const key = (name: string) => parseKey("privkey", String(document[name] ?? ""));
  const machineKey = key("machineKey");
  const nodeKey = key("nodeKey");
  if (machineKey === undefined || nodeKey === undefined) throw damaged("found a key that is none");
  const oldNodeKey = key("oldNodeKey");
  const floor = Number(document["timestampFloor"] ?? 0);
  const { url, key: serverKey } = (document["server"] ?? {}) as { url?: unknown; key?: unknown };
  return {
    machineKey,
    nodeKey,
    ...(oldNodeKey === undefined ? {} : { oldNodeKey }),
    timestampFloor: Number.isFinite(floor) ? floor : 0,
    ...(typeof url === "string" && typeof serverKey === "string" ? { server: { url, key: serverKey } } : {}),
  };
}
