import { expect, test } from "vitest";
import { loadJson, type SavedForm, saveJson } from "./saved-json.ts";
import { memoryStore } from "./store.ts";

const FORM: SavedForm<readonly number[]> = {
  file: "numbers.json",
  what: "the numbers",
  remedy: "count again",
  read: (json) => (Array.isArray(json) && json.every(Number.isInteger) ? json : undefined),
};

test("what was saved is read again; before that there is nothing", async () => {
  const store = memoryStore();
  expect(await loadJson(store, FORM)).toBeUndefined();
  await saveJson(store, FORM.file, [1, 2]);
  expect(await loadJson(store, FORM)).toEqual([1, 2]);
});

test.each([
  ["", "text that is not JSON"],
  ["[1,", "text that is not JSON"],
  ["\xff", "text that is not JSON"],
  ["null", "JSON that says something else"],
  ['["one"]', "JSON that says something else"],
])("%j stops whoever asks, and says which file is meant", async (text, found) => {
  const store = memoryStore();
  await store.set(FORM.file, Buffer.from(text, "latin1"));
  await expect(loadJson(store, FORM)).rejects.toMatchObject({
    code: "STATE_DAMAGED",
    message: `Cannot read the numbers: found ${found}, wanted what was saved`,
    hint: "Remove the file numbers.json from the state folder and count again.",
  });
});
