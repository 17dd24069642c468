/** A flow of ours: 4 words each address (IPv4 in the last), ports in one word, the protocol in one. */
const WORDS = 10;
const NONE = -1;

/**
 * The last `capacity` distinct flows, least recently used forgotten first, no timeouts (upstream
 * `wgengine/filter/filter.go`: lruMax = 512). All memory is taken at construction.
 */
export class FlowTable {
  /** Write a flow here before `remember` or `knows`. */
  readonly key: Uint32Array = new Uint32Array(WORDS);
  readonly #entries: Uint32Array;
  readonly #buckets: Int32Array;
  /** Next entry of the same bucket. */
  readonly #chain: Int32Array;
  readonly #newer: Int32Array;
  readonly #older: Int32Array;
  #newest = NONE;
  #oldest = NONE;
  #count = 0;

  constructor(capacity = 512) {
    this.#entries = new Uint32Array(capacity * WORDS);
    this.#buckets = new Int32Array(2 ** Math.ceil(Math.log2(capacity * 2))).fill(NONE);
    this.#chain = new Int32Array(capacity).fill(NONE);
    this.#newer = new Int32Array(capacity).fill(NONE);
    this.#older = new Int32Array(capacity).fill(NONE);
  }

  get size(): number {
    return this.#count;
  }

  /** Makes `key` the newest flow. */
  remember(): void {
    const bucket = this.#bucketOf(this.key, 0);
    let entry = this.#find(bucket);
    if (entry === NONE) {
      entry = this.#vacant();
      this.#entries.set(this.key, entry * WORDS);
      this.#chain[entry] = this.#buckets[bucket]!;
      this.#buckets[bucket] = entry;
    } else if (entry === this.#newest) return;
    else this.#unlink(entry);
    this.#linkNewest(entry);
  }

  /** True, and newest again, when `key` is remembered. */
  knows(): boolean {
    const entry = this.#find(this.#bucketOf(this.key, 0));
    if (entry === NONE) return false;
    if (entry !== this.#newest) {
      this.#unlink(entry);
      this.#linkNewest(entry);
    }
    return true;
  }

  clear(): void {
    this.#buckets.fill(NONE);
    this.#newest = NONE;
    this.#oldest = NONE;
    this.#count = 0;
  }

  #bucketOf(words: Uint32Array, at: number): number {
    let hash = 0x811c9dc5;
    for (let i = 0; i < WORDS; i++) {
      hash = Math.imul(hash ^ words[at + i]!, 0x85ebca6b);
      hash ^= hash >>> 15;
    }
    return (hash >>> 0) & (this.#buckets.length - 1);
  }

  #find(bucket: number): number {
    for (let entry = this.#buckets[bucket]!; entry !== NONE; entry = this.#chain[entry]!) {
      const at = entry * WORDS;
      let i = 0;
      while (i < WORDS && this.#entries[at + i] === this.key[i]) i++;
      if (i === WORDS) return entry;
    }
    return NONE;
  }

  #vacant(): number {
    if (this.#count < this.#chain.length) return this.#count++;
    const entry = this.#oldest;
    this.#unlink(entry);
    const bucket = this.#bucketOf(this.#entries, entry * WORDS);
    if (this.#buckets[bucket] === entry) this.#buckets[bucket] = this.#chain[entry]!;
    else {
      let before = this.#buckets[bucket]!;
      while (this.#chain[before] !== entry) before = this.#chain[before]!;
      this.#chain[before] = this.#chain[entry]!;
    }
    return entry;
  }

  #linkNewest(entry: number): void {
    this.#older[entry] = this.#newest;
    this.#newer[entry] = NONE;
    if (this.#newest !== NONE) this.#newer[this.#newest] = entry;
    this.#newest = entry;
    if (this.#oldest === NONE) this.#oldest = entry;
  }

  #unlink(entry: number): void {
    const newer = this.#newer[entry]!;
    const older = this.#older[entry]!;
    if (newer === NONE) this.#newest = older;
    else this.#older[newer] = older;
    if (older === NONE) this.#oldest = newer;
    else this.#newer[older] = newer;
  }
}
