/** The internet checksum (RFC 1071), in the platform's byte order with one swap at the end. */

const NO_WORDS = new Uint16Array(0);

// Views of the two buffers summed last (one received into, one sent from): making a view costs more than a short sum.
let recentWords: Uint16Array = NO_WORDS;
let olderWords: Uint16Array = NO_WORDS;

function wordsOf(buffer: ArrayBufferLike): Uint16Array {
  if (recentWords.buffer === buffer) return recentWords;
  const words = olderWords.buffer === buffer ? olderWords : new Uint16Array(buffer, 0, buffer.byteLength >> 1);
  olderWords = recentWords;
  recentWords = words;
  return words;
}

const isLittleEndian = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

/** Folds a sum of 16-bit words to 16 bits. */
export function foldSum(sum: number): number {
  const once = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return (once & 0xffff) + (once >>> 16);
}

function swap16(word: number): number {
  return ((word & 0xff) << 8) | (word >>> 8);
}

/** The folded sum of big-endian words; an odd last byte counts as the high half of a word. At most 64 KiB. */
export function sumWords(bytes: Uint8Array, offset: number, length: number): number {
  let position = bytes.byteOffset + offset;
  let left = length;
  const isOdd = (position & 1) === 1;
  let extra = 0; // in big-endian order
  if (isOdd && left > 0) {
    extra += bytes[offset]! << 8;
    position++;
    left--;
  }
  const words = wordsOf(bytes.buffer);
  let index = position >> 1;
  let sum = 0;
  const end = index + (left >> 1);
  for (const unrolledEnd = end - 7; index < unrolledEnd; index += 8) {
    sum +=
      words[index]! +
      words[index + 1]! +
      words[index + 2]! +
      words[index + 3]! +
      words[index + 4]! +
      words[index + 5]! +
      words[index + 6]! +
      words[index + 7]!;
  }
  for (; index < end; index++) sum += words[index]!;
  let folded = foldSum(foldSum(sum));
  if (isLittleEndian !== isOdd) folded = swap16(folded); // summed shifted by one byte = summed swapped
  if ((left & 1) === 1) {
    const last = bytes[offset + length - 1]!;
    extra += isOdd ? last : last << 8;
  }
  return foldSum(folded + extra);
}

/** The checksum of words whose sum is `sum`. */
export function checksumOf(sum: number): number {
  return ~foldSum(foldSum(sum)) & 0xffff;
}

/** Sum of the pseudo-header of RFC 9293 §3.1 and RFC 8200 §8.1, without the length. */
export function sumPseudoHeader(source: Uint8Array, destination: Uint8Array, protocol: number): number {
  return foldSum(sumWords(source, 0, source.length) + sumWords(destination, 0, destination.length) + protocol);
}
