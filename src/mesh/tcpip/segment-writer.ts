import { checksumOf, sumWords } from "../../wire/checksum.ts";
import { ipHeaderLength, PROTOCOL, write16, writeIpHeader } from "../../wire/ip.ts";
import { TCP } from "../../wire/tcp.ts";

const LARGEST_PACKET = 65_535;

/** The one packet that everything sent is written into, with a ready view of each length: no allocation per packet. */
export class PacketWriter {
  readonly bytes: Uint8Array;
  readonly mtu: number;
  readonly #views: Uint8Array[] = [];

  constructor(mtu: number) {
    this.mtu = Math.min(mtu, LARGEST_PACKET);
    this.bytes = new Uint8Array(new ArrayBuffer((this.mtu + 1) & ~1));
  }

  /** The first `length` bytes. */
  view(length: number): Uint8Array {
    let view = this.#views[length];
    if (view === undefined) {
      for (let i = this.#views.length; i <= length; i++) this.#views.push(this.bytes.subarray(0, i));
      view = this.#views[length]!;
    }
    return view;
  }

  /** Puts the IP header before a TCP segment written at `ipHeaderLength` and its checksum into it. */
  sealTcp(source: Uint8Array, destination: Uint8Array, pseudoSum: number, length: number): Uint8Array {
    const start = ipHeaderLength(source);
    writeIpHeader(this.bytes, source, destination, PROTOCOL.tcp, length);
    write16(this.bytes, start + TCP.checksum, checksumOf(pseudoSum + length + sumWords(this.bytes, start, length)));
    return this.view(start + length);
  }
}
