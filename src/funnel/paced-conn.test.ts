import { expect, test } from "vitest";
import { FakeClock } from "../base/clock.ts";
import type { Conn } from "../base/conn.ts";
import { connPair } from "../base/conn-pair.ts";
import { Fault } from "../base/fault.ts";
import { PacedConn } from "./paced-conn.ts";

const RATE = 10_000;
const PART = 1000;
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Both ends; `far` is at the end of a connection of 10,000 bytes a second. */
function paced(): { clock: FakeClock; near: Conn; far: Conn } {
  const clock = new FakeClock();
  const address = { address: "203.0.113.9", port: 5 };
  const [near, inner] = connPair({ kind: "public", source: address, destination: address });
  return { clock, near, far: new PacedConn(inner, clock, RATE) };
}

/** Writes as long as it is let, and counts what comes. */
function pump(conn: Conn): { readonly sent: () => number } {
  let sent = 0;
  const more = (): void => {
    for (;;) {
      sent += PART;
      if (!conn.write(new Uint8Array(PART))) return;
    }
  };
  conn.attach({ data: () => undefined, end: () => undefined, abort: () => undefined, drain: more });
  more();
  return { sent: () => sent };
}

function drink(conn: Conn, window: number): { readonly bytes: () => number; readonly endings: string[] } {
  let bytes = 0;
  const endings: string[] = [];
  conn.attach({
    data: (view) => {
      bytes += view.length;
      conn.credit(view.length);
    },
    end: () => void endings.push("end"),
    abort: (fault) => void endings.push(fault.code),
    drain: () => undefined,
  });
  conn.credit(window);
  return { bytes: () => bytes, endings };
}

async function pass(clock: FakeClock, seconds: number): Promise<void> {
  for (let i = 0; i < seconds * 20; i++) {
    clock.advance(50);
    for (let j = 0; j < 3; j++) await turn();
  }
}

test("what is written goes at its pace, after a second's worth at once", async () => {
  const { clock, near, far } = paced();
  const heard = drink(near, 1_000_000);
  const writer = pump(far);
  await pass(clock, 10);
  expect(heard.bytes()).toBeGreaterThanOrEqual(10 * RATE);
  expect(heard.bytes()).toBeLessThanOrEqual(11 * RATE + 2 * PART);
  expect(writer.sent()).toBe(heard.bytes());
});

test("what comes is taken at its pace, whatever window is open", async () => {
  for (const window of [2000, 5000, 20_000]) {
    const { clock, near, far } = paced();
    const heard = drink(far, window);
    pump(near);
    await pass(clock, 10);
    expect(heard.bytes()).toBeGreaterThanOrEqual(9 * RATE);
    expect(heard.bytes()).toBeLessThanOrEqual(11 * RATE + 2 * window);
  }
});

test("ends and cuts pass through", async () => {
  const { near, far } = paced();
  const [here, there] = [drink(near, 10), drink(far, 10)];
  far.end();
  near.end();
  await turn();
  expect([here.endings, there.endings]).toEqual([["end"], ["end"]]);
  const other = paced();
  const cut = drink(other.near, 10);
  other.far.abort(new Fault("TEST_CUT", "gone"));
  await turn();
  expect(cut.endings).toHaveLength(1);
  expect(other.far.proof).toMatchObject({ kind: "public" });
});
