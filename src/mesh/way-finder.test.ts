import { expect, test } from "vitest";
import { WayFinder } from "./way-finder.ts";

const FIRST_HANDSHAKE = Uint8Array.of(1, 0, 0, 0);
const DATA = Uint8Array.of(4, 0, 0, 0);

function scene() {
  /** Best and second path of each peer. */
  const ways = new Map<number, [best: number, second: number]>();
  const sent: [path: number, kind: number][] = [];
  const finder = new WayFinder(
    {
      best: (peer) => ways.get(peer)?.[0] ?? -1,
      second: (peer) => ways.get(peer)?.[1] ?? -1,
      sent: () => {},
    },
    { sendDatagram: (path, datagram) => void sent.push([path, datagram[0]!]) },
  );
  return { ways, sent, finder };
}

test("a datagram goes by the best path, and by the second where there is one", () => {
  const { ways, sent, finder } = scene();
  ways.set(7, [3, -1]);
  finder.send(7, DATA, 0);
  ways.set(7, [3, 5]);
  finder.send(7, DATA, 0);
  expect(sent).toEqual([
    [3, 4],
    [3, 4],
    [5, 4],
  ]);
});

test("a first handshake waits for a way and goes once; data does not wait", () => {
  const { ways, sent, finder } = scene();
  const bytes = FIRST_HANDSHAKE.slice();
  finder.send(7, bytes, 0);
  bytes.fill(0); // its slab is used for something else
  finder.send(8, DATA, 0);
  finder.retry(() => true, 1);
  expect(sent).toEqual([]);
  expect(finder.isAwaited).toBe(true);
  ways.set(7, [3, -1]).set(8, [4, -1]);
  finder.retry(() => true, 2);
  expect(finder.isAwaited).toBe(false);
  finder.retry(() => true, 3);
  expect(sent).toEqual([[3, 1]]);
});

test.each<[what: string, lose: (finder: WayFinder) => void]>([
  ["its peer has gone", (finder) => finder.retry(() => false, 1)],
  ["it was made with a key that is none any more", (finder) => finder.forget()],
])("a handshake that waits is dropped when %s", (_, lose) => {
  const { ways, sent, finder } = scene();
  finder.send(7, FIRST_HANDSHAKE, 0);
  lose(finder);
  ways.set(7, [3, -1]);
  finder.retry(() => true, 2);
  expect(sent).toEqual([]);
});
