import http from "node:http";
import net from "node:net";
import type { Duplex } from "node:stream";
import tls from "node:tls";
import { ChaosSide, ENDINGS, lies, partOf, type SidePlan } from "./chaos-side.ts";
import { type ChaosWorld, DOORS, type Expected, HELLO, lineOf, NAME } from "./chaos-world.ts";

const KINDS = ["raw", "inner", "upgrade", "page", "hello cut", "handshake cut", "nobody", "plain"] as const;
/** Half of the visitors are there for bytes, the others for trouble. */
const SHARES: readonly (typeof KINDS)[number][] = ["raw", "raw", "raw", "inner", "upgrade", ...KINDS];

export interface VisitPlan {
  readonly number: number;
  readonly kind: (typeof KINDS)[number];
  readonly way: SidePlan;
  readonly back: SidePlan;
  /** Where a beginning is cut, 0 to 1. */
  readonly cut: number;
}

type Draw = () => number;
const one = <T>(draw: Draw, of: readonly T[]): T => of[Math.floor(draw() * of.length)]!;

function sidePlan(draw: Draw): SidePlan {
  const size = draw();
  return {
    bytes: Math.floor(
      size < 0.2 ? 0 : size < 0.6 ? draw() * 4000 : size < 0.95 ? draw() * 300_000 : draw() * 3_000_000,
    ),
    ending: one(draw, ENDINGS),
    reading: one(draw, ["all", "all", "all", "slowly", "late"] as const),
    patienceMs: Math.floor(draw() * 300),
    resetsAfterMs: draw() < 0.2 ? Math.floor(draw() * 200) : 8000,
  };
}

export function visitPlan(draw: Draw, number: number): VisitPlan {
  return { number, kind: one(draw, SHARES), way: sidePlan(draw), back: sidePlan(draw), cut: draw() };
}

export interface Outcome {
  readonly wasBrought: boolean;
  /** What must not be. */
  readonly lies: readonly string[];
}

/** Goes by its plan from the first byte to the end, whatever it meets. */
export async function visit(world: ChaosWorld, plan: VisitPlan): Promise<Outcome> {
  const expected: Expected = { number: plan.number, back: plan.back };
  world.expected.set(plan.number, expected);
  try {
    if (plan.kind === "page") return await page(world, plan, expected);
    if (plan.kind === "raw" || plan.kind === "inner" || plan.kind === "upgrade") {
      return await conversation(world, plan, expected);
    }
    return await beginning(world, plan);
  } finally {
    world.expected.delete(plan.number);
  }
}

function connect(world: ChaosWorld, door: keyof typeof DOORS): net.Socket {
  const socket = net.connect({ host: "127.0.0.1", port: world.portOf(door), allowHalfOpen: true });
  socket.on("error", () => void socket.destroy());
  return socket;
}

const closed = (socket: net.Socket): Promise<void> =>
  socket.closed ? Promise.resolve() : new Promise((resolve) => socket.once("close", () => resolve()));

/** TLS to one of the doors; undefined: it did not come to be. */
function secured(wire: net.Socket): Promise<tls.TLSSocket | undefined> {
  const secure = tls.connect({
    socket: wire,
    servername: NAME,
    rejectUnauthorized: false,
    ALPNProtocols: ["http/1.1"],
  });
  secure.allowHalfOpen = true;
  return new Promise((resolve) => {
    secure.once("secureConnect", () => setImmediate(resolve, secure));
    secure.once("error", () => wire.destroy());
    wire.once("close", () => resolve(undefined));
  });
}

/** What the relay says to whom it does not bring: one alert. */
const ALERT_BYTES = 7;
const ALERT_AT_ONCE = "at 0: 150303000202";

async function conversation(world: ChaosWorld, plan: VisitPlan, expected: Expected): Promise<Outcome> {
  const { kind, number } = plan;
  const wire = connect(world, kind === "raw" ? "raw" : kind === "inner" ? "inner" : "web");
  const stream: Duplex | undefined = kind === "raw" ? wire : await secured(wire);
  if (stream === undefined) return { wasBrought: false, lies: [] };
  let first: Buffer = Buffer.alloc(0);
  if (kind === "upgrade") {
    const fields = `Host: ${NAME}:${DOORS.web}\r\nConnection: Upgrade\r\nUpgrade: chaos\r\n`;
    stream.write(`GET /up/${number} HTTP/1.1\r\n${fields}\r\n`);
    const answer = await head(stream, wire);
    if (answer?.status !== 101) {
      wire.destroy();
      return { wasBrought: false, lies: [] };
    }
    first = answer.rest;
  } else stream.write(kind === "raw" ? Buffer.concat([HELLO, Buffer.from(lineOf(number))]) : lineOf(number));
  const side = new ChaosSide(stream, wire, plan.way, 2 * number, 2 * number + 1);
  side.start(first);
  await side.closed;
  const { guest } = expected;
  if (guest === undefined) {
    const isRefusal = side.heard === 0 || (kind === "raw" && side.heard === ALERT_BYTES);
    return { wasBrought: false, lies: isRefusal ? [] : [`heard ${side.heard} bytes, of nobody`] };
  }
  await guest.closed;
  // He was cut off before his node had answered the relay, which waits for the backend's first words: he is told so. What
  // the backend has written by then may still be in a kernel's buffer.
  const isTold = kind === "raw" && side.wrong?.startsWith(ALERT_AT_ONCE) === true;
  const toVisitor = isTold && side.heard === ALERT_BYTES ? [] : lies(side, guest);
  const toGuest = lies(guest, side);
  return {
    wasBrought: true,
    lies: [...toVisitor.map((lie) => `the visitor: ${lie}`), ...toGuest.map((lie) => `the backend: ${lie}`)],
  };
}

function head(stream: Duplex, wire: net.Socket): Promise<{ status: number; rest: Buffer } | undefined> {
  let text = Buffer.alloc(0);
  return new Promise((resolve) => {
    const onData = (chunk: Buffer): void => {
      text = Buffer.concat([text, chunk]);
      const end = text.indexOf("\r\n\r\n");
      if (end < 0) return;
      stream.off("data", onData).pause();
      resolve({ status: Number(text.toString("latin1", 9, 12)), rest: text.subarray(end + 4) });
    };
    stream.on("data", onData).on("error", () => void wire.destroy());
    stream.once("end", () => void wire.destroy());
    wire.once("close", () => resolve(undefined));
  });
}

async function page(world: ChaosWorld, plan: VisitPlan, expected: Expected): Promise<Outcome> {
  const wire = connect(world, "web");
  const secure = await secured(wire);
  if (secure === undefined) return { wasBrought: false, lies: [] };
  const voice = 2 * plan.number + 1;
  const found: string[] = [];
  let heard = 0;
  let wasBrought = false;
  const request = http.get({
    createConnection: () => secure,
    path: `/page/${plan.number}`,
    headers: { Host: `${NAME}:${DOORS.web}`, Connection: "close" },
  });
  request.on("error", () => void wire.destroy());
  const cut = setTimeout(() => wire.resetAndDestroy(), plan.way.resetsAfterMs);
  request.once("response", (response: http.IncomingMessage) => {
    response.on("error", () => undefined);
    if (response.statusCode !== 200) return void response.resume();
    wasBrought = true;
    response.on("data", (chunk: Buffer) => {
      for (let at = 0; at < chunk.length; at += 32_768) {
        const part = chunk.subarray(at, at + 32_768);
        if (!part.equals(partOf(voice, heard + at, part.length)))
          found.push(`a page with other bytes at ${heard + at}`);
      }
      heard += chunk.length;
    });
    response.once("end", () => {
      if (response.complete && heard !== plan.back.bytes)
        found.push(`a whole page after ${heard} of ${plan.back.bytes}`);
      if (response.complete && expected.isPageWhole !== true) found.push("a whole page of a backend that broke off");
    });
    response.once("close", () => void wire.destroy());
  });
  await closed(wire);
  clearTimeout(cut);
  return { wasBrought, lies: found };
}

/** Who does not come as far as a backend: what he says breaks off somewhere, with or without a word. */
async function beginning(world: ChaosWorld, { kind, cut, way, number }: VisitPlan): Promise<Outcome> {
  const wire = connect(world, kind === "plain" ? "plain" : kind === "hello cut" || kind === "nobody" ? "raw" : "inner");
  const text = Buffer.from(`GET /${number} HTTP/1.1\r\nHost: ${NAME}\r\n\r\n`);
  const whole =
    kind === "plain"
      ? text
      : kind === "nobody"
        ? Buffer.from(HELLO.toString("latin1").replace("web.", "wab."), "latin1")
        : HELLO;
  const isCut = kind === "hello cut" || (kind === "plain" && cut < 0.5);
  wire.write(isCut ? whole.subarray(0, Math.floor(cut * (whole.length - 1))) : whole);
  wire.once("end", () => void wire.end()).resume();
  const timer = setTimeout(() => {
    if (way.ending === "end" || way.ending === "end first") wire.end();
    else if (way.ending === "leave") wire.destroy();
    else if (way.ending === "reset" || kind === "handshake cut") wire.resetAndDestroy();
    // else it waits: the relay's limits end it
  }, way.patienceMs);
  await closed(wire);
  clearTimeout(timer);
  return { wasBrought: false, lies: [] };
}
