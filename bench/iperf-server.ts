import type { Conn, ConnSink } from "../src/base/conn.ts";

// What iperf3 says on its control connection (iperf_api.h), so that one client measures kernels and our own TCP alike.
const STATE = {
  testStart: 1,
  testRunning: 2,
  testEnd: 4,
  paramExchange: 9,
  createStreams: 10,
  exchangeResults: 13,
  displayResults: 14,
  done: 16,
} as const;
const COOKIE_BYTES = 37;
const CREDIT_BYTES = 4 << 20;
const BLOCK = Buffer.alloc(128 * 1024, "sallyport ");

interface Parameters {
  readonly parallel?: number;
  readonly reverse?: boolean;
  /** Seconds at the start that do not count. */
  readonly omit?: number;
}

interface Test {
  readonly control: Conn;
  parameters: Parameters;
  readonly streams: Stream[];
  isRunning: boolean;
  startedAt: number;
}

interface Stream {
  readonly conn: Conn;
  bytes: number;
}

/** An iperf3 server on connections of any kind. One test at a time for each cookie. */
export class IperfServer {
  readonly #tests: Map<string, Test> = new Map();

  accept(conn: Conn): void {
    let held: Buffer = Buffer.alloc(0);
    let sink: ConnSink | undefined;
    conn.attach({
      data: (view) => {
        if (sink !== undefined) {
          sink.data(view);
          return;
        }
        held = Buffer.concat([held, view]);
        if (held.length < COOKIE_BYTES) return;
        sink = this.#open(conn, held.toString("latin1", 0, COOKIE_BYTES));
        if (held.length > COOKIE_BYTES) sink.data(held.subarray(COOKIE_BYTES));
      },
      end: () => sink?.end(),
      drain: () => sink?.drain(),
      abort: (fault) => sink?.abort(fault),
    });
    conn.credit(CREDIT_BYTES);
  }

  #open(conn: Conn, cookie: string): ConnSink {
    const test = this.#tests.get(cookie);
    return test === undefined ? this.#control(conn, cookie) : this.#stream(conn, test);
  }

  #control(conn: Conn, cookie: string): ConnSink {
    const test: Test = { control: conn, parameters: {}, streams: [], isRunning: false, startedAt: 0 };
    this.#tests.set(cookie, test);
    const over = () => {
      this.#tests.delete(cookie);
      test.isRunning = false;
      for (const stream of test.streams) stream.conn.end();
      conn.end();
    };
    let held: Buffer = Buffer.alloc(0);
    let expects: "parameters" | "end" | "results" | "done" = "parameters";
    const document = (): unknown => {
      if (held.length < 4 || held.length < 4 + held.readUInt32BE()) return undefined;
      const text = held.toString("utf8", 4, 4 + held.readUInt32BE());
      held = held.subarray(4 + held.readUInt32BE());
      return JSON.parse(text);
    };
    say(conn, STATE.paramExchange);
    return {
      data: (view) => {
        conn.credit(view.length);
        held = Buffer.concat([held, view]);
        if (expects === "parameters") {
          const parameters = document() as Parameters | undefined;
          if (parameters === undefined) return;
          test.parameters = parameters;
          expects = "end";
          say(conn, STATE.createStreams);
        } else if (expects === "end" && held[0] === STATE.testEnd) {
          held = held.subarray(1);
          test.isRunning = false;
          expects = "results";
          say(conn, STATE.exchangeResults);
        }
        if (expects === "results" && document() !== undefined) {
          const text = Buffer.from(JSON.stringify(resultsOf(test)));
          const length = Buffer.alloc(4);
          length.writeUInt32BE(text.length);
          conn.write(Buffer.concat([length, text]));
          expects = "done";
          say(conn, STATE.displayResults);
        }
        if (expects === "done" && held.includes(STATE.done)) over();
      },
      end: over,
      drain: () => {},
      abort: over,
    };
  }

  #stream(conn: Conn, test: Test): ConnSink {
    const stream: Stream = { conn, bytes: 0 };
    test.streams.push(stream);
    if (test.streams.length === (test.parameters.parallel ?? 1)) start(test);
    return {
      data: ({ length }) => {
        stream.bytes += length;
        conn.credit(length);
      },
      end: () => conn.end(),
      drain: () => fill(test, stream),
      abort: () => {},
    };
  }
}

function say(conn: Conn, state: number): void {
  conn.write(Uint8Array.of(state));
}

function start(test: Test): void {
  say(test.control, STATE.testStart);
  say(test.control, STATE.testRunning);
  test.isRunning = true;
  const omitted = (test.parameters.omit ?? 0) * 1000;
  test.startedAt = performance.now() + omitted;
  setTimeout(() => {
    test.startedAt = performance.now();
    for (const stream of test.streams) stream.bytes = 0;
  }, omitted);
  if (test.parameters.reverse === true) for (const stream of test.streams) fill(test, stream);
}

function fill(test: Test, stream: Stream): void {
  while (test.isRunning) {
    stream.bytes += BLOCK.length;
    if (!stream.conn.write(BLOCK)) return;
  }
}

function resultsOf({ streams, startedAt }: Test): object {
  const seconds = (performance.now() - startedAt) / 1000;
  return {
    cpu_util_total: 0,
    cpu_util_user: 0,
    cpu_util_system: 0,
    sender_has_retransmits: 0,
    streams: streams.map(({ bytes }, i) => ({
      id: i === 0 ? 1 : i + 2, // iperf3 numbers its streams 1, 3, 4, …
      bytes,
      retransmits: 0,
      jitter: 0,
      errors: 0,
      packets: 0,
      start_time: 0,
      end_time: seconds,
    })),
  };
}
