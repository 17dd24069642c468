import net from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { afterEach, expect, test } from "vitest";
import type { ConnDuplex } from "../../src/base/duplex.ts";
import { peersOrSkip } from "../peers.ts";
import { closeScenes, GATE, onClose, type ProxyScene, proxyScene, read, webConfig } from "../suites/proxy-scene.ts";
import {
  type EchoServer,
  lineOf,
  missingModules,
  nodeEcho,
  PROXIES,
  PYTHON_SERVERS,
  proxyEcho,
  pythonEcho,
} from "./echo-servers.ts";
import { numbers, stream } from "./request-streams.ts";

afterEach(closeScenes);

/** `SALLYPORT_FUZZ`: how many times more streams, and others. */
const TIMES = Number(process.env["SALLYPORT_FUZZ"] ?? 0);
const STREAMS = 60 * Math.max(1, TIMES);
const SEED = TIMES === 0 ? 20_261_121 : Date.now() & 0x7fffffff;
const BATCH = 30;

/** A request as we have sent it on: written by ourselves, so in one form only. Anything else is a fault of ours. */
interface Sent {
  readonly line: string;
  readonly isWhole: boolean;
}

function sentIn(bytes: string): Sent[] {
  const found: Sent[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.indexOf("\r\n\r\n", at) + 4;
    expect(end, "the head of a request is written at once").toBeGreaterThan(3);
    const head = bytes.slice(at, end);
    expect(head).toMatch(/^[A-Z]+ \/[!-~]* HTTP\/1\.1\r\n(?:[A-Za-z0-9-]+: [^\r\n\0]*\r\n)+\r\n$/);
    expect(head.match(/\r\n(?:content-length|transfer-encoding):/gi)?.length ?? 0).toBeLessThanOrEqual(1);
    expect(head).not.toMatch(/\r\nhost: .*\r\nhost: /is);
    const { body, next } = bodyAt(bytes, end, head);
    const [method = "", target = ""] = head.split(" ");
    const query = target.split("?").slice(1).join("?");
    found.push({ line: lineOf(method, query, Buffer.from(body, "latin1")), isWhole: next !== undefined });
    at = next ?? bytes.length;
  }
  return found;
}

/** The body behind a head and where the next request begins; nowhere when this one is not whole. */
function bodyAt(bytes: string, from: number, head: string): { body: string; next: number | undefined } {
  const length = Number(/\r\nContent-Length: (\d+)\r\n/.exec(head)?.[1] ?? 0);
  if (!head.includes("\r\nTransfer-Encoding: chunked\r\n")) {
    const next = from + length;
    return { body: bytes.slice(from, next), next: next <= bytes.length ? next : undefined };
  }
  let body = "";
  for (let at = from; ; ) {
    const line = /^([0-9a-f]+)\r\n/.exec(bytes.slice(at, at + 20));
    if (line === null) return { body, next: undefined };
    const size = Number.parseInt(line[1]!, 16);
    at += line[0].length;
    if (size === 0) return { body, next: bytes.startsWith("\r\n", at) ? at + 2 : undefined };
    body += bytes.slice(at, at + size);
    at += size + 2;
    if (at > bytes.length) return { body, next: undefined };
  }
}

interface Stage extends ProxyScene {
  readonly tapped: string[];
}

/** The gate before a server; `tapped` are the bytes of each connection to it. */
function stageBefore({ port }: EchoServer): Stage {
  const tapped: string[] = [];
  const dialBackend = (): net.Socket => {
    const socket = net.connect({ port, host: "127.0.0.1", noDelay: true });
    const at = tapped.push("") - 1;
    const write = socket.write.bind(socket) as (...args: unknown[]) => boolean;
    socket.write = ((part: string | Uint8Array, ...rest: unknown[]) => {
      tapped[at] += typeof part === "string" ? part : Buffer.from(part).toString("latin1");
      return write(part, ...rest);
    }) as typeof socket.write;
    onClose(() => socket.destroy());
    return socket;
  };
  return Object.assign(proxyScene(webConfig({ "/": { Proxy: `http://127.0.0.1:${port}` } }), { dialBackend }), {
    tapped,
  });
}

/** Whatever a stream leaves open, some of these close it: a head, a body that is not whole, or nothing. */
const LAST = `GET /?last HTTP/1.1\r\nHost: ${GATE}\r\nConnection: close\r\n\r\n`.repeat(8);
const STILL_MS = 100;

/** Plays one stream to its end: what was answered with a line of the server's. */
async function echoesOf(client: ConnDuplex, bytes: string): Promise<string[]> {
  let heard = 0;
  client.on("data", () => heard++);
  const done = read(client);
  client.write(bytes + LAST, "latin1");
  let before = -1;
  // A length that is far off waits for more: no answer to miss there.
  const watch = setInterval(() => {
    if (heard === before) client.end();
    before = heard;
  }, STILL_MS);
  const { text } = await done;
  clearInterval(watch);
  return [...text.matchAll(/\r\n\r\n([A-Z]+ .* \d+:[0-9a-f]{40})(?=HTTP\/1\.1 |$)/g)].map((match) => match[1]!);
}

const absent = missingModules(Object.values(PYTHON_SERVERS));

/** Every server that is there; the row wants eight. */
const SERVERS: readonly (readonly [name: string, missing: string | undefined, open: () => Promise<EchoServer>])[] = [
  ["node", undefined, nodeEcho],
  ...Object.entries(PYTHON_SERVERS).map(
    ([kind, module]) => [kind, absent.has(module) ? module : undefined, () => pythonEcho(kind)] as const,
  ),
  ...PROXIES.map((kind) => [kind, peersOrSkip(kind).missing, () => proxyEcho(kind)] as const),
];

for (const [name, missing, open] of SERVERS) {
  test.skipIf(missing !== undefined)(
    `H1-4 ${name}${missing === undefined ? "" : ` (not installed: ${missing})`} reads what we send on as the requests that we let in, no more and no others`,
    { timeout: 60_000 * Math.max(1, TIMES) },
    async () => {
      const server = await open();
      onClose(() => server.close());
      const scene = stageBefore(server);
      const next = numbers(SEED + name.length);
      const counts = { whole: 0, logged: 0 };
      const sentSince = (before: readonly number[]): Sent[] =>
        scene.tapped.flatMap((text, at) => sentIn(text.slice(before[at] ?? 0)));
      const lengths = (): number[] => scene.tapped.map((text) => text.length);
      for (let done = 0; done < STREAMS; done += BATCH) {
        const start = lengths();
        for (let i = done; i < done + BATCH; i++) {
          const bytes = stream(`s${i}`, GATE, next);
          const client = i % 2 === 0 ? scene.connect(80) : scene.visit(80);
          const before = lengths();
          const echoes = await echoesOf(client, bytes);
          // Answers are to what was sent on for this very stream.
          const lines = sentSince(before).map(({ line }) => line);
          expect(
            echoes.filter((line) => !lines.includes(line)),
            `seed ${SEED}: ${JSON.stringify(bytes)}`,
          ).toEqual([]);
        }
        const sent = sentSince(start);
        const whole = sent.filter(({ isWhole }) => isWhole).map(({ line }) => line);
        const logged: string[] = [];
        // What was sent last may still be on its way through the server.
        for (let tries = 0; tries < 50; tries++) {
          logged.push(...(await server.logged()));
          if (logged.length >= whole.length) break;
          await pause(2);
        }
        const unknown = without(logged, whole).filter((line) => !isBegun(line, sent));
        expect(unknown, `seed ${SEED}`).toEqual([]);
        counts.whole += whole.length;
        counts.logged += logged.length;
      }
      expect(counts.whole).toBeGreaterThan(STREAMS / 2);
      expect(counts.logged / counts.whole, "what a server refuses is not logged").toBeGreaterThan(0.75);
    },
  );
}

/** The lines of `list` that are left when each of `others` has taken one. */
function without(list: readonly string[], others: readonly string[]): string[] {
  const left = [...list];
  for (const other of others) {
    const at = left.indexOf(other);
    if (at >= 0) left.splice(at, 1);
  }
  return left;
}

/** A request whose body was cut may have been taken for done by a server that ends with its connection. */
function isBegun(line: string, sent: readonly Sent[]): boolean {
  const start = line.slice(0, line.lastIndexOf(" ") + 1);
  return sent.some((one) => !one.isWhole && one.line.startsWith(start));
}
