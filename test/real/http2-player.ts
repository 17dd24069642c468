import { END_HEADERS, END_STREAM, FRAME, fieldBlock, frame, opening } from "../suites/raw-http2.ts";
import { RawPeer } from "../suites/raw-http2-peer.ts";
import type { Lane } from "./gate-tap.ts";
import type { Http2Request } from "./http2-requests.ts";

const LONGEST_FRAME = 16_384;
/** For a backend that thinks for ever. */
const PATIENCE_MS = 2000;

/** Asks one after the other on one connection, until it is over: the bodies of the answers. */
export async function http2Answers(
  lane: Lane,
  isVisitor: boolean,
  requests: readonly Http2Request[],
): Promise<string[]> {
  const peer = RawPeer.overTls(isVisitor ? lane.visit(443) : lane.connect(443));
  peer.send(opening());
  const bodies: string[] = [];
  for (const [i, request] of requests.entries()) {
    const id = 2 * i + 1;
    peer.send(...framesOf(request, id));
    await ended(peer, id);
    const parts = peer.frames.filter(({ stream, type }) => stream === id && type === FRAME.data);
    bodies.push(Buffer.concat(parts.map(({ payload }) => payload)).toString("latin1"));
    if (peer.isOver) break;
  }
  peer.stream.destroy();
  return bodies;
}

/** Its last frame ends the stream. */
function framesOf({ fields, parts, trailers }: Http2Request, id: number): Buffer[] {
  const frames: Buffer[] = [];
  const add = (block: Buffer, isLast: boolean): void => {
    for (let at = 0; at === 0 || at < block.length; at += LONGEST_FRAME) {
      const end = at + LONGEST_FRAME >= block.length ? END_HEADERS : 0;
      const [type, flags] = at === 0 ? [FRAME.headers, isLast ? END_STREAM : 0] : [FRAME.continuation, 0];
      frames.push(frame(type, flags | end, id, block.subarray(at, at + LONGEST_FRAME)));
    }
  };
  const hasTrailers = trailers.length > 0;
  add(fieldBlock(fields), parts.length === 0 && !hasTrailers);
  for (const [i, part] of parts.entries()) {
    const flags = i === parts.length - 1 && !hasTrailers ? END_STREAM : 0;
    frames.push(frame(FRAME.data, flags, id, Buffer.from(part, "latin1")));
  }
  if (hasTrailers) add(fieldBlock(trailers), true);
  return frames;
}

/** The stream was answered or reset, or its connection is over. */
function ended(peer: RawPeer, id: number): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      const isDone = peer.frames.some(
        ({ stream, type, flags }) =>
          stream === id &&
          (type === FRAME.reset || ((type === FRAME.data || type === FRAME.headers) && (flags & END_STREAM) !== 0)),
      );
      if (!isDone && !peer.isOver) return;
      clearTimeout(timer);
      peer.stream.off("data", look).off("close", look);
      resolve();
    };
    const timer = setTimeout(() => peer.stream.destroy(), PATIENCE_MS);
    peer.stream.on("data", look).on("close", look);
    look();
  });
}
