import { systemClock } from "../../src/base/clock.ts";
import { type PacketBatch, STRIDE, type UdpIo } from "../../src/base/packet.ts";
import type { PathTable } from "../../src/base/path-table.ts";
import { openUdpIo } from "../../src/mesh/udp/udp-io.ts";
import { seededShare } from "../real/udp-relay.ts";

/** A node's own UDP, on which `share` of the datagrams that come in are lost; `counts` says how many. */
export function lossyUdp(share: number, seed: number, counts: { lost: number }): (table: PathTable) => Promise<UdpIo> {
  const draw = seededShare(seed);
  const thin = (batch: PacketBatch): void => {
    let kept = 0;
    for (let i = 0; i < batch.count; i++) {
      if (draw() < share) {
        counts.lost++;
        continue;
      }
      batch.at.copyWithin(kept++ * STRIDE, i * STRIDE, (i + 1) * STRIDE);
    }
    batch.count = kept;
  };
  return async (table) => {
    const { io } = await openUdpIo({ table, clock: systemClock });
    return {
      port: io.port,
      start: (onBatch) =>
        io.start((batch, now) => {
          thin(batch);
          if (batch.count > 0) onBatch(batch, now);
        }),
      claim: (path, segmentBytes) => io.claim(path, segmentBytes),
      onWritable: (wake) => io.onWritable(wake),
      flush: () => io.flush(),
      close: () => io.close(),
    };
  };
}
