import type { Clock } from "../../base/clock.ts";
import type { Node } from "../../wire/tailcfg.ts";
import type { MeshProof } from "./visit.ts";

/** A relay of which neither the server nor we have heard for so long is gone, and so are its visitors. */
const RELAY_AWAY_MS = 20_000;

export interface RelayPresenceOptions {
  /** The peer whose own address this is. */
  readonly peerByAddress: (address: string) => Node | undefined;
  /** Settles when the peer of this address has given a sign of life by the tunnel, fails when it gives none. @default it gives none */
  readonly askForLife?: (address: string) => Promise<unknown>;
  readonly clock: Clock;
}

/** Which relays are gone, by the server's word and by our own asking (FN-13). */
export class RelayPresence {
  readonly #options: RelayPresenceOptions;
  /** Relays that are away for the server, by node key, and since when for us. */
  readonly #away: Map<string, number> = new Map();
  /** Of them those that we have asked for a sign of life. */
  readonly #asked: Set<string> = new Set();

  constructor(options: RelayPresenceOptions) {
    this.#options = options;
  }

  /** To be asked now and then: it is what is remembered that makes a relay lost. */
  isLost({ nodeKey, source }: MeshProof): boolean {
    const now = this.#options.clock.now();
    if (this.#options.peerByAddress(source.address)?.Online !== false) {
      this.#away.delete(nodeKey);
      return false;
    }
    const since = this.#away.get(nodeKey) ?? now;
    this.#away.set(nodeKey, since);
    this.#ask(nodeKey, source.address);
    return now - since >= RELAY_AWAY_MS;
  }

  /** Of the others nobody asks any more. */
  keepOnly(isAsked: (nodeKey: string) => boolean): void {
    for (const nodeKey of this.#away.keys()) if (!isAsked(nodeKey)) this.#away.delete(nodeKey);
  }

  /** It may be the server alone that does not hear of it, or has not yet since a restart: its visitors are well. */
  #ask(nodeKey: string, address: string): void {
    const { askForLife, clock } = this.#options;
    if (askForLife === undefined || this.#asked.has(nodeKey)) return;
    this.#asked.add(nodeKey);
    askForLife(address)
      .then(
        () => void (this.#away.has(nodeKey) && this.#away.set(nodeKey, clock.now())),
        () => undefined,
      )
      .finally(() => this.#asked.delete(nodeKey));
  }
}
