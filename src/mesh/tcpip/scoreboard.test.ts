import { describe, expect, test } from "vitest";
import { seededRandom } from "../../base/random.ts";
import { LOST, SACKED, Scoreboard } from "./scoreboard.ts";

interface Model {
  start: number;
  end: number;
  fate: "out" | "sacked" | "lost";
}

describe("scoreboard", () => {
  test("property: counts and fates as a plain list has them, through growth, cuts and wraps", () => {
    for (let seed = 1; seed <= 30; seed++) {
      const random = seededRandom(seed);
      const draw = (below: number): number => ((random(2)[0]! << 8) | random(2)[1]!) % below;
      const board = new Scoreboard();
      const model: Model[] = [];
      let nxt = 1;
      for (let step = 0; step < 600; step++) {
        const index = model.length === 0 ? 0 : draw(model.length);
        const one = model[index];
        switch (draw(6)) {
          case 0:
          case 1:
            board.push(nxt, nxt + 100, step);
            model.push({ start: nxt, end: nxt + 100, fate: "out" });
            nxt += 100;
            break;
          case 2:
            if (one === undefined || one.fate === "sacked") break;
            board.markSacked(board.head + index);
            one.fate = "sacked";
            break;
          case 3:
            if (one === undefined) break;
            board.markLost(board.head + index);
            if (one.fate === "out") one.fate = "lost";
            break;
          case 4: {
            if (one === undefined || one.end - one.start < 2 || draw(4) > 0) break;
            const middle = one.start + Math.floor((one.end - one.start) / 2);
            board.split(board.head + index, middle);
            model.splice(index, 1, { ...one, end: middle }, { ...one, start: middle });
            break;
          }
          default: {
            if (one === undefined || draw(3) > 0) break;
            const at = one.start + draw(one.end - one.start + 1);
            board.acknowledge(at);
            while (model.length > 0 && model[0]!.end <= at) model.shift();
            if (model.length > 0) model[0]!.start = Math.max(model[0]!.start, at);
          }
        }
        const bytes = (fate: string) =>
          model.filter((item) => item.fate === fate).reduce((sum, { start, end }) => sum + end - start, 0);
        expect([board.sackedBytes, board.lostBytes]).toEqual([bytes("sacked"), bytes("lost")]);
        expect(board.tail - board.head).toBe(model.length);
        expect(board.findLost(board.head) - board.head).toBe(
          model.some(({ fate }) => fate === "lost") ? model.findIndex(({ fate }) => fate === "lost") : -1 - board.head,
        );
      }
      model.forEach(({ start, end, fate }, i) => {
        const segment = board.head + i;
        const found = board.fate(segment);
        expect([board.start(segment), board.end(segment)]).toEqual([start, end]);
        expect([(found & SACKED) !== 0, (found & LOST) !== 0]).toEqual([fate === "sacked", fate === "lost"]);
        expect(board.find(end - 1)).toBe(segment);
      });
    }
  });
});
