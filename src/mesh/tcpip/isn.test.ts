import { describe, expect, test } from "vitest";
import { seededRandom } from "../../base/random.ts";
import { InitialNumbers } from "./isn.ts";

const SAMPLES = 100_000;
const OURS = Uint8Array.of(100, 64, 0, 1);

/** Numbers of as many connections, from one peer whose port and address move on. */
function samples(): Float64Array {
  const numbers = new InitialNumbers(seededRandom(3));
  const values = new Float64Array(SAMPLES);
  for (let i = 0; i < SAMPLES; i++) {
    const remote = Uint8Array.of(100, 64, i >> 16, (i >> 8) & 255);
    values[i] = numbers.of(OURS, 80, remote, 1024 + (i & 255), 1000).sequence / 2 ** 32 - 0.5;
  }
  return values;
}

describe("IP-5 initial sequence numbers (RFC 6528)", () => {
  const values = samples();

  test("no number says anything of the ones after it: autocorrelation of 32 lags", () => {
    const variance = values.reduce((sum, value) => sum + value * value, 0) / SAMPLES;
    expect(variance).toBeCloseTo(1 / 12, 3); // of even numbers
    for (let lag = 1; lag <= 32; lag++) {
      let sum = 0;
      for (let i = lag; i < SAMPLES; i++) sum += values[i]! * values[i - lag]!;
      const correlation = sum / (SAMPLES - lag) / variance;
      expect(Math.abs(correlation) * Math.sqrt(SAMPLES)).toBeLessThan(4); // sigmas: p > 0.002 for 32 looks
    }
  });

  test("no period: each of 256 frequencies has its share of the power", () => {
    const count = 4096;
    let loudest = 0;
    for (let k = 1; k <= 256; k++) {
      let [cosine, sine] = [0, 0];
      for (let i = 0; i < count; i++) {
        cosine += values[i]! * Math.cos((2 * Math.PI * k * i) / count);
        sine += values[i]! * Math.sin((2 * Math.PI * k * i) / count);
      }
      loudest = Math.max(loudest, (cosine ** 2 + sine ** 2) / count / (1 / 12));
    }
    expect(loudest).toBeLessThan(12); // exponential: p = 256 · e^-12 = 0.0016
  });

  test("in each of 16 bits of the head, as many ones as zeros", () => {
    for (let bit = 0; bit < 16; bit++) {
      let ones = 0;
      for (const value of values) ones += Math.floor((value + 0.5) * 2 ** (bit + 1)) & 1;
      expect(Math.abs(ones - SAMPLES / 2) / Math.sqrt(SAMPLES / 4)).toBeLessThan(4);
    }
  });

  test("the same connection, opened again, goes on from higher numbers: one each 4 µs", () => {
    const numbers = new InitialNumbers(seededRandom(3));
    const remote = Uint8Array.of(100, 64, 0, 2);
    const first = numbers.of(OURS, 80, remote, 4000, 1000).sequence;
    const second = numbers.of(OURS, 80, remote, 4000, 3000).sequence;
    expect((second - first) >>> 0).toBe(500_000);
  });

  test("another secret, other numbers", () => {
    const remote = Uint8Array.of(100, 64, 0, 2);
    const of = (seed: number) => new InitialNumbers(seededRandom(seed)).of(OURS, 80, remote, 4000, 1000).sequence;
    expect(of(1)).not.toBe(of(2));
  });
});
