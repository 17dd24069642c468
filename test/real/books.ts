import { setTimeout as pause } from "node:timers/promises";
import { tidied } from "./echo-line.ts";
import type { EchoServer, EchoServerKind } from "./echo-servers.ts";
import type { Sent } from "./gate-tap.ts";

/** What several gates have sent on to one server, and what it has logged. */
export class Books {
  readonly #server: EchoServer;
  readonly #kind: EchoServerKind;
  /** Of the last time: the server may be late. */
  #before: readonly Sent[] = [];
  whole = 0;
  logged = 0;

  constructor(kind: EchoServerKind, server: EchoServer) {
    this.#kind = kind;
    this.#server = server;
  }

  /** Lines of the log that are of no request that was sent on. */
  async compare(sent: readonly Sent[]): Promise<string[]> {
    const whole = sent.filter(({ isWhole }) => isWhole);
    const all = [...this.#before, ...sent];
    const logged: string[] = [];
    // What was sent last may still be on its way through the server.
    for (let tries = 0; tries < 20; tries++) {
      const more = await this.#server.logged();
      logged.push(...more.map((line) => tidied(line, this.#kind.quirks)));
      if (logged.length >= whole.length) break;
      await pause(2);
    }
    this.whole += whole.length;
    this.logged += logged.length;
    const left = new Map<string, number>();
    for (const { line, isWhole } of all) if (isWhole) left.set(line, (left.get(line) ?? 0) + 1);
    const unknown: string[] = [];
    for (const line of logged) {
      const count = left.get(line) ?? 0;
      if (count > 0) left.set(line, count - 1);
      else if (!isBegun(line, all)) unknown.push(line);
    }
    this.#before = sent;
    return unknown;
  }
}

/** A request whose body was cut may have been taken for done by a server that ends with its connection. */
function isBegun(line: string, sent: readonly Sent[]): boolean {
  const start = line.slice(0, line.lastIndexOf(" ") + 1);
  return sent.some((one) => !one.isWhole && one.line.startsWith(start));
}
