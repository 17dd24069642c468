import net from "node:net";

/** What an answer may be ahead of a caller who takes nothing of it (H2-10). */
const PART_BYTES = 32 * 1024;
/** As much as node:net reads at once. */
const LARGE_PART_BYTES = 64 * 1024;

/** Where the bytes of all backends arrive, to be copied out at once. */
const part = Buffer.allocUnsafeSlow(PART_BYTES);
const largePart = Buffer.allocUnsafeSlow(LARGE_PART_BYTES);

/**
 * A connection that keeps what came and nothing beside it. By itself a socket takes 64 KiB of memory for each read, and
 * reads on after it was paused. Parts are large while they are taken as they come.
 */
export function connectFrugally(options: net.NetConnectOpts): net.Socket {
  let wasFull = false;
  let made: net.Socket | undefined;
  const frugal: net.NetConnectOpts & { readableHighWaterMark: number } = {
    ...options,
    readableHighWaterMark: 0, // nothing is read before it is wanted
    onread: {
      buffer: () => (wasFull && made?.isPaused() === false ? largePart : part),
      callback: (bytes, place) => {
        wasFull = bytes === place.length;
        return made?.push(Buffer.from(place.subarray(0, bytes))) ?? false;
      },
    },
  };
  made = net.connect(frugal);
  return made;
}
