import { equalBytes } from "../../base/bytes.ts";
import { Fault } from "../../base/fault.ts";
import { type Aead, TAG_BYTES } from "./aead.ts";
import { ffiEvpAead } from "./ffi-evp.ts";
import { nobleAead } from "./noble.ts";
import { nodeCryptoAead } from "./node-crypto.ts";
import { sodiumAead } from "./sodium.ts";

export type AeadName = "sodium" | "ffi-evp" | "node-crypto" | "noble";

const makers: ReadonlyMap<AeadName, () => Aead | undefined> = new Map<AeadName, () => Aead | undefined>([
  ["sodium", sodiumAead],
  ["ffi-evp", ffiEvpAead],
  ["node-crypto", nodeCryptoAead],
  ["noble", nobleAead],
]);

/** The implementations that load here and pass the self-test, fastest first. */
export function availableAeads(): Aead[] {
  return [...makers.values()]
    .map((make) => make())
    .filter((aead) => aead !== undefined && passesSelfTest(aead)) as Aead[];
}

/** The fastest that works here, or exactly the `forced` one. Those behind it are not even loaded. */
export function chooseAead(forced?: AeadName): Aead {
  for (const name of forced === undefined ? makers.keys() : [forced]) {
    const aead = makers.get(name)?.();
    if (aead !== undefined && passesSelfTest(aead)) return aead;
  }
  throw new Fault(
    "CRYPTO_AEAD",
    `Cannot encrypt with "${forced ?? "any"}": not loadable here or failing its self-test, one of ${[...makers.keys()].join(", ")} wanted`,
    { hint: 'Leave the choice open, or install the optional package "sodium-native".' },
  );
}

// An empty WireGuard packet, made by wireguard-go's rules: no plaintext, counter 0.
const KNOWN_KEY = Buffer.from("e07b709efbfd0361a08a9de658ceb3847d648c207ed71d4dbdfe248bef23a651", "hex");
const KNOWN_TAG = Buffer.from("69958abbebcb06f97a256144abed28f6", "hex");

/** A known answer, then a round trip with a counter above 2^32, then a changed byte. */
export function passesSelfTest(aead: Aead): boolean {
  const slab = new Uint8Array(64 + TAG_BYTES);
  aead.seal(KNOWN_KEY, 0, 0, slab, 3, 0);
  if (!equalBytes(slab.subarray(3, 3 + TAG_BYTES), KNOWN_TAG)) return false;
  for (let i = 0; i < 48; i++) slab[i] = i;
  aead.seal(KNOWN_KEY, 0xfffffffe, 0x80000001, slab, 8, 40);
  const sealed = slab.slice();
  if (!aead.open(KNOWN_KEY, 0xfffffffe, 0x80000001, slab, 8, 40 + TAG_BYTES)) return false;
  for (let i = 0; i < 48; i++) if (slab[i] !== i) return false;
  sealed[20]! ^= 1;
  return !aead.open(KNOWN_KEY, 0xfffffffe, 0x80000001, sealed, 8, 40 + TAG_BYTES);
}
