import type { Aead } from "../../crypto/aead/aead.ts";
import { DATA, MESSAGE, writeU32 } from "../../wire/wireguard.ts";
import { REJECT_AFTER_MS } from "./constants.ts";
import { ReplayWindow } from "./replay-window.ts";

const PADDING = 16;
const TAG_BYTES = 16;
// Rekey-After-Messages 2^60 and Reject-After-Messages 2^64 - 2^13 - 1, by 32-bit halves.
const REKEY_HIGH = 0x1000_0000;
const REJECT_HIGH = 0xffff_ffff;
const REJECT_LOW = 0xffff_dfff;

export interface SessionInput {
  readonly peer: number;
  readonly localIndex: number;
  readonly remoteIndex: number;
  readonly sendKey: Uint8Array;
  readonly receiveKey: Uint8Array;
  readonly isInitiator: boolean;
  readonly created: number;
}

/** One pair of transport keys and its counters. */
export class Session {
  readonly peer: number;
  readonly localIndex: number;
  readonly remoteIndex: number;
  readonly isInitiator: boolean;
  readonly created: number;
  readonly #sendKey: Uint8Array;
  readonly #receiveKey: Uint8Array;
  readonly #window: ReplayWindow = new ReplayWindow();
  #sendLow: number;
  #sendHigh: number;
  #isErased = false;

  /** `counter` is where sending starts: tests come near its end. */
  constructor(input: SessionInput, counter: { readonly low: number; readonly high: number } = { low: 0, high: 0 }) {
    this.peer = input.peer;
    this.localIndex = input.localIndex;
    this.remoteIndex = input.remoteIndex;
    this.isInitiator = input.isInitiator;
    this.created = input.created;
    this.#sendKey = input.sendKey;
    this.#receiveKey = input.receiveKey;
    this.#sendLow = counter.low;
    this.#sendHigh = counter.high;
  }

  canSend(now: number): boolean {
    return !this.#isErased && now - this.created < REJECT_AFTER_MS && !isSpent(this.#sendLow, this.#sendHigh);
  }

  /** More than 2^60 messages were sent. */
  get isWorn(): boolean {
    return this.#sendHigh > REKEY_HIGH || (this.#sendHigh === REKEY_HIGH && this.#sendLow > 0);
  }

  /** Writes a data message at `offset` and gives its length. Ask `canSend` first. */
  seal(aead: Aead, packet: Uint8Array, slab: Uint8Array, offset: number, mtu: number): number {
    const start = offset + DATA.content;
    const padded = paddedLength(packet.length, mtu);
    slab.set(packet, start);
    slab.fill(0, start + packet.length, start + padded);
    writeU32(slab, offset, MESSAGE.data);
    writeU32(slab, offset + DATA.receiver, this.remoteIndex);
    writeU32(slab, offset + DATA.counter, this.#sendLow);
    writeU32(slab, offset + DATA.counter + 4, this.#sendHigh);
    aead.seal(this.#sendKey, this.#sendLow, this.#sendHigh, slab, start, padded);
    this.#sendLow = (this.#sendLow + 1) >>> 0;
    if (this.#sendLow === 0) this.#sendHigh++;
    return DATA.content + padded + TAG_BYTES;
  }

  /** Decrypts in place what stands after the header. The counter is believed only after that. */
  open(aead: Aead, low: number, high: number, slab: Uint8Array, offset: number, length: number): OpenResult {
    if (this.#isErased || isSpent(low, high)) return "expired";
    if (!aead.open(this.#receiveKey, low, high, slab, offset, length)) return "forged";
    return this.#window.accept(low, high) ? "opened" : "replayed";
  }

  erase(): void {
    this.#isErased = true;
    this.#sendKey.fill(0);
    this.#receiveKey.fill(0);
  }
}

export type OpenResult = "opened" | "expired" | "forged" | "replayed";

function isSpent(low: number, high: number): boolean {
  return high === REJECT_HIGH && low >= REJECT_LOW;
}

/** To the next multiple of 16, but not past the MTU (wireguard-go `calculatePaddingSize`). */
export function paddedLength(length: number, mtu: number): number {
  const last = length > mtu ? length % mtu : length;
  const padded = Math.min(Math.ceil(last / PADDING) * PADDING, mtu);
  return length - last + padded;
}
