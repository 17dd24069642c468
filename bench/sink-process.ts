import { createServer, type Socket } from "node:net";

// Argument: the port. What stands behind an ingress or a pass-through: it takes a hello and answers it, after the peerapi's
// 101 where one is asked for. A hello whose session id begins with 0xbb is answered with bytes until the visitor leaves.
const [port] = process.argv.slice(2).map(Number);
const ANSWER = Buffer.alloc(200, "a");
const PART = Buffer.alloc(256 * 1024, "b");
const FIRST_OF_SESSION_ID = 5 + 4 + 2 + 32 + 1;

function answer(socket: Socket, hello: Buffer): void {
  if (hello[FIRST_OF_SESSION_ID] !== 0xbb) return void socket.end(ANSWER);
  const more = (): void => {
    while (!socket.destroyed && socket.write(PART));
  };
  socket.on("drain", more);
  more();
}

const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
  let isAsked = false;
  socket.on("error", () => socket.destroy()).on("end", () => socket.end());
  socket.on("data", (bytes: Buffer) => {
    if (isAsked) return;
    if (bytes[0] !== 22) {
      const end = bytes.indexOf("\r\n\r\n") + 4;
      socket.write("HTTP/1.1 101 Switching Protocols\r\n\r\n");
      if (end === bytes.length) return;
      bytes = bytes.subarray(end);
    }
    isAsked = true;
    answer(socket, bytes);
  });
});
server.listen(port, "127.0.0.1", 1024, () => console.log("{}"));
