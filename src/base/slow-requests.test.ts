import { once } from "node:events";
import { createServer } from "node:http";
import { connect, createServer as createNetServer } from "node:net";
import { text } from "node:stream/consumers";
import { expect, onTestFinished, test } from "vitest";
import { listening } from "../../test/suites/listening.ts";
import { mindSlowRequests } from "./slow-requests.ts";

test.each([
  ["says nothing", ""],
  ["does not end its head", "GET / HTTP/1.1\r\nHost"],
  ["does not send its body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"],
])(
  "H1-14 who %s was waited for without end where connections were given to a server that listens nowhere",
  async (_, said) => {
    const http = createServer({ headersTimeout: 30, requestTimeout: 30, connectionsCheckingInterval: 10 });
    mindSlowRequests(http);
    const server = createNetServer((socket) => void http.emit("connection", socket));
    onTestFinished(() => void http.close());
    onTestFinished(() => void server.close());
    const socket = connect(await listening(server), "127.0.0.1");
    onTestFinished(() => void socket.destroy());
    await once(socket, "connect");
    socket.write(said);
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 408 /);
  },
);
