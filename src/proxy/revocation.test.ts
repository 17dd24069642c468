import { expect, test } from "vitest";
import { onRevoked } from "./revocation.ts";

test("all connections of a caller are cut, once, but for those that are gone", () => {
  const [one, other] = [new AbortController(), new AbortController()];
  const cut: string[] = [];
  onRevoked(one.signal, () => cut.push("a"));
  const leave = onRevoked(one.signal, () => cut.push("b"));
  onRevoked(one.signal, () => cut.push("c"));
  onRevoked(other.signal, () => cut.push("other"));
  leave();
  expect(cut).toEqual([]);
  one.abort();
  one.abort();
  expect(cut).toEqual(["a", "c"]);
});

test("a connection that leaves while it is cut disturbs nobody", () => {
  const caller = new AbortController();
  const cut: string[] = [];
  const leaves = ["a", "b", "c"].map((name) =>
    onRevoked(caller.signal, () => {
      cut.push(name);
      for (const leave of leaves) leave();
    }),
  );
  caller.abort();
  expect(cut).toEqual(["a", "b", "c"]); // cutting what is over does nothing
});
