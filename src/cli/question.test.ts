import { PassThrough } from "node:stream";
import { expect, test } from "vitest";
import { Screen } from "../../test/suites/typed-command.ts";
import { ask } from "./question.ts";

test("Ctrl+C at a question did nothing", async () => {
  const stop = new AbortController();
  const stdin = new PassThrough();
  const { io } = new Screen({ stdin, isTerminal: true, signal: stop.signal });
  const answer = ask("Continue? [y/N] ", io);
  stdin.write("ye"); // no line yet
  stop.abort();
  expect(await answer).toBe("");
  expect(await ask("And now? [y/N] ", io)).toBe("");
});
