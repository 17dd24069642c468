import { equalBytes } from "../../base/bytes.ts";
import { hash, kdf } from "../../crypto/blake2s.ts";
import { openOnce, sealOnce } from "../../crypto/chacha20-poly1305.ts";
import { publicKeyOf, type ReadyPrivateKey, readyPrivateKey, sharedSecret } from "../../crypto/keys.ts";
import { INITIATION, MESSAGE, RESPONSE, writeU32 } from "../../wire/wireguard.ts";

// Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s, steps numbered as in the WireGuard paper sections 5.4.2 and 5.4.3.
const text = (words: string) => new TextEncoder().encode(words);
const FIRST_CHAIN = hash(text("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"));
const FIRST_HASH = hash(FIRST_CHAIN, text("WireGuard v1 zx2c4 Jason@zx2c4.com"));
const EMPTY = new Uint8Array(0);

export interface KeyPair {
  readonly privateKey: Uint8Array | ReadyPrivateKey;
  readonly publicKey: Uint8Array;
}

/** What remains of a handshake between its two messages. */
export interface Transcript {
  chain: Uint8Array;
  hash: Uint8Array;
}

/** Keys of the session: `first` is the initiator's sending key. */
export interface SessionKeys {
  readonly first: Uint8Array;
  readonly second: Uint8Array;
}

export interface InitiationInput {
  readonly self: KeyPair;
  readonly peerPublic: Uint8Array;
  /** X25519 of our static key and the peer's: the same every time. */
  readonly staticSecret: Uint8Array;
  readonly ephemeralPrivate: Uint8Array;
  readonly sender: number;
  readonly timestamp: Uint8Array;
}

/** Message 1 without its MACs. `undefined` when the peer's key is a point of low order. */
export function createInitiation(
  input: InitiationInput,
): { readonly message: Uint8Array; readonly transcript: Transcript } | undefined {
  const ephemeralPrivate = readyPrivateKey(input.ephemeralPrivate);
  const ephemeral = publicKeyOf(ephemeralPrivate);
  const secret = sharedSecret(ephemeralPrivate, input.peerPublic);
  if (secret === undefined) return undefined;
  const message = new Uint8Array(INITIATION.end);
  writeU32(message, 0, MESSAGE.initiation);
  writeU32(message, INITIATION.sender, input.sender);
  message.set(ephemeral, INITIATION.ephemeral);
  const transcript = begin(input.peerPublic, ephemeral);
  message.set(sealNext(transcript, secret, input.self.publicKey), INITIATION.static);
  message.set(sealNext(transcript, input.staticSecret, input.timestamp), INITIATION.timestamp);
  return { message, transcript };
}

/** Who sent message 1. Nothing is proven before `openTimestamp`. */
export interface OpenedInitiation {
  readonly peerPublic: Uint8Array;
  readonly peerEphemeral: Uint8Array;
  readonly transcript: Transcript;
}

export function openInitiation(self: KeyPair, message: Uint8Array): OpenedInitiation | undefined {
  const peerEphemeral = message.slice(INITIATION.ephemeral, INITIATION.static);
  const secret = sharedSecret(self.privateKey, peerEphemeral);
  if (secret === undefined) return undefined;
  const transcript = begin(self.publicKey, peerEphemeral);
  const peerPublic = openNext(transcript, secret, message.subarray(INITIATION.static, INITIATION.timestamp));
  return peerPublic === undefined ? undefined : { peerPublic, peerEphemeral, transcript };
}

/** Proves the sender's static key. Advances the transcript. */
export function openTimestamp(
  { transcript }: OpenedInitiation,
  staticSecret: Uint8Array,
  message: Uint8Array,
): Uint8Array | undefined {
  return openNext(transcript, staticSecret, message.subarray(INITIATION.timestamp, INITIATION.mac1));
}

export interface ResponseInput {
  readonly opened: OpenedInitiation;
  readonly presharedKey: Uint8Array;
  readonly ephemeralPrivate: Uint8Array;
  readonly sender: number;
  readonly receiver: number;
}

/** Message 2 without its MACs, and the session's keys. `undefined`: a point of low order. */
export function createResponse(
  input: ResponseInput,
): { readonly message: Uint8Array; readonly keys: SessionKeys } | undefined {
  const { transcript, peerEphemeral, peerPublic } = input.opened;
  const ephemeralPrivate = readyPrivateKey(input.ephemeralPrivate);
  const ephemeral = publicKeyOf(ephemeralPrivate);
  const ephemeralSecret = sharedSecret(ephemeralPrivate, peerEphemeral);
  const staticSecret = sharedSecret(ephemeralPrivate, peerPublic);
  if (ephemeralSecret === undefined || staticSecret === undefined) return undefined;
  const message = new Uint8Array(RESPONSE.end);
  writeU32(message, 0, MESSAGE.response);
  writeU32(message, RESPONSE.sender, input.sender);
  writeU32(message, RESPONSE.receiver, input.receiver);
  message.set(ephemeral, RESPONSE.ephemeral);
  const key = mixResponse(transcript, ephemeral, ephemeralSecret, staticSecret, input.presharedKey);
  const empty = sealOnce(key, EMPTY, transcript.hash);
  message.set(empty, RESPONSE.empty);
  key.fill(0);
  return { message, keys: sessionKeys(transcript) };
}

/** `undefined` leaves `transcript` as it was: a forged response must not spoil the wait for the true one. */
export function openResponse(
  self: KeyPair,
  presharedKey: Uint8Array,
  ephemeralPrivate: Uint8Array,
  transcript: Transcript,
  message: Uint8Array,
): SessionKeys | undefined {
  const peerEphemeral = message.slice(RESPONSE.ephemeral, RESPONSE.empty);
  const ephemeralSecret = sharedSecret(ephemeralPrivate, peerEphemeral);
  const staticSecret = sharedSecret(self.privateKey, peerEphemeral);
  if (ephemeralSecret === undefined || staticSecret === undefined) return undefined;
  const trial = { chain: transcript.chain.slice(), hash: transcript.hash };
  const key = mixResponse(trial, peerEphemeral, ephemeralSecret, staticSecret, presharedKey);
  const opened = openOnce(key, message.subarray(RESPONSE.empty, RESPONSE.mac1), trial.hash);
  key.fill(0);
  if (opened !== undefined) return sessionKeys(trial);
  trial.chain.fill(0);
  return undefined;
}

export function forgetTranscript(transcript: Transcript): void {
  transcript.chain.fill(0);
  transcript.hash.fill(0);
}

/** True when `a` is a later TAI64N time than `b`. */
export function isLater(a: Uint8Array, b: Uint8Array): boolean {
  return !equalBytes(a, b) && Buffer.compare(a, b) > 0;
}

/** Steps 1 and 2: the receiver's key and the initiator's ephemeral one. */
function begin(receiverPublic: Uint8Array, ephemeral: Uint8Array): Transcript {
  const [chain = EMPTY] = kdf(FIRST_CHAIN, ephemeral, 1);
  return { chain, hash: hash(hash(FIRST_HASH, receiverPublic), ephemeral) };
}

function sealNext(transcript: Transcript, secret: Uint8Array, plain: Uint8Array): Uint8Array {
  const key = mixKey(transcript, secret);
  const sealed = sealOnce(key, plain, transcript.hash);
  key.fill(0);
  transcript.hash = hash(transcript.hash, sealed);
  return sealed;
}

function openNext(transcript: Transcript, secret: Uint8Array, sealed: Uint8Array): Uint8Array | undefined {
  const key = mixKey(transcript, secret);
  const plain = openOnce(key, sealed, transcript.hash);
  key.fill(0);
  transcript.hash = hash(transcript.hash, sealed);
  return plain;
}

function mixKey(transcript: Transcript, secret: Uint8Array): Uint8Array {
  const [chain = EMPTY, key = EMPTY] = kdf(transcript.chain, secret, 2);
  transcript.chain.fill(0);
  transcript.chain = chain;
  return key;
}

/** Steps 5 to 7. The result seals the empty payload. */
function mixResponse(
  transcript: Transcript,
  ephemeral: Uint8Array,
  ephemeralSecret: Uint8Array,
  staticSecret: Uint8Array,
  presharedKey: Uint8Array,
): Uint8Array {
  transcript.hash = hash(transcript.hash, ephemeral);
  for (const input of [ephemeral, ephemeralSecret, staticSecret]) {
    const [chain = EMPTY] = kdf(transcript.chain, input, 1);
    transcript.chain.fill(0);
    transcript.chain = chain;
  }
  ephemeralSecret.fill(0);
  staticSecret.fill(0);
  const [chain = EMPTY, tau = EMPTY, key = EMPTY] = kdf(transcript.chain, presharedKey, 3);
  transcript.chain.fill(0);
  transcript.chain = chain;
  transcript.hash = hash(transcript.hash, tau);
  return key;
}

/** The hash of the sealed empty payload is not needed any more: the keys come from the chain alone. */
function sessionKeys(transcript: Transcript): SessionKeys {
  const [first = EMPTY, second = EMPTY] = kdf(transcript.chain, EMPTY, 2);
  transcript.chain.fill(0);
  return { first, second };
}
