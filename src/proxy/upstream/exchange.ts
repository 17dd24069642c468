import type { Duplex } from "node:stream";
import type { Fault } from "../../base/fault.ts";
import type { AnswerHead } from "./answer-parser.ts";

/** What a backend is asked. The fields are ours or checked; the framing is written anew from `body`. */
export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly host: string;
  readonly fields: readonly (readonly [name: string, value: string])[];
  /** A length, or `chunked`; `none` sends no field about it. */
  readonly body: number | "chunked" | "none";
  /** The connection ends with it: a backend may not know that there is a body, and would take it for a request (H1-11). */
  readonly isLast?: boolean;
}

/** One request on its way, whatever carries it. */
export interface Exchange {
  /** It had carried another request before: it may have been closed meanwhile. */
  readonly isReused: boolean;
  /** A part of the body; false = wait for `drain`. */
  write(part: Uint8Array): boolean;
  end(): void;
  pause(): void;
  resume(): void;
  /** Nobody wants the answer any more. */
  cancel(): void;
}

/** Who asked. Nothing comes after `end`, `switched` or `failed`, or after `cancel`. */
export interface AnswerSink {
  /** The head is sent or about to be; the body may follow. */
  started(exchange: Exchange): void;
  drain(): void;
  information(status: number, fields: readonly string[]): void;
  head(head: AnswerHead): void;
  /** `isLast`: the answer is complete with it, and no `end` follows. */
  body(part: Buffer, isLast: boolean): void;
  /** No more is here for now: what was told may be sent on. */
  flush(): void;
  end(trailers: readonly string[]): void;
  switched(head: AnswerHead, tunnel: Duplex, early: Buffer): void;
  /** `hadAnswer`: at least one byte of an answer had come. */
  failed(fault: Fault, hadAnswer: boolean): void;
}
