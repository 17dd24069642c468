/** All of `parts` together; `undefined` as soon as it is more than `most` bytes: nobody waits for the rest. */
export async function readAtMost(parts: AsyncIterable<Uint8Array>, most: number): Promise<Buffer | undefined> {
  const read: Uint8Array[] = [];
  let size = 0;
  for await (const part of parts) {
    size += part.length;
    if (size > most) return undefined;
    read.push(part);
  }
  return Buffer.concat(read);
}
