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

/** `sallyport funnel …` at this gateway's own socket; with an answer, on a terminal. */
export async function typedFunnel(gateway: Gateway, words: readonly string[], answer?: string): Promise<Typed> {
  const folder = mkdtempSync(path.join(tmpdir(), "sallyport-funnel-"));
  const socketPath = path.join(folder, "gate.sock");
  const api = await openLocalApi({ socketPath, backend: new GatewayAdmin(gateway), log: silentLog });
  let said = "";
  let asked = "";
  const code = await main(["--socket", socketPath, "funnel", ...words], {
    stdout: (text) => {
      asked += text;
    },
    stderr: (text) => {
      said += text;
    },
    stdin: Readable.from(answer === undefined ? [] : [`${answer}\n`]),
    isTerminal: answer !== undefined,
    env: {},
    signal: new AbortController().signal,
  });
  await api.close();
  rmSync(folder, { recursive: true });
  return { code, said, asked };
}
