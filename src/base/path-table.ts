/** A way to reach a peer: a UDP address, or a DERP region that holds the peer's connection. */
export type Path =
  | { readonly kind: "udp"; readonly address: string; readonly port: number }
  | { readonly kind: "derp"; readonly region: number /** 32 bytes, hex. */; readonly nodeKey: string };

const MOST_PATHS = 65_536;

/**
 * Interns paths as small numbers, so that packets carry a number instead of an object. Bounded: when full, the oldest
 * number is given to a new path (a stale number then names another path, which only ever costs a lost datagram).
 */
export class PathTable {
  readonly #numbers: Map<string, number> = new Map();
  readonly #paths: Path[] = [];
  #oldest = 0;

  intern(path: Path): number {
    const key = keyOf(path);
    const known = this.#numbers.get(key);
    if (known !== undefined) return known;
    if (this.#paths.length < MOST_PATHS) {
      this.#numbers.set(key, this.#paths.length);
      return this.#paths.push(path) - 1;
    }
    const number = this.#oldest;
    this.#oldest = (this.#oldest + 1) % MOST_PATHS;
    this.#numbers.delete(keyOf(this.#paths[number]!));
    this.#numbers.set(key, number);
    this.#paths[number] = path;
    return number;
  }

  get(number: number): Path | undefined {
    return this.#paths[number];
  }
}

function keyOf(path: Path): string {
  return path.kind === "udp" ? `${path.address}#${path.port}` : `derp ${path.region} ${path.nodeKey}`;
}
