import type { Socket } from "node:net";
import type { Clock } from "../base/clock.ts";
import { foldName } from "../wire/host-name.ts";

const LONGEST_HEAD = 8 * 1024;

export interface PlainHttp {
  readonly clock: Clock;
  readonly limitMs: number;
  /** Is it, letter for letter, a name with a public HTTPS port? */
  readonly isPublic: (name: string) => boolean;
  /** He said what he wants, and was answered. */
  readonly answered: () => void;
}

/** Sends a request for a public name on to HTTPS, and closes on anything else without a word (FN-15). The result gives up on him. */
export function answerPlainHttp(socket: Socket, { clock, limitMs, isPublic, answered }: PlainHttp): () => void {
  let head = "";
  const cancel = clock.at(clock.now() + limitMs, () => void socket.destroy());
  socket.once("close", cancel);
  socket.once("end", () => void socket.destroySoon());
  socket.on("data", (chunk: Buffer) => {
    head += chunk.toString("latin1", 0, LONGEST_HEAD);
    const end = head.indexOf("\r\n\r\n");
    if (end < 0 && head.length < LONGEST_HEAD) return;
    socket.removeAllListeners("data");
    const location = end < 0 ? undefined : locationOf(head.slice(0, end), isPublic);
    if (location === undefined) return void socket.destroy();
    answered();
    socket.resume();
    socket.end(
      `HTTP/1.1 308 Permanent Redirect\r\nLocation: ${location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`,
    );
  });
  return cancel;
}

/** Of the same path on HTTPS; undefined for what is no plain request for one of these names. */
export function locationOf(head: string, isPublic: (name: string) => boolean): string | undefined {
  const [first = "", ...lines] = head.split("\r\n");
  const path = /^[A-Z]{1,16} (\/[!-~]{0,4096}) HTTP\/1\.[01]$/.exec(first)?.[1];
  const hosts = lines.filter((line) => /^host:/i.test(line));
  if (path === undefined || hosts.length !== 1) return undefined;
  const name = foldName(/^host:[ \t]*([A-Za-z0-9._-]{1,255})(?::80)?[ \t]*$/i.exec(hosts[0]!)?.[1] ?? "");
  return name === undefined || !isPublic(name) ? undefined : `https://${name}${path}`;
}
