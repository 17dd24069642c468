import type { IncomingMessage, ServerResponse } from "node:http";
import { LinkedList } from "../base/linked-list.ts";
import type { Door } from "./doors/door.ts";
import type { Front } from "./options.ts";

/** A request under way: where it leads, and what let it in there. */
export interface Passage {
  readonly front: Front;
  readonly host: string;
  /** The mount. */
  readonly point: string;
  /** As it was then. */
  readonly passed: Door | undefined;
  /** The issuer whose word made a user of this guest, where one did. */
  readonly userBy: string | undefined;
  /** Ends whatever comes of the request. */
  readonly cut: () => void;
}

interface UnderWay {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly isUpgrade: boolean;
}

/** Calls back once a request has its whole answer, or what it was upgraded to has ended. */
export function whenOver({ request, response, isUpgrade }: UnderWay, done: () => void): void {
  const { socket } = request;
  const release = (): void => {
    done();
    socket?.off("close", release);
  };
  // An upgraded connection has no end of its answer; one that was declined has.
  response.once(isUpgrade ? "finish" : "close", release);
  if (isUpgrade) socket.once("close", release);
}

/** All that is under way. A stream may outlive by far the rules that let it in. */
export class Passages {
  readonly #open: LinkedList<Passage> = new LinkedList();

  enter(passage: Passage, work: UnderWay): void {
    const place = this.#open.add(passage);
    whenOver(work, () => this.#open.remove(place));
  }

  /** Cuts whatever may not stay. */
  review(mayStay: (passage: Passage) => boolean): void {
    for (const passage of this.#open.toArray()) if (!mayStay(passage)) passage.cut();
  }
}
