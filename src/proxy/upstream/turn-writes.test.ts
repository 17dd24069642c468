import { Duplex } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import { expect, test } from "vitest";
import { TurnWrites } from "./turn-writes.ts";

/** Notes what reaches it, and in how many pieces. */
class Noting extends Duplex {
  readonly pieces: string[] = [];
  override _read(): void {}
  override _writev(chunks: { chunk: Buffer }[], done: () => void): void {
    this.pieces.push(chunks.map(({ chunk }) => chunk.toString()).join(""));
    done();
  }
}

test("what is written in a turn goes out at its end, in one piece a connection", async () => {
  const writes = new TurnWrites();
  const [one, other] = [new Noting(), new Noting()];
  for (const stream of [one, other]) {
    for (const part of ["head ", "body"]) {
      writes.hold(stream);
      stream.write(part);
    }
  }
  expect([one.pieces, other.pieces]).toEqual([[], []]);
  await turn();
  expect([one.pieces, other.pieces]).toEqual([["head body"], ["head body"]]);
  writes.hold(one);
  one.write("next");
  one.destroy(); // before the end of the turn
  await turn();
  expect(one.pieces).toEqual(["head body"]);
});
