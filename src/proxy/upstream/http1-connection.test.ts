import { Duplex } from "node:stream";
import { expect, test } from "vitest";
import type { AnswerSink } from "./exchange.ts";
import { Http1Connection } from "./http1-connection.ts";
import { TurnWrites } from "./turn-writes.ts";

test("an answer that overtakes the news that its request was written, as by TLS it does, keeps its connection", async () => {
  const socket = new Duplex({
    read() {},
    write() {
      this.push("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); // and the write is not over
    },
  });
  const { promise, resolve } = Promise.withResolvers<string>();
  const connection = new Http1Connection(socket, "key", {
    writes: new TurnWrites(),
    released: () => resolve("kept"),
    closed: () => resolve("closed"),
  });
  const nothing = (): void => undefined;
  const sink = { started: nothing, head: nothing, body: nothing, flush: nothing } as unknown as AnswerSink;
  connection.ask({ method: "GET", path: "/", host: "a", fields: [], body: "none" }, sink);
  expect(await promise).toBe("kept");
});
