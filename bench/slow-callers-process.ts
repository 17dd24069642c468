import { connect } from "node:net";
import { setPriority } from "node:os";
import { createInterface } from "node:readline";

// Each line begins an attack or, with no connections, ends it: {"port", "host", "kind", "peers", "each"}. Whoever is closed
// comes again at once. The answer comes when the attack stands or has ended: how many connections are open, how many were
// closed since it began, and how old those were, in seconds.
interface Asked {
  readonly port: number;
  readonly host: string;
  /** A head of a byte every ten seconds; a body of as much, or of nothing; or an answer of which nothing is read. */
  readonly kind: "head" | "body" | "read";
  readonly peers: number;
  readonly each: number;
}

setPriority(19); // the others, who are measured, come first
const OPENED_PER_TICK = 10;
const EVERY_MS = 10_000;
/** Who reads nothing does not hear that it was closed, and comes again when that is long past. */
const LEAVES_MS = 90_000;
let asked: Asked | undefined;
let open = 0;
let opened = 0;
let ages: number[] = [];

function begin(): void {
  if (asked === undefined || open >= asked.peers * asked.each) return;
  const { port, host, kind, peers } = asked;
  const head = `Host: ${host}\r\n`;
  const localAddress = `127.1.0.${1 + (opened % peers)}`;
  const socket = connect({ port, host: "127.0.0.1", localAddress });
  opened += 1;
  open += 1;
  let next = 0;
  const send = (): void => void socket.write(kind === "head" ? (`GET / HTTP/1.1\r\n${head}`[next++] ?? "x") : "x");
  const begun = performance.now();
  const leave = (): void => void socket.destroy();
  const isSilent = kind === "body" && opened % 2 === 0;
  const timer = kind === "read" ? setTimeout(leave, LEAVES_MS) : isSilent ? undefined : setInterval(send, EVERY_MS);
  socket.on("error", () => undefined);
  socket.on("close", () => {
    clearInterval(timer);
    open -= 1;
    if (asked !== undefined && kind !== "read") ages.push((performance.now() - begun) / 1000);
    setImmediate(begin);
  });
  if (kind === "head") send();
  else if (kind === "body") socket.write(`POST / HTTP/1.1\r\n${head}Content-Length: 1000000\r\n\r\n`);
  else socket.write(`GET /large HTTP/1.1\r\n${head}\r\n`);
  if (kind !== "read") socket.resume();
  sockets.add(socket);
  socket.on("close", () => sockets.delete(socket));
}

const sockets: Set<ReturnType<typeof connect>> = new Set();
const tick = (): Promise<void> => new Promise((done) => void setTimeout(done, 10));

console.log("{}");
for await (const line of createInterface({ input: process.stdin })) {
  const next = JSON.parse(line) as Asked;
  opened = 0;
  const closed = ages;
  ages = [];
  if (next.each === 0) {
    asked = undefined;
    for (const socket of sockets) socket.destroy();
    while (open > 0) await tick();
  } else {
    asked = next;
    while (open < next.peers * next.each) {
      for (let i = 0; i < OPENED_PER_TICK && open < next.peers * next.each; i++) begin();
      await tick();
    }
  }
  const [soonest, latest] = closed.reduce(
    ([low, high], age) => [Math.min(low, age), Math.max(high, age)],
    [Infinity, 0],
  );
  console.log(JSON.stringify({ open, closed: closed.length, soonest, latest }));
}
