/**
 * A visitor who is a program of Node's: node funnel-visitor.ts <task> <words…>; writes JSON. Run where names are found by DNS.
 *   echo NAME PORT      does a hello come back from an echo?
 *   cuts NAME PORT      says hello in two segments to an echo, cut at every byte or every so many; how many came back whole
 *   groups NAME GROUP…  key exchanges that are agreed on
 *   socket URL          a WebSocket that stays open; a line for every message
 *   crowd ADDRESS NAME COUNT   so many event streams, which stay open; a line when all have begun
 *   knock ADDRESS PORT… which of these TCP ports open within 2 s
 */
import { lookup } from "node:dns/promises";
import { once } from "node:events";
import { connect } from "node:net";
import { Duplex } from "node:stream";
import tls from "node:tls";
import { browserHello, helloMessage, inRecords } from "../suites/client-hellos.ts";

const [task = "", ...words] = process.argv.slice(2);
const AT_ONCE = 32;

/** What Node's own TLS says first. */
function nodeHello(servername: string): Promise<Buffer> {
  const { promise, resolve } = Promise.withResolvers<Buffer>();
  const wire = new Duplex({ read: () => undefined, write: (chunk: Buffer) => resolve(chunk) });
  tls.connect({ socket: wire, servername, ALPNProtocols: ["h2", "http/1.1"] }).on("error", () => undefined);
  return promise;
}

/** Does what was sent come back? `at`: where it is cut. */
async function comesBack(host: string, port: number, hello: Buffer, at: number): Promise<boolean> {
  const socket = connect({ host, port, noDelay: true });
  socket.on("error", () => undefined);
  await once(socket, "connect");
  socket.write(hello.subarray(0, at), () => setImmediate(() => socket.end(hello.subarray(at))));
  let heard = "";
  socket.setEncoding("hex").on("data", (text: string) => {
    heard += text;
  });
  await new Promise((resolve) => socket.once("close", resolve));
  return heard === hello.toString("hex");
}

async function cuts(name: string, port: number): Promise<unknown> {
  const kinds: readonly (readonly [kind: string, hello: Buffer, step: number])[] = [
    // Post-quantum, GREASE, and an outer name before an encrypted one.
    ["browser", browserHello(name), 1],
    ["node", await nodeHello(name), 16],
    ["records of 50 bytes", inRecords(helloMessage({ name }), 50), 8],
  ];
  const { address } = await lookup(name);
  const report: Record<string, { cuts: number; whole: number }> = {};
  for (const [kind, hello, step] of kinds) {
    const places = Array.from({ length: Math.floor((hello.length - 1) / step) }, (_, i) => 1 + i * step);
    const found = { cuts: places.length, whole: 0 };
    const work = async (): Promise<void> => {
      for (let at = places.pop(); at !== undefined; at = places.pop()) {
        if (await comesBack(address, port, hello, at)) found.whole++;
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    report[kind] = found;
  }
  return report;
}

async function groups(servername: string, wanted: readonly string[]): Promise<unknown> {
  return Promise.all(
    wanted.map(async (ecdhCurve) => {
      const socket = tls.connect({ host: servername, port: 443, servername, ecdhCurve });
      await once(socket, "secureConnect");
      const agreed = `${ecdhCurve} ${socket.getProtocol()} ${socket.authorized}`;
      socket.destroy();
      return agreed;
    }),
  );
}

function socket(url: string): void {
  const open = new WebSocket(url);
  open.onmessage = ({ data }) => console.log(data);
  open.onclose = ({ code }) => console.log(`closed ${code}`);
  process.stdin.resume();
}

async function crowd(host: string, servername: string, count: number): Promise<void> {
  const join = async (): Promise<void> => {
    const socket = tls.connect({ host, port: 443, servername });
    socket.write(`GET /events HTTP/1.1\r\nHost: ${servername}\r\n\r\n`);
    await once(socket, "data");
    socket.on("error", () => undefined).resume();
  };
  // An ingress takes 64 unfinished hellos of one visitor.
  for (let left = count; left > 0; left -= AT_ONCE) {
    await Promise.all(Array.from({ length: Math.min(left, AT_ONCE) }, join));
  }
  console.log("all are there");
  process.stdin.resume();
}

async function knock(host: string, ports: readonly string[]): Promise<unknown> {
  const opened: string[] = [];
  const sockets = ports.map((port) =>
    connect({ host, port: Number(port) }, () => void opened.push(port)).on("error", () => undefined),
  );
  await new Promise((resolve) => setTimeout(resolve, 2000));
  for (const one of sockets) one.destroy();
  return opened;
}

const [first = "", ...rest] = words;
if (task === "socket") socket(first);
else if (task === "crowd") await crowd(first, rest[0]!, Number(rest[1]));
else {
  const tasks = {
    echo: () => comesBack(first, Number(rest[0]), browserHello(first), 100),
    cuts: () => cuts(first, Number(rest[0])),
    groups: () => groups(first, rest),
    knock: () => knock(first, rest),
  };
  console.log(JSON.stringify(await tasks[task as keyof typeof tasks]()));
}
