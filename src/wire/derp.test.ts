import fc from "fast-check";
import { expect, test } from "vitest";
import { toHex } from "../base/bytes.ts";
import {
  DERP,
  DERP_FRAME_BYTES,
  DerpFrameReader,
  decodeDerpInfo,
  decodeDerpServerKey,
  encodeDerpFrame,
  encodeDerpServerKey,
} from "./derp.ts";

test("frames are those of the reference", () => {
  const key = new Uint8Array(32).fill(9);
  expect(toHex(encodeDerpServerKey(key)).slice(0, 26)).toBe("010000002844455250f09f9491");
  expect(toHex(encodeDerpFrame(DERP.keepAlive))).toBe("0600000000");
  expect(toHex(encodeDerpFrame(DERP.notePreferred, Uint8Array.of(1)))).toBe("070000000101");
  expect(toHex(encodeDerpFrame(DERP.sendPacket, key, new Uint8Array(148)).subarray(0, 5))).toBe("04000000b4");
  expect(toHex(encodeDerpFrame(DERP.peerGone, key, Uint8Array.of(1)).subarray(0, 5))).toBe("0800000021");
  expect(decodeDerpServerKey(encodeDerpServerKey(key).subarray(5))).toEqual(key);
});

test("a stream cut anywhere gives the same frames", () => {
  const frame = fc.record({ type: fc.nat(255), payload: fc.uint8Array({ maxLength: 200 }) });
  fc.assert(
    fc.property(
      fc.array(frame, { maxLength: 12 }),
      fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1 }),
      (frames, cuts) => {
        const stream = Buffer.concat(frames.map(({ type, payload }) => encodeDerpFrame(type, payload)));
        const reader = new DerpFrameReader(1000);
        const read: unknown[] = [];
        for (let at = 0, i = 0; at < stream.length; i++) {
          const cut = cuts[i % cuts.length]!;
          reader.push(
            stream.subarray(at, at + cut),
            (type, payload) => void read.push({ type, payload: payload.slice() }),
          );
          at += cut;
        }
        expect(read.length).toBe(frames.length);
        frames.forEach((wanted, i) => {
          expect(toHex((read[i] as { payload: Uint8Array }).payload)).toBe(toHex(wanted.payload));
        });
      },
    ),
  );
});

test("DD-6: a header that promises 4 GiB is refused before any of it is held", () => {
  const reader = new DerpFrameReader(DERP_FRAME_BYTES);
  expect(() => reader.push(Uint8Array.of(5, 255, 255, 255, 255), () => {})).toThrow(
    expect.objectContaining({ code: "DERP_FRAME_TOO_LONG" }),
  );
});

test("DD-5: info that is not an object is nothing; unknown members do not matter", () => {
  const info = (text: string) => decodeDerpInfo(new TextEncoder().encode(text));
  for (const text of ["", "[]", "null", "7", "{", "\u0000"]) expect(info(text)).toBeUndefined();
  expect(info('{"version":2,"future":[1],"TokenBucketBytesPerSecond":-1}')).toEqual({
    version: 2,
    CanAckPings: false,
    IsProber: false,
  });
});
