import type { Duplex } from "node:stream";
import { concatBytes } from "../../base/bytes.ts";
import { Fault } from "../../base/fault.ts";
import { type RecordCodec, RecordDuplex } from "../../base/record-duplex.ts";
import { NOISE_TAG_BYTES, type NoiseSession } from "../../crypto/noise.ts";
import {
  CONTROL_HEADER_BYTES,
  encodeRecord,
  LARGEST_RECORD_BODY,
  recordBodyLength,
  splitEarlyPayload,
} from "../../wire/control.ts";

/** The records of a finished handshake. */
export function noiseRecords(session: NoiseSession): RecordCodec {
  return {
    headerBytes: CONTROL_HEADER_BYTES,
    largestPlaintext: LARGEST_RECORD_BODY - NOISE_TAG_BYTES,
    bodyLength: recordBodyLength,
    seal(plaintext) {
      const ciphertext = session.seal.next(plaintext);
      if (ciphertext !== undefined) return encodeRecord(ciphertext);
      throw new Fault("CONTROL_COUNTER_USED_UP", "Cannot seal the record: found no counter left, wanted a new channel");
    },
    open(body) {
      const plaintext = session.open.next(body);
      if (plaintext !== undefined) return plaintext;
      throw new Fault("CONTROL_BAD_RECORD", "Cannot open the record: found a forged or repeated one, wanted the next");
    },
  };
}

/** Takes the early payload off the front of what the server sends; what follows is HTTP/2. */
function withoutEarlyPayload(codec: RecordCodec): RecordCodec {
  let held: Uint8Array | undefined = new Uint8Array(0);
  return {
    headerBytes: codec.headerBytes,
    largestPlaintext: codec.largestPlaintext,
    bodyLength: (header) => codec.bodyLength(header),
    seal: (plaintext) => codec.seal(plaintext),
    open(body) {
      const plaintext = codec.open(body);
      if (held === undefined) return plaintext;
      held = concatBytes(held, plaintext);
      const split = splitEarlyPayload(held);
      if (split === undefined) return new Uint8Array(0);
      held = undefined;
      return split.rest;
    },
  };
}

/** The client's end. Its early payload is dropped: nothing of ours or of Headscale's uses the challenge in it. */
export function clientChannel(inner: Duplex, session: NoiseSession, head: Uint8Array): RecordDuplex {
  return new RecordDuplex(inner, withoutEarlyPayload(noiseRecords(session)), head);
}
