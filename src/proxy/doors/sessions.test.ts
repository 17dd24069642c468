import { expect, test } from "vitest";
import { FakeClock } from "../../base/clock.ts";
import { Sessions } from "./sessions.ts";

const LIFE = { idleMs: 60_000, longestMs: 600_000 };
const GUEST = { issuer: "urn:sallyport:door:friends", subject: "password" };

/** Of a machine that may sleep: then the monotonic clock stands still. */
class WakingClock extends FakeClock {
  slept = 0;
  override wall(): number {
    return super.wall() + this.slept;
  }
}

function started(clock: FakeClock = new FakeClock()) {
  const sessions = new Sessions(clock);
  return { clock, sessions, token: sessions.start("friends", GUEST, "192.0.2.1", LIFE) };
}

test("a session is found by its token at its own door, and by nothing else", () => {
  const { sessions, token } = started();
  expect(token).toMatch(/^[\w-]{43}$/);
  expect(sessions.find("friends", token)?.guest).toEqual(GUEST);
  expect(sessions.find("staff", token)).toBeUndefined();
  expect(sessions.find("friends", `${token.slice(1)}A`)).toBeUndefined();
  const [shown] = sessions.list();
  expect(sessions.find("friends", shown!.id), "what is shown of it lets nobody in").toBeUndefined();
  expect(JSON.stringify(shown)).not.toContain(token);
});

test("it ends when nothing comes for its idle time, and after its longest time whatever comes", () => {
  const { clock, sessions, token } = started();
  clock.advance(59_000);
  expect(sessions.find("friends", token)).toBeDefined();
  clock.advance(60_001);
  expect(sessions.find("friends", token)).toBeUndefined();
  const busy = sessions.start("friends", GUEST, "192.0.2.1", LIFE);
  for (let at = 0; at < 590_000; at += 10_000) {
    clock.advance(10_000);
    expect(sessions.find("friends", busy), `after ${at}`).toBeDefined();
  }
  clock.advance(10_001);
  expect(sessions.find("friends", busy)).toBeUndefined();
});

test("a machine that slept for a week let everybody in again who had been inside before", () => {
  const clock = new WakingClock();
  const { sessions, token } = started(clock);
  clock.slept = 59_000;
  expect(sessions.find("friends", token)).toBeDefined();
  clock.slept += 60_000;
  expect(sessions.list()).toEqual([]);
  expect(sessions.find("friends", token)).toBeUndefined();
  const open = sessions.start("friends", GUEST, "192.0.2.1", LIFE);
  let cuts = 0;
  sessions.find("friends", open)?.cuts.add(() => cuts++);
  clock.slept += 599_000;
  expect([sessions.list().length, cuts], "something is open: not idle").toEqual([1, 0]);
  clock.slept += 1000;
  clock.advance(5000);
  expect(cuts).toBe(1);
});

test("a clock that is set back makes no session longer", () => {
  const clock = new WakingClock();
  const { sessions, token } = started(clock);
  clock.slept = -86_400_000;
  clock.advance(60_000);
  expect(sessions.find("friends", token)).toBeUndefined();
});

test("an open connection keeps it from being idle, and is cut within 5 s of its end", () => {
  const { clock, sessions, token } = started();
  let cutAt = -1;
  sessions.find("friends", token)?.cuts.add(() => {
    cutAt = clock.now();
  });
  clock.advance(599_000);
  expect([cutAt, sessions.list().length]).toEqual([-1, 1]);
  clock.advance(6000);
  expect(cutAt).toBeGreaterThan(599_999);
  expect(cutAt).toBeLessThanOrEqual(605_000);
  expect([sessions.list().length, clock.next]).toEqual([0, Infinity]);
});

test("V10 who is revoked is cut at once, and nobody else", () => {
  const { sessions } = started();
  const cut: string[] = [];
  for (const subject of ["a", "b", "c"]) {
    const token = sessions.start("friends", { ...GUEST, subject }, "192.0.2.1", LIFE);
    sessions.find("friends", token)?.cuts.add(() => cut.push(subject));
  }
  expect(sessions.revoke(({ subject }) => subject === "b")).toBe(1);
  expect(cut).toEqual(["b"]);
  expect(sessions.list().map(({ subject }) => subject)).toEqual(["password", "a", "c"]);
});

test("one guest came in four thousand times by a link for many, and put out everybody else", () => {
  const { sessions, token } = started();
  let cuts = 0;
  const neighbour = sessions.start("friends", GUEST, "203.0.113.9", LIFE);
  sessions.find("friends", neighbour)?.cuts.add(() => cuts++); // a WebSocket, and no request since
  const again = Array.from({ length: 5000 }, () => sessions.start("friends", GUEST, "203.0.113.9", LIFE));
  expect([sessions.find("friends", token) !== undefined, cuts, sessions.list().length]).toEqual([true, 0, 4096]);
  expect(sessions.find("friends", again[0]!)).toBeUndefined();
  expect(sessions.find("friends", again.at(-1)!)).toBeDefined();
});

test("four thousand guests of one door; the one least recently seen makes room", () => {
  const { sessions, token } = started();
  const second = sessions.start("friends", { ...GUEST, subject: "second" }, "192.0.2.1", LIFE);
  for (let i = 0; i < 4094; i++) sessions.start("friends", GUEST, "192.0.2.1", LIFE);
  expect(sessions.find("friends", token)).toBeDefined();
  sessions.start("friends", GUEST, "192.0.2.1", LIFE);
  expect([sessions.find("friends", token) !== undefined, sessions.find("friends", second)]).toEqual([true, undefined]);
  expect(sessions.list()).toHaveLength(4096);
});
