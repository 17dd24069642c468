export interface Keepalive {
  readonly idleMs: number;
  readonly intervalMs: number;
  readonly probes: number;
}

/** After so long a silence buffers are given back. */
const RELAX_MS = 10_000;

/** Notices silence: first to save memory, then to ask whether anybody is there (RFC 9293 §3.8.4). */
export class KeepaliveTimer {
  deadline: number;
  #heardAt: number;
  #probesSent = 0;
  #isRelaxed = false;

  constructor({ idleMs }: Keepalive, now: number) {
    this.#heardAt = now;
    this.deadline = now + Math.min(RELAX_MS, idleMs);
  }

  /** The other side may know nothing of us any more: it is asked at `at`, unless it is heard before. */
  suspect({ idleMs }: Keepalive, at: number): void {
    if (this.deadline === Infinity) return;
    this.#heardAt = Math.min(this.#heardAt, at - idleMs);
    this.deadline = Math.min(this.deadline, at);
  }

  heard(now: number): void {
    this.#heardAt = now;
    this.#probesSent = 0;
    if (!this.#isRelaxed) return;
    this.#isRelaxed = false;
    this.deadline = Math.min(this.deadline, now + RELAX_MS);
  }

  /** What is to be done at `deadline`. */
  due(now: number, { idleMs, intervalMs, probes }: Keepalive): "nothing" | "relax" | "probe" | "give up" {
    const idleAt = this.#heardAt + idleMs;
    if (now >= idleAt) {
      if (this.#probesSent >= probes) return "give up";
      this.#probesSent++;
      this.deadline = now + intervalMs;
      return "probe";
    }
    const relaxAt = this.#heardAt + RELAX_MS;
    if (this.#isRelaxed || now < relaxAt) {
      this.deadline = this.#isRelaxed ? idleAt : Math.min(idleAt, relaxAt);
      return "nothing";
    }
    this.#isRelaxed = true;
    this.deadline = idleAt;
    return "relax";
  }
}
