import { request } from "node:http";
import { text } from "node:stream/consumers";
import { messageOf } from "../../base/fault.ts";
import { CliExit } from "../io.ts";

/** Asks the running server, as its owner. Refusals are thrown as they are to be printed. */
export class ServerClient {
  readonly #socketPath: string;
  readonly #by: string;

  /** `by` is who asks, for the server's log of what was done. */
  constructor(socketPath: string, by: string) {
    this.#socketPath = socketPath;
    this.#by = by;
  }

  async ask<T>(verb: string, args: Readonly<Record<string, unknown>> = {}): Promise<T> {
    const { status, body } = await this.#post(verb, JSON.stringify({ ...args, by: this.#by }));
    if (status === 200) return JSON.parse(body) as T;
    throw new CliExit(refusalText(body, status));
  }

  #post(verb: string, body: string): Promise<{ status: number; body: string }> {
    const socketPath = this.#socketPath;
    return new Promise((resolve, reject) => {
      const fail = (thrown: unknown): void => {
        const hint = "Is `sallyport server` running?";
        reject(new CliExit(`Cannot reach the server at "${socketPath}": ${messageOf(thrown)}\n${hint}`));
      };
      const headers = { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) };
      const outgoing = request({ socketPath, path: `/v1/${verb}`, method: "POST", headers }, (response) => {
        text(response).then((answer) => resolve({ status: response.statusCode ?? 0, body: answer }), fail);
      });
      outgoing.on("error", fail);
      outgoing.end(body);
    });
  }
}

function refusalText(body: string, status: number): string {
  try {
    const { error, line, column, hint } = JSON.parse(body) as Record<string, unknown>;
    const where = line === undefined ? "" : ` (line ${String(line)}, column ${String(column)})`;
    return `${String(error)}${where}${hint === undefined ? "" : `\n${String(hint)}`}`;
  } catch {
    return `Cannot read the server's answer: status ${status}, wanted JSON`;
  }
}
