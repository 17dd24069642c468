import { describe, expect, test } from "vitest";
import { FLAG } from "../../wire/tcp.ts";
import { Bench, LETTERS, opened, type Sent, User } from "./scripted-peer.ts";

/** Numbers are told from the next that is expected. */
const OUTSIDE = 1_000_000;
const POSITIONS = [-70_000, -1, 0, 1, OUTSIDE];

interface Stage {
  readonly bench: Bench;
  readonly user: User;
  /** The next number expected of the other side, and the one after all we sent. */
  readonly next: number;
  readonly ours: number;
  /** Our port. */
  readonly to: number;
}

const has = (flags: number, flag: number): boolean => (flags & flag) !== 0;
const textOf = (flags: number): string =>
  LETTERS.filter(([, bit]) => has(flags, bit))
    .map(([letter]) => letter)
    .join("");

/** Brings a stack into each state of RFC 9293 §3.3.2. */
const STATES: Readonly<Record<string, () => Stage>> = {
  closed: () => ({ bench: new Bench(), user: new User(), next: 1001, ours: 500, to: 80 }),
  listen() {
    const bench = new Bench();
    bench.stack.listenTcp(80, () => {});
    return { bench, user: new User(), next: 1001, ours: 500, to: 80 };
  },
  "syn-sent"() {
    const bench = new Bench();
    const user = new User();
    bench.stack.dialTcp({ address: "100.64.0.2", port: 4000 }).catch((fault) => {
      user.fault = fault;
    });
    const [syn] = bench.sent;
    return { bench, user, next: 1000, ours: syn!.seq + 1, to: syn!.from };
  },
  "syn-received"() {
    const bench = new Bench();
    const user = new User();
    bench.stack.listenTcp(80, (conn) => {
      user.conn = conn;
      conn.attach({ data: () => {}, end: () => {}, drain: () => {}, abort: () => {} });
    });
    const [synAck] = bench.give({ seq: 1000, flags: "S" });
    return { bench, user, next: 1001, ours: synAck!.seq + 1, to: 80 };
  },
  established: () => later(() => {}, 1001, 1),
  "fin-wait-1": () => later(({ user }) => user.conn!.end(), 1001, 2),
  "fin-wait-2": () =>
    later(
      ({ user, bench, iss }) => {
        user.conn!.end();
        bench.settled();
        bench.give({ seq: 1001, ack: iss + 2, flags: "A" });
      },
      1001,
      2,
    ),
  "close-wait": () => later(({ bench, iss }) => bench.give({ seq: 1001, ack: iss + 1, flags: "FA" }), 1002, 1),
  closing: () =>
    later(
      ({ user, bench, iss }) => {
        user.conn!.end();
        bench.settled();
        bench.give({ seq: 1001, ack: iss + 1, flags: "FA" });
      },
      1002,
      2,
    ),
  "last-ack": () =>
    later(
      ({ user, bench, iss }) => {
        bench.give({ seq: 1001, ack: iss + 1, flags: "FA" });
        user.conn!.end();
      },
      1002,
      2,
    ),
  "time-wait": () =>
    later(
      ({ user, bench, iss }) => {
        user.conn!.end();
        bench.settled();
        bench.give({ seq: 1001, ack: iss + 2, flags: "FA" });
      },
      1002,
      2,
    ),
};

function later(prepare: (made: ReturnType<typeof opened>) => void, next: number, sent: number): Stage {
  const made = opened();
  prepare(made);
  made.bench.settled();
  return { ...made, next, ours: made.iss + sent, to: 80 };
}

interface Outcome {
  /** Flags of what is answered. */
  readonly answer: string;
  readonly connections: number;
}

/** RFC 9293 §3.10.7 with RFC 5961, for a segment without data that acknowledges all we sent. */
function expected(state: string, flags: number, position: number): Outcome {
  const [fin, syn, rst, ack] = [FLAG.fin, FLAG.syn, FLAG.rst, FLAG.ack].map((flag) => has(flags, flag));
  const unknown = { answer: rst ? "" : ack ? "R" : "RA", connections: 0 };
  if (state === "closed") return unknown;
  if (state === "listen") {
    if (rst || ack) return unknown;
    return syn ? { answer: "SA", connections: 1 } : { answer: "", connections: 0 };
  }
  if (state === "syn-sent") {
    if (rst) return { answer: "", connections: ack ? 0 : 1 };
    return { answer: syn ? (ack ? "A" : "SA") : "", connections: 1 };
  }
  const isReplaced = state === "time-wait" && syn && !ack && !rst && position > 0;
  if (isReplaced) return { answer: "SA", connections: 1 }; // RFC 6191
  const isOpening = state === "syn-received";
  const wrong = { answer: isOpening ? "" : "A", connections: 1 };
  const length = Number(fin) + Number(syn);
  const isAcceptable = position >= 0 ? position < OUTSIDE : position + length > 0;
  if (!isAcceptable) {
    if (rst) return { answer: "", connections: 1 };
    return isOpening && syn && position === -1 ? { answer: "SA", connections: 1 } : wrong;
  }
  if (rst) return position === 0 ? { answer: "", connections: 0 } : wrong;
  if (syn) return wrong;
  if (!ack) return { answer: "", connections: 1 };
  if (state === "last-ack") return { answer: "", connections: 0 };
  return { answer: fin ? "A" : "", connections: 1 };
}

describe("IP-3 every flag set at every position in every state, as RFC 9293 and RFC 5961 say", () => {
  test.each(Object.keys(STATES))("%s", (state) => {
    const wrong: unknown[] = [];
    for (let flags = 0; flags < 64; flags++) {
      for (const position of POSITIONS) {
        const { bench, next, ours, to } = STATES[state]!();
        const atOnce: Sent[] = bench.give({ seq: (next + position) >>> 0, ack: ours >>> 0, flags: textOf(flags), to });
        // Who dialed may say something within a turn of the loop, which then acknowledges the handshake.
        const sent = state === "syn-sent" ? [...atOnce, ...bench.pass(1)] : atOnce;
        const found: Outcome = {
          answer: sent.map((segment) => segment.flags).join(),
          connections: bench.stack.connections,
        };
        const wanted = expected(state, flags, position);
        const isRight = found.answer === wanted.answer && found.connections === wanted.connections;
        if (!isRight) wrong.push({ flags: textOf(flags), position, found, wanted });
      }
    }
    expect(wrong).toEqual([]);
  });

  test("in no state does any of them keep the stack from accepting, or from ending", () => {
    for (const [state, make] of Object.entries(STATES)) {
      for (let flags = 0; flags < 64; flags += 3) {
        const { bench, next, ours, to } = make();
        bench.give({ seq: next, ack: ours, flags: textOf(flags), to, data: "x" });
        if (state !== "closed" && state !== "syn-sent") {
          expect(bench.give({ seq: 5, flags: "S", port: 4999 })[0]?.flags).toBe("SA");
        }
        bench.stack.close();
        bench.pass(61_000);
        expect(bench.stack.connections).toBe(0);
      }
    }
  });
});
