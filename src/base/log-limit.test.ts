import { describe, expect, test } from "vitest";
import { FakeClock } from "./clock.ts";
import type { Log, LogFields } from "./log.ts";
import { limitedLog } from "./log-limit.ts";

function recorder(): Log & { readonly lines: [string, LogFields | undefined][] } {
  const lines: [string, LogFields | undefined][] = [];
  const write = (event: string, fields?: LogFields) => void lines.push([event, fields]);
  const log: Log = { debug: write, info: write, warn: write, error: write, with: () => log };
  return { ...log, lines };
}

describe("PR-10 a flood of lines", () => {
  test("is cut to ten a second of each kind, and the rest is counted", () => {
    const clock = new FakeClock();
    const log = recorder();
    const limited = limitedLog(log, clock);
    for (let count = 0; count < 1000; count++) limited.with("proxy").warn("proxy.refused", { count });
    limited.info("gateway.started");
    expect(log.lines).toHaveLength(11);
    clock.advance(1000);
    expect(log.lines.at(-1)).toEqual(["log.dropped", { event: "proxy.refused", lines: 990 }]);
    limited.warn("proxy.refused", { count: 1000 });
    expect(log.lines.at(-1)).toEqual(["proxy.refused", { count: 1000 }]);
  });

  test("says nothing where nothing was left out", () => {
    const clock = new FakeClock();
    const log = recorder();
    const limited = limitedLog(log, clock, 2);
    for (let second = 0; second < 5; second++) {
      limited.error("a");
      limited.debug("a");
      clock.advance(1000);
    }
    expect(log.lines.map(([event]) => event)).toEqual(Array.from({ length: 10 }, () => "a"));
  });
});
