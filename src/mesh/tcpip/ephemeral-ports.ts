import type { Random } from "../../base/random.ts";
import { read32 } from "../../wire/ip.ts";

const FIRST_PORT = 16_000; // gVisor's range
const TRIES = 64;
const DRAW_BYTES = 4;

/** Source ports of connections that we open (RFC 6056 §3.3.1). */
export class EphemeralPorts {
  readonly #random: Random;
  /** Drawn many at a time: one by one they cost as much as the rest of a dial. */
  #draws: Uint8Array = new Uint8Array(0);
  #drawn = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  /** `undefined`: none was found that is free. */
  pick(isFree: (port: number) => boolean): number | undefined {
    for (let i = 0; i < TRIES; i++) {
      const port = FIRST_PORT + (this.#draw() % (65_536 - FIRST_PORT));
      if (isFree(port)) return port;
    }
    return undefined;
  }

  #draw(): number {
    if (this.#drawn >= this.#draws.length) {
      this.#draws = this.#random(DRAW_BYTES * TRIES);
      this.#drawn = 0;
    }
    this.#drawn += DRAW_BYTES;
    return read32(this.#draws, this.#drawn - DRAW_BYTES);
  }
}
