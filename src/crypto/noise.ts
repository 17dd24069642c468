import { createCipheriv, createDecipheriv } from "node:crypto";
import { concatBytes } from "../base/bytes.ts";
import { hash, kdf } from "./blake2s.ts";
import { publicKeyOf, sharedSecret } from "./keys.ts";

// Noise_IK_25519_ChaChaPoly_BLAKE2s as upstream control/controlbase/handshake.go uses it: every handshake key seals
// one message under a zero nonce, and records count big-endian, unlike the Noise specification.

const NAME = Buffer.from("Noise_IK_25519_ChaChaPoly_BLAKE2s");
const KEY = 32;
const TAG = 16;

/** Message 1: ephemeral key, sealed machine key, tag. */
export const NOISE_INITIATION_BYTES: number = KEY + (KEY + TAG) + TAG;
/** Message 2: ephemeral key, tag. */
export const NOISE_RESPONSE_BYTES: number = KEY + TAG;
export const NOISE_TAG_BYTES: number = TAG;

/** The two directions of a finished handshake, and what binds them to it. */
export interface NoiseSession {
  readonly seal: NoiseSealer;
  readonly open: NoiseOpener;
  readonly handshakeHash: Uint8Array;
  /** Static key of the other side: the machine key for the responder. */
  readonly peerKey: Uint8Array;
}

function sealOnce(key: Uint8Array, nonce: Uint8Array, plaintext: Uint8Array, aad?: Uint8Array): Uint8Array {
  const cipher = createCipheriv("chacha20-poly1305", key, nonce, { authTagLength: TAG });
  if (aad !== undefined) cipher.setAAD(aad, { plaintextLength: plaintext.length });
  const body = cipher.update(plaintext);
  cipher.final();
  return concatBytes(body, cipher.getAuthTag());
}

function openOnce(
  key: Uint8Array,
  nonce: Uint8Array,
  ciphertext: Uint8Array,
  aad?: Uint8Array,
): Uint8Array | undefined {
  const length = ciphertext.length - TAG;
  if (length < 0) return undefined;
  const decipher = createDecipheriv("chacha20-poly1305", key, nonce, { authTagLength: TAG });
  if (aad !== undefined) decipher.setAAD(aad, { plaintextLength: length });
  decipher.setAuthTag(ciphertext.subarray(length));
  const plaintext = decipher.update(ciphertext.subarray(0, length));
  try {
    decipher.final();
  } catch {
    return undefined; // forged or damaged: the only reason for final() to throw here
  }
  return plaintext;
}

/** Nonce: four zero bytes, then a counter, big-endian. 2^64-1 is never used; 2^53 is out of reach before that. */
class Counter {
  readonly #nonce: Uint8Array = new Uint8Array(12);
  #next = 0;

  /** `undefined` when exhausted. The result is only good until the next call. */
  take(): Uint8Array | undefined {
    if (this.#next >= Number.MAX_SAFE_INTEGER) return undefined;
    const view = new DataView(this.#nonce.buffer);
    view.setUint32(4, Math.floor(this.#next / 2 ** 32));
    view.setUint32(8, this.#next >>> 0);
    this.#next++;
    return this.#nonce;
  }
}

/** Seals records in order. */
export class NoiseSealer {
  readonly #key: Uint8Array;
  readonly #counter: Counter = new Counter();

  constructor(key: Uint8Array) {
    this.#key = key;
  }

  /** Ciphertext and tag; `undefined` when the counter is used up. */
  next(plaintext: Uint8Array): Uint8Array | undefined {
    const nonce = this.#counter.take();
    return nonce === undefined ? undefined : sealOnce(this.#key, nonce, plaintext);
  }
}

/** Opens records in order. The first failure is for good. */
export class NoiseOpener {
  readonly #key: Uint8Array;
  readonly #counter: Counter = new Counter();
  #isDead = false;

  constructor(key: Uint8Array) {
    this.#key = key;
  }

  next(ciphertext: Uint8Array): Uint8Array | undefined {
    const nonce = this.#isDead ? undefined : this.#counter.take();
    const plaintext = nonce === undefined ? undefined : openOnce(this.#key, nonce, ciphertext);
    this.#isDead ||= plaintext === undefined;
    return plaintext;
  }
}

class SymmetricState {
  #hash: Uint8Array = hash(NAME);
  #chain: Uint8Array = this.#hash;

  get hash(): Uint8Array {
    return this.#hash;
  }

  mixHash(bytes: Uint8Array): void {
    this.#hash = hash(this.#hash, bytes);
  }

  /** The key for the next message; `undefined` when the secret is zero. */
  mixDh(privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array | undefined {
    const secret = sharedSecret(privateKey, publicKey);
    return secret === undefined ? undefined : this.#mixKey(secret);
  }

  sealAndHash(key: Uint8Array, plaintext: Uint8Array): Uint8Array {
    const ciphertext = sealOnce(key, new Uint8Array(12), plaintext, this.#hash);
    this.mixHash(ciphertext);
    return ciphertext;
  }

  openAndHash(key: Uint8Array, ciphertext: Uint8Array): Uint8Array | undefined {
    const plaintext = openOnce(key, new Uint8Array(12), ciphertext, this.#hash);
    this.mixHash(ciphertext);
    return plaintext;
  }

  /** Initiator to responder, then responder to initiator. */
  split(): [Uint8Array, Uint8Array] {
    const [first, second] = kdf(this.#chain, new Uint8Array(0), 2);
    return [first!, second!];
  }

  #mixKey(secret: Uint8Array): Uint8Array {
    const [chain, key] = kdf(this.#chain, secret, 2);
    this.#chain = chain!;
    return key!;
  }
}

export interface InitiatorOptions {
  readonly prologue: Uint8Array;
  readonly staticKey: Uint8Array;
  readonly ephemeralKey: Uint8Array;
  readonly responderKey: Uint8Array;
}

/** The client's half: send the initiation, give the answer to `finish`. */
export class NoiseInitiator {
  readonly #state: SymmetricState = new SymmetricState();
  readonly #options: InitiatorOptions;
  #isFinished = false;

  private constructor(options: InitiatorOptions) {
    this.#options = options;
  }

  /** `undefined` when the responder's key is of low order. */
  static start(options: InitiatorOptions): { initiation: Uint8Array; initiator: NoiseInitiator } | undefined {
    const initiator = new NoiseInitiator(options);
    const initiation = initiator.#begin();
    return initiation === undefined ? undefined : { initiation, initiator };
  }

  #begin(): Uint8Array | undefined {
    const { prologue, staticKey, ephemeralKey, responderKey } = this.#options;
    const state = this.#state;
    state.mixHash(prologue);
    state.mixHash(responderKey);
    const ephemeral = publicKeyOf(ephemeralKey);
    state.mixHash(ephemeral);
    const es = state.mixDh(ephemeralKey, responderKey);
    if (es === undefined) return undefined;
    const sealedStatic = state.sealAndHash(es, publicKeyOf(staticKey));
    const ss = state.mixDh(staticKey, responderKey);
    if (ss === undefined) return undefined;
    return concatBytes(ephemeral, sealedStatic, state.sealAndHash(ss, new Uint8Array(0)));
  }

  /** `undefined` when the answer is not from the holder of the responder's key, or on a second call. */
  finish(response: Uint8Array): NoiseSession | undefined {
    if (this.#isFinished || response.length !== NOISE_RESPONSE_BYTES) return undefined;
    this.#isFinished = true;
    const { staticKey, ephemeralKey, responderKey } = this.#options;
    const state = this.#state;
    const ephemeral = response.subarray(0, KEY);
    state.mixHash(ephemeral);
    if (state.mixDh(ephemeralKey, ephemeral) === undefined) return undefined;
    const se = state.mixDh(staticKey, ephemeral);
    if (se === undefined || state.openAndHash(se, response.subarray(KEY)) === undefined) return undefined;
    const [outward, inward] = state.split();
    return {
      seal: new NoiseSealer(outward),
      open: new NoiseOpener(inward),
      handshakeHash: state.hash,
      peerKey: responderKey,
    };
  }
}

export interface ResponderOptions {
  readonly prologue: Uint8Array;
  readonly staticKey: Uint8Array;
  readonly ephemeralKey: Uint8Array;
  readonly initiation: Uint8Array;
}

/** The server's half in one step; `undefined` for an initiation that does not open with our key. */
export function respondNoise(options: ResponderOptions): { response: Uint8Array; session: NoiseSession } | undefined {
  const { prologue, staticKey, ephemeralKey, initiation } = options;
  if (initiation.length !== NOISE_INITIATION_BYTES) return undefined;
  const state = new SymmetricState();
  state.mixHash(prologue);
  state.mixHash(publicKeyOf(staticKey));
  const initiatorEphemeral = initiation.subarray(0, KEY);
  state.mixHash(initiatorEphemeral);
  const es = state.mixDh(staticKey, initiatorEphemeral);
  if (es === undefined) return undefined;
  const peerKey = state.openAndHash(es, initiation.subarray(KEY, 2 * KEY + TAG));
  if (peerKey === undefined) return undefined;
  const ss = state.mixDh(staticKey, peerKey);
  if (ss === undefined || state.openAndHash(ss, initiation.subarray(2 * KEY + TAG)) === undefined) return undefined;

  const ephemeral = publicKeyOf(ephemeralKey);
  state.mixHash(ephemeral);
  if (state.mixDh(ephemeralKey, initiatorEphemeral) === undefined) return undefined;
  const se = state.mixDh(ephemeralKey, peerKey);
  if (se === undefined) return undefined;
  const response = concatBytes(ephemeral, state.sealAndHash(se, new Uint8Array(0)));
  const [inward, outward] = state.split();
  return {
    response,
    session: {
      seal: new NoiseSealer(outward),
      open: new NoiseOpener(inward),
      handshakeHash: state.hash,
      peerKey: Uint8Array.from(peerKey),
    },
  };
}
