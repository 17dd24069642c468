import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Readable } from "node:stream";
import { silentLog } from "../../src/base/log.ts";
import { main } from "../../src/cli/main.ts";
import { GatewayAdmin } from "../../src/gateway/admin.ts";
import type { Gateway } from "../../src/gateway/gateway.ts";
import { openLocalApi } from "../../src/gateway/localapi/index.ts";

export interface Typed {
  readonly code: number;
  /** On stderr. */
  readonly said: string;
  /** On stdout. */
  readonly asked: string;
}

interface Typing {
  /** What is answered on a terminal; without it, there is none. */
  readonly answer?: string;
  /** Ends a command in the foreground. */
  readonly signal?: AbortSignal;
  /** All of stdout, whenever there is more. */
  readonly onAsked?: (text: string) => void;
}

/** `sallyport funnel …` at this gateway, by a socket of its own that sees nothing else. */
export async function typedFunnel(gateway: Gateway, words: readonly string[], how?: Typing): Promise<Typed> {
  const folder = mkdtempSync(path.join(tmpdir(), "sallyport-funnel-"));
  const socketPath = path.join(folder, "gate.sock");
  const api = await openLocalApi({ socketPath, backend: new GatewayAdmin(gateway), log: silentLog });
  const typed = await typedAt(socketPath, words, how);
  await api.close();
  rmSync(folder, { recursive: true });
  return typed;
}

/** The same at a socket that is there, which remembers what was seen before. */
export async function typedAt(
  socketPath: string,
  words: readonly string[],
  { answer, signal = new AbortController().signal, onAsked }: Typing = {},
): Promise<Typed> {
  let said = "";
  let asked = "";
  const code = await main(["--socket", socketPath, "funnel", ...words], {
    stdout: (text) => {
      asked += text;
      onAsked?.(asked);
    },
    stderr: (text) => {
      said += text;
    },
    stdin: Readable.from(answer === undefined ? [] : [`${answer}\n`]),
    isTerminal: answer !== undefined,
    env: {},
    signal,
  });
  return { code, said, asked };
}
