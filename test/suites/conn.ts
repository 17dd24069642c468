import { describe, expect, test } from "vitest";
import type { Conn, ConnSink } from "../../src/base/conn.ts";
import { asDuplex } from "../../src/base/duplex.ts";
import { Fault } from "../../src/base/fault.ts";

/** What every `Conn` does, whatever carries it. `pair` opens a connection and gives both ends, unattached. */
export function connSuite(name: string, pair: () => Promise<[Conn, Conn]>): void {
  describe(`Conn: ${name}`, () => {
    test("bytes arrive in order and whole, then the end", async () => {
      const [a, b] = await pair();
      const sent = Uint8Array.from({ length: 300_000 }, (_, i) => (i * 31) >> 3);
      const writer = asDuplex(a);
      const reader = asDuplex(b);
      writer.end(sent);
      const received: Buffer[] = [];
      for await (const chunk of reader) received.push(chunk as Buffer);
      expect(Buffer.compare(Buffer.concat(received), sent)).toBe(0);
      reader.end();
    });

    test("without credit nothing is delivered", async () => {
      const [a, b] = await pair();
      let received = 0;
      const count = (view: Uint8Array) => {
        received += view.length;
      };
      b.attach(sink({ data: count }));
      a.attach(sink({}));
      a.write(new Uint8Array(1000));
      await turns();
      expect(received).toBe(0);
      b.credit(400);
      await turns();
      expect(received).toBe(400);
      b.credit(600);
      await turns();
      expect(received).toBe(1000);
    });

    test("a few words before an abort arrive, and then the cut", async () => {
      const [a, b] = await pair();
      const heard: string[] = [];
      b.attach(
        sink({
          data: (view) => void heard.push(Buffer.from(view).toString()),
          end: () => void heard.push("end"),
          abort: () => void heard.push("cut"),
        }),
      );
      b.credit(100);
      a.attach(sink({}));
      await turns();
      a.write(Buffer.from("why"));
      a.abort(new Fault("TEST", "over"));
      for (let i = 0; i < 1000 && heard.length < 2; i++) await turns();
      expect(heard).toEqual(["why", "cut"]);
    });

    test("a full ring says so, and drains when the reader takes", async () => {
      const [a, b] = await pair();
      let drained = 0;
      let received = 0;
      a.attach(sink({ drain: () => void drained++ }));
      const count = (view: Uint8Array) => {
        received += view.length;
      };
      b.attach(sink({ data: count }));
      let written = 0;
      for (let i = 0; i < 4096; i++) {
        written += 16_384;
        if (!a.write(new Uint8Array(16_384))) break;
      }
      expect(written).toBeLessThan(4096 * 16_384);
      b.credit(written);
      for (let i = 0; i < 2000 && received < written; i++) await turns();
      expect(received).toBe(written);
      expect(drained).toBeGreaterThan(0);
    });

    test("each direction ends by itself", async () => {
      const [a, b] = await pair();
      const ends: string[] = [];
      let text = "";
      const read = (view: Uint8Array) => {
        text += Buffer.from(view).toString();
      };
      a.attach(sink({ data: read, end: () => void ends.push("a") }));
      b.attach(sink({ end: () => void ends.push("b") }));
      a.credit(100);
      b.credit(100);
      a.end();
      await turns();
      expect(ends).toEqual(["b"]);
      b.write(Buffer.from("still here"));
      b.end();
      await turns();
      expect(text).toBe("still here");
      expect(ends).toEqual(["b", "a"]);
    });

    test("an abort reaches the other end as a fault", async () => {
      const [a, b] = await pair();
      const faults: Fault[] = [];
      a.attach(sink({}));
      b.attach(sink({ abort: (fault) => void faults.push(fault) }));
      b.credit(1);
      await turns();
      a.abort(new Fault("TEST_ABORT", "Aborted by the test"));
      await turns();
      expect(faults).toHaveLength(1);
      expect(faults[0]).toBeInstanceOf(Fault);
    });
  });
}

function sink(parts: Partial<ConnSink>): ConnSink {
  return { data() {}, end() {}, drain() {}, abort() {}, ...parts };
}

/** Lets queued work run; nothing here waits for time. */
async function turns(): Promise<void> {
  for (let i = 0; i < 10; i++) await new Promise<void>((resolve) => setImmediate(resolve));
}
