import { expect, test } from "vitest";
import type { Node } from "../wire/tailcfg.ts";
import { Presence } from "./presence.ts";

const MINUTE = 60_000;
const peers = (...online: readonly string[]): Node[] =>
  ["a", "b", "c"].map((StableID) => ({ StableID, Online: online.includes(StableID) }) as Node);

test("who was here when the map stream broke is here until everybody has had the time to come back, or has come and gone", () => {
  const presence = new Presence();
  const here = (now: number, ...online: readonly string[]): string => {
    const isHere = presence.read(peers(...online), now);
    return peers()
      .filter(isHere)
      .map(({ StableID }) => StableID)
      .join("");
  };
  expect(here(0, "a", "b")).toBe("ab");
  expect(here(0, "a")).toBe("a"); // away is away while the stream is open
  expect(here(0, "a", "b")).toBe("ab");
  presence.broke();
  presence.broke();
  expect(presence.back(10 * MINUTE)).toBe(10 * MINUTE + 45_000);
  expect(presence.back(10 * MINUTE)).toBeUndefined();
  expect(here(10 * MINUTE)).toBe("ab");
  expect(here(10 * MINUTE + 1000, "b", "c")).toBe("abc");
  expect(here(10 * MINUTE + 2000)).toBe("a"); // b has come back, and gone
  expect(here(10 * MINUTE + 45_000)).toBe("");
  presence.broke();
  presence.back(20 * MINUTE);
  expect(here(20 * MINUTE)).toBe("");
});
