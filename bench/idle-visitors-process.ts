import { createInterface } from "node:readline";
import { connect, createSecureContext, type TLSSocket } from "node:tls";

// Arguments: the port, a CA certificate. A number on a line brings as many more visitors by HTTPS; each asks once, and
// again before the gateway takes him for gone. The answer says how many are there and how many were lost on the way.
const [port, ca] = process.argv.slice(2);
const NAME = "web.bench.test";
const REQUEST = `HEAD / HTTP/1.1\r\nHost: ${NAME}\r\n\r\n`;
const AT_ONCE = 32;
const ASK_AGAIN_MS = 50_000;
const secureContext = createSecureContext({ ca: ca! });
const here = new Set<TLSSocket>();
let lost = 0;

function visit(): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect({ port: Number(port), host: "127.0.0.1", servername: NAME, secureContext });
    const asks = setInterval(() => socket.write(REQUEST), ASK_AGAIN_MS + Math.random() * 10_000);
    socket.once("secureConnect", () => socket.write(REQUEST));
    socket.once("data", () => {
      here.add(socket);
      resolve();
    });
    socket.on("data", () => undefined).on("error", () => undefined);
    socket.once("close", () => {
      clearInterval(asks);
      here.delete(socket);
      lost++;
      resolve();
    });
  });
}

console.log("{}");
for await (const line of createInterface({ input: process.stdin })) {
  let left = Number(line);
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      while (left-- > 0) await visit();
    }),
  );
  console.log(JSON.stringify({ here: here.size, lost }));
}
