import { connect, type Socket } from "node:net";
import { onTestFinished } from "vitest";
import { FakeClock } from "../../src/base/clock.ts";
import type { Conn } from "../../src/base/conn.ts";
import { connPair } from "../../src/base/conn-pair.ts";
import { silentLog } from "../../src/base/log.ts";
import { Ingress } from "../../src/funnel/ingress.ts";
import type { IngressOptions } from "../../src/funnel/options.ts";
import { NameTable, type PublicName } from "../../src/funnel/public-names.ts";

export const PEER_API = { address: "100.64.0.5", port: 39291 };

export function publicName(name: string, more: Partial<PublicName> = {}): PublicName {
  return { name, ports: new Set([443]), owner: "node-5", peerApi: PEER_API, ...more };
}

/** The far end of one delivery, as the node's peerapi sees it. */
export interface Delivered {
  readonly head: string;
  readonly conn: Conn;
  /** What came after the head, as it grows. */
  readonly bytes: () => Buffer;
  readonly isEnded: () => boolean;
  readonly isCut: () => boolean;
}

export interface NodeSide {
  /** What is answered to the head; then `bytes` are collected. @default the 101 */
  readonly answer?: (head: string) => string | undefined;
  /** Does it read on after the head? @default true */
  readonly reads?: boolean;
}

/** A node's peerapi at the end of `dial`. */
export function nodeSide({ answer = () => "HTTP/1.1 101 Switching Protocols\r\n\r\n", reads = true }: NodeSide = {}): {
  readonly dial: IngressOptions["dial"];
  readonly deliveries: Delivered[];
} {
  const deliveries: Delivered[] = [];
  const dial: IngressOptions["dial"] = async (target) => {
    const [near, far] = connPair({ kind: "public", source: { address: "100.64.0.9", port: 5 }, destination: target });
    let head: string | undefined;
    let all = Buffer.alloc(0);
    let isEnded = false;
    let isCut = false;
    far.attach({
      data: (view) => {
        all = Buffer.concat([all, view]);
        if (reads || head === undefined) far.credit(view.length);
        const end = head === undefined ? all.indexOf("\r\n\r\n") : -1;
        if (end < 0) return;
        head = all.toString("latin1", 0, end + 4);
        all = all.subarray(end + 4);
        deliveries.push({ head, conn: far, bytes: () => all, isEnded: () => isEnded, isCut: () => isCut });
        const text = answer(head);
        if (text !== undefined) far.write(Buffer.from(text, "latin1"));
      },
      end: () => {
        isEnded = true;
      },
      drain: () => undefined,
      abort: () => {
        isCut = true;
      },
    });
    far.credit(64 * 1024);
    return near;
  };
  return { dial, deliveries };
}

export interface IngressScene {
  readonly ingress: Ingress;
  readonly port: number;
  readonly clock: FakeClock;
}

/** An ingress on loopback whose visitors mean port 443. Time stands still unless the test moves it. */
export async function openIngress(
  names: readonly PublicName[] | (() => NameTable),
  dial: IngressOptions["dial"],
  more: Partial<IngressOptions> = {},
): Promise<IngressScene> {
  const clock = new FakeClock();
  const table = typeof names === "function" ? names : constant(new NameTable(names));
  const ingress = new Ingress({ names: table, dial, clock, log: silentLog, ...more });
  onTestFinished(() => ingress.close());
  const port = await ingress.listen(0, "127.0.0.1", { publicPort: 443 });
  return { ingress, port, clock };
}

const constant =
  <T>(value: T): (() => T) =>
  () =>
    value;

export interface Visitor {
  readonly socket: Socket;
  readonly heard: () => Buffer;
  /** How the connection ended: `end` in order, `reset` not; undefined: it is open. */
  readonly ending: () => "end" | "reset" | undefined;
}

export function visit(port: number, ...bytes: readonly Uint8Array[]): Visitor {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true, noDelay: true });
  onTestFinished(() => void socket.destroy());
  let heard = Buffer.alloc(0);
  let ending: "end" | "reset" | undefined;
  socket.on("data", (chunk: Buffer) => {
    heard = Buffer.concat([heard, chunk]);
  });
  socket.on("end", () => {
    ending = "end";
  });
  socket.on("error", () => {
    ending = "reset";
  });
  for (const part of bytes) socket.write(part);
  return { socket, heard: () => heard, ending: () => ending };
}
