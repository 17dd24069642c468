import { describe, expect, test } from "vitest";
import { Fault } from "../../base/fault.ts";
import { seededRandom } from "../../base/random.ts";
import { sumPseudoHeader } from "../../wire/checksum.ts";
import { write32 } from "../../wire/ip.ts";
import { FLAG, writeTcpHeader } from "../../wire/tcp.ts";
import { Bench, LETTERS, OURS, opened, THEIRS } from "./scripted-peer.ts";
import { PacketWriter } from "./segment-writer.ts";
import { batchOf } from "./simulated-link.ts";

describe("IP-3 handshake", () => {
  test("SYN to a closed port is reset with the number after it", () => {
    expect(new Bench().give({ seq: 500, flags: "S" })).toMatchObject([{ flags: "RA", seq: 0, ack: 501 }]);
  });

  test("ACK to a closed port is reset at its own number", () => {
    expect(new Bench().give({ seq: 500, ack: 777, flags: "A" })).toMatchObject([{ flags: "R", seq: 777 }]);
  });

  test("a reset is never answered", () => {
    expect(new Bench().give({ seq: 500, flags: "RA" })).toEqual([]);
  });

  test("SYN is repeated after 1, 2, 4, … s, then given up", async () => {
    const bench = new Bench();
    const dial = bench.stack.dialTcp({ address: "100.64.0.2", port: 80 }).catch((fault: Fault) => fault.code);
    const times = [...bench.sent, ...bench.pass(200_000)].map(({ at }) => at / 1000);
    expect(times).toEqual([0, 1, 3, 7, 15, 31, 63]);
    expect(await dial).toBe("TCPIP_TIMEOUT");
  });

  test("a reset answer to SYN is a refusal; an aborted signal gives up", async () => {
    const bench = new Bench();
    const controller = new AbortController();
    const dial = bench.stack
      .dialTcp({ address: "100.64.0.2", port: 80 }, { signal: controller.signal })
      .catch((fault: Fault) => fault.code);
    controller.abort();
    expect(await dial).toBe("TCPIP_ABORTED");
    expect(bench.stack.connections).toBe(0);
    const missing = bench.stack.dialTcp({ address: "fd7a::9", port: 80 }).catch((fault: Fault) => fault.code);
    expect(await missing).toBe("TCPIP_UNREACHABLE");
  });

  test("every flag set at every position in every passive state: no throw, and the stack still accepts", () => {
    for (let flags = 0; flags < 32; flags++) {
      for (const offset of [-70_000, -1, 0, 1, 70_000]) {
        for (const stage of ["syn-received", "established", "close-wait", "fin-wait"]) {
          const { bench, user, iss } = opened();
          if (stage === "close-wait") bench.give({ seq: 1001, ack: iss + 1, flags: "FA" });
          if (stage === "fin-wait") user.conn!.end();
          const port = stage === "syn-received" ? 4001 : 4000;
          if (stage === "syn-received") bench.give({ seq: 1000, flags: "S", port });
          const text = LETTERS.filter(([, bit]) => (flags & bit) !== 0)
            .map(([letter]) => letter)
            .join("");
          bench.give({ seq: 1001 + offset, ack: (iss + 1 + offset) >>> 0, flags: text, data: "x", port });
          bench.pass(1000);
          expect(bench.give({ seq: 5, flags: "S", port: 4999 })[0]?.flags).toBe("SA");
        }
      }
    }
  });

  test("a port that somebody listens on is taken", () => {
    const { bench } = opened();
    expect(() => bench.stack.listenTcp(80, () => {})).toThrow(expect.objectContaining({ code: "TCPIP_PORT_IN_USE" }));
  });

  test("a SYN to a port without listener asks onTcpSyn", () => {
    const bench = new Bench();
    const asked: unknown[] = [];
    bench.stack.onTcpSyn = (destination, source, peer) => {
      asked.push(destination, source, peer);
      return () => {};
    };
    expect(bench.give({ seq: 1, flags: "S" })[0]?.flags).toBe("SA");
    expect(asked).toEqual([{ address: "100.64.0.1", port: 80 }, { address: "100.64.0.2", port: 4000 }, 3]);
  });
});

describe("receiving", () => {
  test("one segment waits for its acknowledgment, two do not", () => {
    const { bench, iss } = opened();
    expect(bench.give({ seq: 1001, ack: iss + 1, flags: "PA", data: "hello" })).toEqual([]);
    expect(bench.pass(40)).toMatchObject([{ flags: "A", ack: 1006, at: 25 }]);
    const full = "x".repeat(1000);
    bench.give({ seq: 1006, ack: iss + 1, flags: "A", data: full });
    expect(bench.give({ seq: 2006, ack: iss + 1, flags: "A", data: full })).toMatchObject([{ ack: 3006 }]);
  });

  test("out of order, overlapping, old: delivered once and in order", () => {
    const { bench, user, iss } = opened();
    const ack = iss + 1;
    expect(bench.give({ seq: 1004, ack, flags: "A", data: "def" })).toMatchObject([{ ack: 1001 }]);
    bench.give({ seq: 1010, ack, flags: "A", data: "jkl" });
    bench.give({ seq: 1003, ack, flags: "A", data: "cdefgh" });
    expect(bench.give({ seq: 1001, ack, flags: "A", data: "abc" })).toMatchObject([{ ack: 1009 }]);
    bench.give({ seq: 1001, ack, flags: "A", data: "zzz" });
    bench.give({ seq: 1009, ack, flags: "FA", data: "ijkl" });
    expect(user.text).toBe("abcdefghijkl");
    expect(user.ended).toBe(true);
  });

  test("IP-11 FIN before the data it follows", () => {
    const { bench, user, iss } = opened();
    bench.give({ seq: 1004, ack: iss + 1, flags: "FA", data: "d" });
    expect(user.ended).toBe(false);
    expect(bench.give({ seq: 1001, ack: iss + 1, flags: "A", data: "abc" })).toMatchObject([{ ack: 1006 }]);
    expect([user.text, user.ended]).toEqual(["abcd", true]);
  });

  test("without credit the window closes and nothing is lost; credit opens it again", () => {
    const { bench, user, iss } = opened(1000, 10);
    let seq = 1001;
    const data = new Uint8Array(1000).fill(97);
    let edge = seq + 65_535;
    for (let i = 0; i < 400 && seq < edge; i++) {
      const size = Math.min(1000, edge - seq);
      const answer = bench.give({ seq, ack: iss + 1, flags: "A", data: data.subarray(0, size) });
      seq += size;
      for (const { ack, window } of seq < edge ? answer : [...answer, ...bench.pass(30)]) edge = ack + window;
    }
    expect(user.text.length).toBe(10);
    bench.sent.length = 0;
    user.conn!.credit(1e6);
    expect(bench.settled()).toMatchObject([{ flags: "A", ack: seq }]);
    expect(bench.sent[0]!.window).toBeGreaterThan(30_000);
    expect(user.text.length).toBe(seq - 1001);
  });
});

describe("IP-4 blind attacks", () => {
  test("a reset must hit the exact number", () => {
    const { bench, user, iss } = opened();
    expect(bench.give({ seq: 1002, ack: iss + 1, flags: "R" })).toMatchObject([{ flags: "A", ack: 1001 }]);
    expect(bench.give({ seq: 1003, ack: iss + 1, flags: "R" })).toEqual([]); // limited
    expect(bench.give({ seq: 1001 + 1e6, flags: "R" })).toEqual([]);
    expect(user.fault).toBeUndefined();
    bench.give({ seq: 1001, flags: "R" });
    expect(user.fault?.code).toBe("TCPIP_RESET");
  });

  test("SYN in the window, and an acknowledgment of what was never sent: at most one answer in 500 ms", () => {
    const { bench, user, iss } = opened();
    let answers = 0;
    for (let i = 0; i < 1000; i++) {
      answers += bench.give({ seq: 1005, flags: "S" }).length;
      answers += bench.give({ seq: 1001, ack: iss + 5000, flags: "A" }).length;
      bench.now += 1;
    }
    expect(answers).toBeLessThanOrEqual(3);
    expect(user.fault).toBeUndefined();
  });

  test("another peer cannot speak for a connection", () => {
    const { bench, user } = opened();
    const writer = new PacketWriter(1500);
    writeTcpHeader(writer.bytes, 20, 4000, 80, 1001, 0, 20, FLAG.rst, 0);
    bench.raw(writer.sealTcp(THEIRS, OURS, sumPseudoHeader(THEIRS, OURS, 6), 20), 4);
    expect(user.fault).toBeUndefined();
    expect(bench.stack.counters.wrongPeer).toBe(1);
  });
});

describe("sending", () => {
  test("IP-15 retransmission backs off and gives up after 300 s", () => {
    const { bench, user } = opened();
    user.conn!.write(new Uint8Array(10));
    bench.settled();
    const times = bench.pass(320_000).map(({ at }) => Math.round(at));
    expect(times[0]).toBeLessThanOrEqual(260);
    for (let i = 2; i < 8; i++) {
      const ratio = (times[i]! - times[i - 1]!) / (times[i - 1]! - times[i - 2]!);
      expect(ratio).toBeCloseTo(2, 1);
    }
    expect(user.fault?.code).toBe("TCPIP_TIMEOUT");
    expect(bench.stack.connections).toBe(0);
  });

  test("IP-9 a window closed for ever: probes up to 60 s apart, then the end", () => {
    const { bench, user, iss } = opened();
    bench.give({ seq: 1001, ack: iss + 1, flags: "A", window: 0 });
    user.conn!.write(new Uint8Array(5000));
    expect(bench.settled()).toEqual([]);
    const probes = bench.pass(290_000);
    expect(probes.length).toBeGreaterThan(5);
    expect(probes.every((probe) => probe.length === 0 && probe.seq === iss)).toBe(true);
    bench.pass(60_000);
    expect(user.fault?.code).toBe("TCPIP_TIMEOUT");
  });

  test.each([0, 1, 8, 47, 65_535])("IP-6 MSS %d", (mss) => {
    const { bench, user } = opened(mss);
    user.conn!.write(new Uint8Array(3000));
    const lengths = bench.settled().map(({ length }) => length);
    expect(Math.max(...lengths)).toBe(mss < 48 ? 48 : 1240);
  });

  test("IP-6 a window of one byte still makes progress", () => {
    const { bench, user, iss } = opened();
    bench.give({ seq: 1001, ack: iss + 1, flags: "A", window: 1 });
    user.conn!.write(new Uint8Array(3));
    bench.settled();
    const probes = bench.pass(1000);
    expect(probes[0]).toMatchObject({ seq: iss + 1, length: 1 });
  });
});

describe("IP-11 closing", () => {
  test("half close: they end, we go on, then end", () => {
    const { bench, user, iss } = opened();
    expect(bench.give({ seq: 1001, ack: iss + 1, flags: "FA" })).toMatchObject([{ flags: "A", ack: 1002 }]);
    bench.pass(600_000);
    bench.sent.length = 0;
    user.conn!.write(new Uint8Array(5));
    user.conn!.end();
    const [fin] = bench.settled();
    expect(fin).toMatchObject({ flags: "FPA", length: 5 });
    bench.give({ seq: 1002, ack: fin!.seq + 6, flags: "A" });
    expect(bench.stack.connections).toBe(0);
    expect(user.fault).toBeUndefined();
  });

  test("we end first: TIME-WAIT lasts 60 s and answers a repeated FIN", () => {
    const { bench, user, iss } = opened();
    user.conn!.end();
    expect(bench.settled().at(-1)).toMatchObject({ flags: "FPA" });
    bench.give({ seq: 1001, ack: iss + 2, flags: "A" });
    expect(bench.give({ seq: 1001, ack: iss + 2, flags: "FA" })).toMatchObject([{ flags: "A", ack: 1002 }]);
    expect(bench.give({ seq: 1001, ack: iss + 2, flags: "FA" })).toMatchObject([{ flags: "A", ack: 1002 }]);
    bench.pass(59_000);
    expect(bench.stack.connections).toBe(1);
    bench.pass(2000);
    expect(bench.stack.connections).toBe(0);
  });

  test("both end at once: both are told, and nothing is left", () => {
    const { bench, user, iss } = opened();
    user.conn!.end();
    bench.settled();
    bench.give({ seq: 1001, ack: iss + 1, flags: "FA" });
    bench.give({ seq: 1002, ack: iss + 2, flags: "A" });
    bench.pass(61_000);
    expect(bench.stack.connections).toBe(0);
    expect([user.ended, user.fault]).toEqual([true, undefined]);
  });

  test("a new SYN takes the place of TIME-WAIT", () => {
    const { bench, user, iss } = opened();
    user.conn!.end();
    bench.settled();
    bench.give({ seq: 1001, ack: iss + 2, flags: "FA" });
    expect(bench.give({ seq: 90_000, flags: "S" })).toMatchObject([{ flags: "SA", ack: 90_001 }]);
  });

  test("abort resets; cutting a peer resets and tells the user", () => {
    const { bench, user } = opened();
    bench.sent.length = 0;
    bench.stack.abortPeer(3, new Fault("MESH_REVOKED", "gone"));
    expect(bench.settled()).toMatchObject([{ flags: "RA", ack: 1001 }]);
    expect(user.fault?.code).toBe("MESH_REVOKED");
  });
});

describe("last words", () => {
  test("what was written just before an abort goes before the reset, unless it is much", () => {
    const few = opened();
    few.bench.sent.length = 0;
    few.user.conn!.write(Buffer.from("why"));
    few.user.conn!.abort(new Fault("TEST", "over"));
    expect(few.bench.settled()).toMatchObject([
      { flags: "PA", seq: few.iss + 1, length: 3 },
      { flags: "RA", seq: few.iss + 4 },
    ]);
    const much = opened();
    much.bench.sent.length = 0;
    much.user.conn!.write(Buffer.alloc(5000));
    much.user.conn!.abort(new Fault("TEST", "over"));
    expect(much.bench.settled()).toMatchObject([{ flags: "RA", seq: much.iss + 1 }]);
  });

  test("what came in order before a reset is delivered, then the reset; behind a gap nothing is", () => {
    const { bench, user, iss } = opened();
    const packets = [
      { seq: 1001, ack: iss + 1, flags: "PA", data: "why" },
      { seq: 1005, ack: iss + 1, flags: "PA", data: "lost" },
      { seq: 1004, flags: "R" },
    ].map((segment) => bench.packet(segment).slice());
    bench.stack.input(batchOf(packets, 3), bench.now);
    bench.settled();
    expect([user.text, user.fault?.code]).toEqual(["why", "TCPIP_RESET"]);
  });

  test("what came before a cut from our side is not delivered any more", () => {
    const { bench, user, iss } = opened(1000, 0);
    bench.give({ seq: 1001, ack: iss + 1, flags: "PA", data: "too late" });
    user.conn!.credit(100);
    bench.stack.abortPeer(3, new Fault("MESH_REVOKED", "gone"));
    bench.settled();
    expect([user.text, user.fault?.code]).toEqual(["", "MESH_REVOKED"]);
  });
});

describe("bounds", () => {
  test("IP-8 every second byte of a window: bounded", () => {
    const { bench, user, iss } = opened();
    for (let i = 0; i < 2000; i++) bench.give({ seq: 1002 + 2 * i, ack: iss + 1, flags: "A", data: "x" });
    expect(bench.sent.at(-1)!.ack).toBe(1001);
    bench.give({ seq: 1001, ack: iss + 1, flags: "A", data: "y".repeat(300) });
    expect(user.text.length).toBeGreaterThanOrEqual(300);
  });

  test("IP-10 half-open connections of one peer leave room for others, and go away", () => {
    const bench = new Bench();
    bench.stack.listenTcp(80, () => {});
    for (let port = 1; port <= 5000; port++) bench.give({ seq: 1, flags: "S", port });
    expect(bench.stack.connections).toBeLessThanOrEqual(683);
    const writer = new PacketWriter(1500);
    writeTcpHeader(writer.bytes, 20, 9000, 80, 1, 0, 20, FLAG.syn, 100);
    const answer = bench.raw(writer.sealTcp(THEIRS, OURS, sumPseudoHeader(THEIRS, OURS, 6), 20), 7);
    expect(answer).toMatchObject([{ flags: "SA" }]);
    bench.pass(70_000);
    expect(bench.stack.connections).toBe(0);
  });

  test("malformed packets: 20,000 random ones and 30,000 with random options", () => {
    const { bench, user, iss } = opened();
    const random = seededRandom(4);
    for (let i = 0; i < 20_000; i++) {
      const packet = random(20 + (i % 60));
      packet[0] = i % 2 === 0 ? 0x45 : 0x60;
      bench.stack.input(batchOf([packet], 3), bench.now);
    }
    const writer = new PacketWriter(1500);
    writeTcpHeader(writer.bytes, 20, 4000, 80, 1001, iss + 1, 60, FLAG.ack, 100);
    for (let i = 0; i < 30_000; i++) {
      writer.bytes.set(random(40), 40); // options
      write32(writer.bytes, 40, (i * 0x01010101) >>> 0);
      bench.raw(writer.sealTcp(THEIRS, OURS, sumPseudoHeader(THEIRS, OURS, 6), 60));
    }
    expect(user.fault).toBeUndefined();
  });
});
