/** Runs `one` that many times, `atOnce` of them at a time. */
export async function inParallel(
  times: number,
  atOnce: number,
  one: (index: number) => Promise<unknown>,
): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < times) await one(next++);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}
