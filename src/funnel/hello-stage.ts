import type { Socket } from "node:net";
import type { Clock } from "../base/clock.ts";
import { type ClientHello, HelloReader, type HelloRefusal } from "../wire/client-hello.ts";
import { HeldBytes } from "./held-bytes.ts";

/** Held of a visitor who has not been told apart yet. A hello is at most half of it. */
const MOST_HELD_BYTES = 128 * 1024;

export interface HelloStage {
  readonly clock: Clock;
  readonly limitMs: number;
  /** The socket is paused, with all that came still in it. */
  readonly done: (hello: ClientHello, heldBytes: number) => void;
  /** No hello came: something else did, the time is over, or the visitor is gone (`undefined`). */
  readonly failed: (refusal: HelloRefusal | undefined) => void;
}

/** Reads a visitor's first message without answering it. The result gives up on him, saying nothing. */
export function readHello(socket: Socket, { clock, limitMs, done, failed }: HelloStage): () => void {
  const reader = new HelloReader();
  const held = new HeldBytes();
  const leave = (): void => {
    cancel();
    socket.off("data", onData);
    socket.off("end", onGone);
    socket.off("close", onGone);
  };
  const onData = (chunk: Buffer): void => {
    held.push(chunk);
    const answer = held.length > MOST_HELD_BYTES ? TOO_MUCH : reader.push(chunk);
    if (answer === undefined) return;
    leave();
    if ("alert" in answer) return void failed(answer);
    socket.pause();
    socket.unshift(held.bytes); // counted there: beside it, a paused socket would take another 128 KiB
    done(answer, held.length);
  };
  const onGone = (): void => {
    leave();
    failed(undefined);
  };
  const cancel = clock.at(clock.now() + limitMs, onGone);
  socket.on("data", onData);
  socket.on("end", onGone);
  socket.on("close", onGone);
  return leave;
}

const TOO_MUCH: HelloRefusal = { alert: 50, found: "too many bytes" };
