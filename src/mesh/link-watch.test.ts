import { expect, test } from "vitest";
import { type Clock, FakeClock } from "../base/clock.ts";
import { watchLink } from "./link-watch.ts";

test("tells addresses at first and when they change, whatever their order", () => {
  const clock = new FakeClock();
  const told: (readonly string[])[] = [];
  let addresses = ["192.0.2.1", "2001:db8::1"];
  const stop = watchLink({
    clock,
    addresses: () => addresses,
    onAddresses: (now) => told.push(now),
    onWoken: () => told.push([]),
  });
  expect(told).toEqual([["192.0.2.1", "2001:db8::1"]]);
  addresses = ["2001:db8::1", "192.0.2.1"];
  clock.advance(10_000);
  expect(told.length).toBe(1);
  addresses = ["198.51.100.7"];
  clock.advance(3000);
  expect(told.slice(1)).toEqual([["198.51.100.7"]]);
  stop();
  expect(clock.next).toBe(Infinity);
});

test("notices that the machine slept: the wall clock went on, timers did not", () => {
  const fake = new FakeClock();
  let slept = 0;
  const clock: Clock = { now: () => fake.now(), wall: () => fake.wall() + slept, at: (at, wake) => fake.at(at, wake) };
  let woken = 0;
  watchLink({ clock, addresses: () => [], onAddresses: () => {}, onWoken: () => woken++ });
  fake.advance(60_000);
  slept = 10_000; // somebody set the clock a little
  fake.advance(60_000);
  expect(woken).toBe(0);
  slept += 3_600_000;
  fake.advance(3000);
  expect(woken).toBe(1);
  fake.advance(60_000);
  expect(woken).toBe(1);
});

test("a process without a free descriptor ended after three seconds: its addresses could not be asked for", () => {
  const clock = new FakeClock();
  const told: (readonly string[])[] = [];
  let isOut = true;
  const addresses = (): readonly string[] => {
    if (isOut) throw new Error("uv_interface_addresses returned EMFILE");
    return ["192.0.2.1"];
  };
  watchLink({ clock, addresses, onAddresses: (now) => told.push(now), onWoken: () => undefined });
  clock.advance(60_000);
  expect(told).toEqual([]);
  isOut = false;
  clock.advance(3000);
  isOut = true;
  clock.advance(60_000);
  expect(told).toEqual([["192.0.2.1"]]);
});
