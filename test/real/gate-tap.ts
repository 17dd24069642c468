import net from "node:net";
import tls from "node:tls";
import { expect } from "vitest";
import type { Proof } from "../../src/base/conn.ts";
import type { Callers } from "../../src/identity/caller.ts";
import { ALICE, certificateOf, GATE, onClose, type ProxyScene, proxyScene, webConfig } from "../suites/proxy-scene.ts";
import { lineOf, type Quirks, tidied } from "./echo-line.ts";

/** A request as the gate has sent it on. */
export interface Sent {
  readonly line: string;
  readonly isWhole: boolean;
}

export interface Lane extends ProxyScene {
  /** What was sent on since this was last called. What has only begun, on a connection that is open, is told again. */
  sent(): Sent[];
}

interface Tap {
  readonly socket: net.Socket;
  /** Not told as a whole request yet. */
  out: string;
  /** Answered since there was nothing to be answered, and what was asked meanwhile. */
  back: string;
  asked: number;
}

let context: Promise<tls.SecureContext> | undefined;
const createContext = async (): Promise<tls.SecureContext> => tls.createSecureContext(await certificateOf(GATE));

/** Who comes by the mesh is Alice, visitors are nobody. */
const CALLERS: Callers = {
  of: (proof) => (proof.kind === "mesh" ? ALICE : { kind: "anonymous", address: addressOf(proof) }),
  capabilities: () => undefined,
  epoch: 0,
  revoked: () => new AbortController().signal,
};
const addressOf = (proof: Proof): string => (proof.kind === "ingress" ? proof.visitor.address : "");

/** A gate before a server, whose connections to it are listened to. */
export function laneBefore(port: number, quirks: Quirks): Lane {
  const taps = new Set<Tap>();
  const dialBackend = (): net.Socket => {
    const socket = net.connect({ port, host: "127.0.0.1", noDelay: true });
    const tap: Tap = { socket, out: "", back: "", asked: 0 };
    taps.add(tap);
    const write = socket.write.bind(socket) as (...args: unknown[]) => boolean;
    socket.write = ((part: string | Uint8Array, ...rest: unknown[]) => {
      tap.out += typeof part === "string" ? part : Buffer.from(part).toString("latin1");
      return write(part, ...rest);
    }) as typeof socket.write;
    socket.on("data", (part: Buffer) => {
      tap.back += part.toString("latin1");
    });
    onClose(() => socket.destroy());
    return socket;
  };
  const scene = proxyScene(webConfig({ "/": { Proxy: `http://127.0.0.1:${port}` } }), {
    dialBackend,
    callers: CALLERS,
    secureContext: () => (context ??= createContext()),
  });
  const sent = (): Sent[] => [...taps].flatMap((tap) => taken(tap, quirks, taps));
  return Object.assign(scene, { sent });
}

function taken(tap: Tap, quirks: Quirks, taps: Set<Tap>): Sent[] {
  const { found, end } = requestsIn(tap.out, quirks);
  tap.asked += found.filter(({ isWhole }) => isWhole).length;
  tap.out = tap.out.slice(end);
  const answers = tap.back.match(/HTTP\/1\.[01] [2-5]\d\d[ \r]/g)?.length ?? 0;
  const isMore = answers > tap.asked + (tap.out === "" ? 0 : 1);
  expect(isMore, `more answers than the ${tap.asked} requests: ${JSON.stringify(tap.back)}`).toBe(false);
  if (tap.socket.destroyed) taps.delete(tap);
  else if (answers === tap.asked) [tap.asked, tap.back] = [0, ""];
  return found;
}

const HEAD = /^[A-Z-]+ \/[!-~]* HTTP\/1\.1\r\nHost: [!-~]*\r\n(?:[A-Za-z0-9-]+: [^\r\n\0]*\r\n)*\r\n$/;
const ONE_AT_MOST = ["host", "cookie", "tailscale-user-login", "x-forwarded-for", "expect"];

/** Requests in what we have written ourselves, so in one form only: anything else is a fault of ours. */
function requestsIn(bytes: string, quirks: Quirks): { found: Sent[]; end: number } {
  const found: Sent[] = [];
  let end = 0;
  while (end < bytes.length) {
    const from = bytes.indexOf("\r\n\r\n", end) + 4;
    expect(from, "the head of a request is written at once").toBeGreaterThan(3);
    const head = bytes.slice(end, from);
    expect(head).toMatch(HEAD);
    const fields = fieldsOf(head);
    const values = (name: string): string[] => fields.filter(([key]) => key === name).map(([, value]) => value);
    expect(values("content-length").length + values("transfer-encoding").length, head).toBeLessThanOrEqual(1);
    for (const name of ONE_AT_MOST) expect(values(name).length, `${name} of ${head}`).toBeLessThanOrEqual(1);
    const isAlice = values("x-forwarded-for").join() === ALICE.address;
    expect(values("tailscale-user-login").join(), head).toBe(isAlice ? ALICE.login : "");
    const { body, next } = bodyAt(bytes, from, values("content-length")[0], values("transfer-encoding").length > 0);
    const [method = "", target = ""] = head.split(" ");
    const told = quirks.isLastOnly === true ? (name: string) => values(name).slice(-1) : values;
    const line = lineOf({ method, target, values: told, body: Buffer.from(body, "latin1") });
    found.push({ line: tidied(line, quirks), isWhole: next !== undefined });
    if (next === undefined) break;
    end = next;
  }
  return { found, end };
}

function fieldsOf(head: string): [name: string, value: string][] {
  const lines = head.split("\r\n").slice(1, -2);
  return lines.map((line) => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 2)];
  });
}

/** The body behind a head and where the next request begins; nowhere when this one is not whole. */
function bodyAt(
  bytes: string,
  from: number,
  length: string | undefined,
  isChunked: boolean,
): { body: string; next: number | undefined } {
  if (!isChunked) {
    const next = from + Number(length ?? 0);
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
