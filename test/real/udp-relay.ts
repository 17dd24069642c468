/**
 * A UDP relay with a bad line in it, run as a process of its own:
 * node udp-relay.ts '<RelayOptions as JSON>'
 * Writes `{"near":port,"far":port}` to standard output when it listens, and its counts at the end of standard input.
 */
import { createSocket, type Socket } from "node:dgram";
import { pathToFileURL } from "node:url";

export interface RelayOptions {
  /** Both sockets bind here. */
  readonly address: string;
  /** Ports to bind; 0: the system chooses. The far side is spoken to from `farPort`. */
  readonly nearPort?: number;
  readonly farPort?: number;
  /** Where what comes in at the near socket goes. The near side is whoever spoke last. */
  readonly target: { readonly address: string; readonly port: number };
  /** One way. */
  readonly delayMs: number;
  /** Shares of 1, each way. */
  readonly loss?: number;
  readonly reorder?: number;
  readonly duplicate?: number;
  /** What a reordered datagram waits beyond `delayMs`, at most. */
  readonly reorderMs?: number;
  readonly seed: number;
}

export interface RelayCounts {
  passed: number;
  lost: number;
  reordered: number;
  duplicated: number;
  overflowed: number;
}

interface Held {
  readonly at: number;
  readonly datagram: Uint8Array;
}

/** Bound on what is under way, each way: more is lost, as a router would do. */
const MOST_HELD = 20_000;

/** Mulberry32: good enough to lose packets by, and the same on each run. */
export function seededShare(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** One direction: what was sent in order leaves in order, and the reordered ones beside it. */
export class Line {
  readonly #options: RelayOptions;
  readonly #share: () => number;
  readonly #send: (datagram: Uint8Array) => void;
  readonly #counts: RelayCounts;
  #straight: Held[] = [];
  #late: Held[] = [];

  constructor(options: RelayOptions, seed: number, counts: RelayCounts, send: (datagram: Uint8Array) => void) {
    this.#options = options;
    this.#share = seededShare(seed);
    this.#counts = counts;
    this.#send = send;
  }

  take(datagram: Uint8Array, now: number): void {
    const { delayMs, loss = 0, reorder = 0, duplicate = 0, reorderMs = delayMs / 2 } = this.#options;
    const [lossDraw, reorderDraw, duplicateDraw] = [this.#share(), this.#share(), this.#share()];
    if (lossDraw < loss) {
      this.#counts.lost++;
      return;
    }
    if (this.#straight.length + this.#late.length >= MOST_HELD) {
      this.#counts.overflowed++;
      return;
    }
    if (reorderDraw < reorder) {
      this.#counts.reordered++;
      this.#late.push({ at: now + delayMs + reorderMs * this.#share(), datagram });
    } else this.#straight.push({ at: now + delayMs, datagram });
    if (duplicateDraw < duplicate) {
      this.#counts.duplicated++;
      this.#late.push({ at: now + delayMs + 1, datagram });
    }
  }

  /** Sends what is due. */
  flush(now: number): void {
    let count = 0;
    for (const { at, datagram } of this.#straight) {
      if (at > now) break;
      count++;
      this.#pass(datagram);
    }
    if (count > 0) this.#straight.splice(0, count);
    if (this.#late.length === 0) return;
    for (const { at, datagram } of this.#late) if (at <= now) this.#pass(datagram);
    this.#late = this.#late.filter(({ at }) => at > now);
  }

  #pass(datagram: Uint8Array): void {
    this.#counts.passed++;
    this.#send(datagram);
  }
}

async function bind(address: string, port: number): Promise<Socket> {
  const socket = createSocket({ type: "udp4", recvBufferSize: 4 << 20, sendBufferSize: 4 << 20 });
  socket.on("error", () => undefined); // a refused datagram is a lost one
  await new Promise<void>((resolve) => socket.bind(port, address, resolve));
  return socket;
}

export async function runRelay(options: RelayOptions): Promise<{ near: Socket; far: Socket; counts: RelayCounts }> {
  const near = await bind(options.address, options.nearPort ?? 0);
  const far = await bind(options.address, options.farPort ?? 0);
  const counts: RelayCounts = { passed: 0, lost: 0, reordered: 0, duplicated: 0, overflowed: 0 };
  let speaker: { address: string; port: number } | undefined;
  const { target } = options;
  const out = new Line(options, options.seed, counts, (datagram) => far.send(datagram, target.port, target.address));
  const back = new Line(options, options.seed + 1, counts, (datagram) => {
    if (speaker !== undefined) near.send(datagram, speaker.port, speaker.address);
  });
  near.on("message", (datagram, { address, port }) => {
    speaker = { address, port };
    out.take(datagram, performance.now());
  });
  far.on("message", (datagram) => back.take(datagram, performance.now()));
  setInterval(() => {
    const now = performance.now();
    out.flush(now);
    back.flush(now);
  }, 1);
  return { near, far, counts };
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { near, far, counts } = await runRelay(JSON.parse(process.argv[2]!) as RelayOptions);
  console.log(JSON.stringify({ near: near.address().port, far: far.address().port }));
  process.stdin.resume().on("end", () => {
    console.log(JSON.stringify(counts));
    process.exit(0);
  });
}
