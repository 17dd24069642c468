import { type Aead, NONCE_BYTES, TAG_BYTES, writeNonce } from "./aead.ts";

/** OpenSSL's EVP functions (evp.h) that the official builds of Node export. */
interface Evp {
  cipher(): bigint;
  newContext(): bigint;
  init(context: bigint, cipher: bigint, key: bigint, nonce: bigint, encrypts: number): number;
  update(context: bigint, out: bigint, outLength: bigint, input: bigint, length: number): number;
  final(context: bigint, out: bigint, outLength: bigint): number;
  control(context: bigint, command: number, size: number, at: bigint): number;
  pointerOf(memory: Uint8Array): bigint;
}

const GET_TAG = 0x10; // EVP_CTRL_AEAD_GET_TAG
const SET_TAG = 0x11; // EVP_CTRL_AEAD_SET_TAG
/** Side by side in memory of our own. */
const AT = { key: 0, nonce: 32, tag: 48, length: 64, bounce: 128 } as const;
const BOUNCE_BYTES = 4096;

/** A cipher context that is used again for each packet, one for each direction. */
class Context {
  readonly #evp: Evp;
  readonly #context: bigint;
  readonly #encrypts: number;
  readonly #memory: Uint8Array = new Uint8Array(new ArrayBuffer(AT.bounce + BOUNCE_BYTES));
  readonly #nonce: Uint8Array = this.#memory.subarray(AT.nonce, AT.nonce + NONCE_BYTES);
  readonly #keyAt: bigint;
  readonly #nonceAt: bigint;
  readonly #tagAt: bigint;
  readonly #lengthAt: bigint;
  readonly #bounceAt: bigint;
  #slab: Uint8Array = this.#memory;
  #slabAt: bigint;

  constructor(evp: Evp, encrypts: number) {
    this.#evp = evp;
    this.#encrypts = encrypts;
    const base = evp.pointerOf(this.#memory);
    this.#keyAt = base + BigInt(AT.key);
    this.#nonceAt = base + BigInt(AT.nonce);
    this.#tagAt = base + BigInt(AT.tag);
    this.#lengthAt = base + BigInt(AT.length);
    this.#bounceAt = base + BigInt(AT.bounce);
    this.#slabAt = base;
    this.#context = evp.newContext();
    const cipher = evp.cipher();
    if (this.#context === 0n || cipher === 0n) throw new Error("no ChaCha20-Poly1305 in this OpenSSL");
    // Choosing the cipher costs more than a packet: it is done once, and later calls only change key and nonce.
    if (evp.init(this.#context, cipher, this.#keyAt, this.#nonceAt, encrypts) !== 1) throw new Error("no such cipher");
  }

  /** Short arrays may be moved by the garbage collector while C reads them: they go through memory of our own. */
  run(key: Uint8Array, low: number, high: number, slab: Uint8Array, offset: number, length: number): boolean {
    this.#memory.set(key, AT.key);
    writeNonce(this.#nonce, low, high);
    if (slab.length > BOUNCE_BYTES) {
      if (slab !== this.#slab) {
        this.#slabAt = this.#evp.pointerOf(slab);
        this.#slab = slab;
      }
      return this.#crypt(this.#slabAt + BigInt(offset), length);
    }
    this.#memory.set(slab.subarray(offset, offset + length + TAG_BYTES), AT.bounce);
    const isDone = this.#crypt(this.#bounceAt, length);
    slab.set(this.#memory.subarray(AT.bounce, AT.bounce + length + TAG_BYTES), offset);
    return isDone;
  }

  #crypt(at: bigint, length: number): boolean {
    const evp = this.#evp;
    const context = this.#context;
    const tagAt = at + BigInt(length);
    let isDone = evp.init(context, 0n, this.#keyAt, this.#nonceAt, this.#encrypts) === 1;
    if (this.#encrypts === 0) isDone &&= evp.control(context, SET_TAG, TAG_BYTES, tagAt) === 1;
    isDone &&= length === 0 || evp.update(context, at, this.#lengthAt, at, length) === 1;
    isDone &&= evp.final(context, this.#tagAt, this.#lengthAt) === 1;
    if (this.#encrypts === 1) isDone &&= evp.control(context, GET_TAG, TAG_BYTES, tagAt) === 1;
    return isDone;
  }
}

/** Node's own OpenSSL through `node:ffi`: between sodium and `node:crypto`, and nothing to install. */
export function ffiEvpAead(): Aead | undefined {
  let seal: Context;
  let open: Context;
  try {
    const evp = load();
    seal = new Context(evp, 1);
    open = new Context(evp, 0);
  } catch {
    return undefined; // no FFI, no permission, or an OpenSSL that is not exported: the next one is taken
  }
  return {
    name: "ffi-evp",
    seal(key, low, high, slab, offset, length) {
      if (offset + length + TAG_BYTES > slab.length) throw new RangeError("no room for the tag");
      if (!seal.run(key, low, high, slab, offset, length)) throw new Error("OpenSSL does not encrypt");
    },
    open(key, low, high, slab, offset, length) {
      if (length < TAG_BYTES || offset + length > slab.length) return false;
      return open.run(key, low, high, slab, offset, length - TAG_BYTES);
    },
  };
}

function load(): Evp {
  const ffi = process.getBuiltinModule("node:ffi");
  const is64Bit = process.arch === "x64" || process.arch === "arm64";
  if (ffi === undefined || !is64Bit || process.platform === "win32") throw new Error("no node:ffi here");
  const { functions } = ffi.dlopen(null, {
    EVP_chacha20_poly1305: { return: "u64", arguments: [] },
    EVP_CIPHER_CTX_new: { return: "u64", arguments: [] },
    EVP_CipherInit_ex: { return: "i32", arguments: ["u64", "u64", "u64", "u64", "u64", "i32"] },
    EVP_CipherUpdate: { return: "i32", arguments: ["u64", "u64", "u64", "u64", "i32"] },
    EVP_CipherFinal_ex: { return: "i32", arguments: ["u64", "u64", "u64"] },
    EVP_CIPHER_CTX_ctrl: { return: "i32", arguments: ["u64", "i32", "i32", "u64"] },
  });
  return {
    cipher: functions.EVP_chacha20_poly1305,
    newContext: functions.EVP_CIPHER_CTX_new,
    init: (context, cipher, key, nonce, encrypts) =>
      functions.EVP_CipherInit_ex(context, cipher, 0n, key, nonce, encrypts),
    update: functions.EVP_CipherUpdate,
    final: functions.EVP_CipherFinal_ex,
    control: functions.EVP_CIPHER_CTX_ctrl,
    pointerOf: (memory) => ffi.getRawPointer(memory),
  };
}
