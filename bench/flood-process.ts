import { createInterface } from "node:readline";
import { connect, type TLSSocket } from "node:tls";
import {
  END_HEADERS,
  END_STREAM,
  FRAME,
  frame,
  framesIn,
  opening,
  requestBlock,
  uint32,
} from "../test/suites/raw-http2.ts";

// Each line begins a flood of HTTP/2 frames or, with no kind, ends it: {"port", "host", "kind", "perSecond", "peers"}. Whoever is
// told to go or not let in comes again at once, from so many addresses in turn. The answer: how many frames were sent since the
// line before, and on how many connections.
interface Asked {
  readonly port: number;
  readonly host: string;
  readonly peers?: number;
  readonly kind?: keyof typeof KINDS;
  readonly perSecond: number;
}

const KINDS = {
  "requests taken back": (i: number, host: string) =>
    Buffer.concat([ask(i, host), frame(FRAME.reset, 0, 2 * i + 1, uint32(8))]),
  SETTINGS: () => frame(FRAME.settings, 0, 0),
  PING: () => frame(FRAME.ping, 0, 0, Buffer.alloc(8)),
  "empty DATA": (i: number, host: string) => (i === 0 ? open(host) : frame(FRAME.data, 0, 1)),
  PRIORITY: (i: number) => frame(FRAME.priority, 0, 2 * i + 1, Buffer.from([0, 0, 0, 0, 1])),
  WINDOW_UPDATE: () => frame(FRAME.windowUpdate, 0, 0, uint32(1)),
  "unknown frames": () => frame(0xbe, 0, 0),
} as const;

function ask(i: number, host: string): Buffer {
  return frame(FRAME.headers, END_HEADERS | END_STREAM, 2 * i + 1, requestBlock("GET", host, "/1k"));
}

function open(host: string): Buffer {
  return frame(FRAME.headers, END_HEADERS, 1, requestBlock("POST", host, "/1k"));
}

/** So that frames go out while the next one is still shaking hands. */
const AT_ONCE = 4;
const TICK_MS = 5;

let asked: Asked | undefined;
let sent = 0;
let connections = 0;
let tries = 0;
/** Each line is other peers: what is held against those before is not held against these. */
let round = 0;
const flooding: Set<TLSSocket> = new Set();
const counts: WeakMap<TLSSocket, number> = new WeakMap();

function begin({ port, host, peers = 1 }: Asked): void {
  const localAddress = `127.1.${round}.${1 + (tries++ % peers)}`;
  const options = { port, host: "127.0.0.1", localAddress, servername: host };
  const socket = connect({ ...options, rejectUnauthorized: false, ALPNProtocols: ["h2"] }, () => {
    connections += 1;
    socket.write(opening());
    flooding.add(socket);
  });
  let isOver = false;
  const over = (): void => {
    socket.destroy();
    if (isOver) return;
    isOver = true;
    flooding.delete(socket);
    if (asked?.kind !== undefined) begin(asked);
  };
  socket.on("error", over);
  socket.on("close", over);
  socket.on("data", (chunk: Buffer) => {
    if (framesIn(chunk).some(({ type }) => type === FRAME.goAway)) over();
  });
}

let last = performance.now();
setInterval(() => {
  const now = performance.now();
  const due = asked?.kind === undefined ? 0 : Math.floor(((now - last) * asked.perSecond) / 1000);
  last = now;
  const each = Math.ceil(due / Math.max(1, flooding.size));
  for (const socket of [...flooding].slice(0, due === 0 ? 0 : undefined)) {
    const first = counts.get(socket) ?? 0;
    const make = KINDS[asked!.kind!];
    socket.write(Buffer.concat(Array.from({ length: each }, (_, i) => make(first + i, asked!.host))));
    counts.set(socket, first + each);
    sent += each;
  }
}, TICK_MS);

console.log("{}");
for await (const line of createInterface({ input: process.stdin })) {
  const told = { sent, connections };
  sent = 0;
  connections = 0;
  round += 1;
  asked = JSON.parse(line) as Asked;
  if (asked.kind === undefined) for (const socket of flooding) socket.destroy();
  else for (let i = 0; i < AT_ONCE; i++) begin(asked);
  console.log(JSON.stringify(told));
}
