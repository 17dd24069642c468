import type { Clock } from "../base/clock.ts";
import { messageOf } from "../base/fault.ts";
import type { Log } from "../base/log.ts";

/** Whoever does not answer is asked again after this long. */
const AGAIN_MS = 5000;

export interface ServiceInquiryOptions {
  readonly clock: Clock;
  readonly log: Log;
  /** Asks the node; false: it gave no answer that can be used. */
  readonly learn: (nodeId: number) => Promise<boolean>;
  /** Has the node an open stream? */
  readonly isHere: (nodeId: number) => boolean;
}

/** Asks nodes what they host, until they have said it or are gone. */
export class ServiceInquiry {
  readonly #options: ServiceInquiryOptions;
  /** Nodes that will be asked again. */
  readonly #waiting: Map<number, () => void> = new Map();
  #isClosed = false;

  constructor(options: ServiceInquiryOptions) {
    this.#options = options;
  }

  ask(nodeId: number): void {
    const { clock, log, learn, isHere } = this.#options;
    const again = (): void => {
      this.#waiting.delete(nodeId);
      if (!this.#isClosed && isHere(nodeId)) this.ask(nodeId);
    };
    learn(nodeId).then(
      (isKnown) => {
        if (isKnown || this.#isClosed || this.#waiting.has(nodeId)) return;
        this.#waiting.set(nodeId, clock.at(clock.now() + AGAIN_MS, again));
      },
      (thrown: unknown) => log.warn("coordination.services_failed", { node: nodeId, error: messageOf(thrown) }),
    );
  }

  close(): void {
    this.#isClosed = true;
    for (const cancel of this.#waiting.values()) cancel();
    this.#waiting.clear();
  }
}
