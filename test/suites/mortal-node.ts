import type { Duplex } from "node:stream";
import { systemClock } from "../../src/base/clock.ts";
import type { UdpIo } from "../../src/base/packet.ts";
import type { PathTable } from "../../src/base/path-table.ts";
import { connectRegion } from "../../src/mesh/derp/derp-connection.ts";
import { openUdpIo } from "../../src/mesh/udp/udp-io.ts";
import type { DerpRegion } from "../../src/wire/tailcfg.ts";

/** The ways of a node to its peers, that fall silent when its process dies: then nobody is told anything. */
export class MortalNode {
  #isDead = false;
  readonly #streams: Set<Duplex> = new Set();

  die(): void {
    this.#isDead = true;
    for (const stream of this.#streams) stream.destroy();
  }

  readonly connectDerp = async (region: DerpRegion, signal: AbortSignal): Promise<Duplex> => {
    const stream = await connectRegion(region, signal);
    this.#streams.add(stream);
    stream.once("close", () => this.#streams.delete(stream));
    return stream;
  };

  readonly openUdp = async (table: PathTable): Promise<UdpIo> => {
    const { io } = await openUdpIo({ table, clock: systemClock });
    return {
      port: io.port,
      start: (onBatch) =>
        io.start((batch, now) => {
          if (!this.#isDead) onBatch(batch, now);
        }),
      claim: (path, segmentBytes) => (this.#isDead ? undefined : io.claim(path, segmentBytes)),
      onWritable: (wake) => io.onWritable(wake),
      flush: () => {
        if (!this.#isDead) io.flush();
      },
      close: () => io.close(),
    };
  };
}
