import { Readable } from "node:stream";
import type { CliIo } from "../../src/cli/io.ts";
import { main } from "../../src/cli/main.ts";
import { GatewayAdmin } from "../../src/gateway/admin.ts";
import type { Gateway } from "../../src/gateway/gateway.ts";
import { openLocalSocket } from "./local-gateway.ts";

export interface Typed {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

type World = Partial<Omit<CliIo, "stdout" | "stderr">>;

/** What a command printed so far. Where nothing else is said, nobody is there to answer it. */
export class Screen {
  stdout = "";
  stderr = "";
  readonly io: CliIo;

  /** `onText`: told whenever there is more. */
  constructor(world: World = {}, onText: (screen: Screen) => void = () => undefined) {
    const print = (stream: "stdout" | "stderr") => (text: string) => {
      this[stream] += text;
      onText(this);
    };
    this.io = {
      stdout: print("stdout"),
      stderr: print("stderr"),
      stdin: Readable.from([]),
      isTerminal: false,
      env: {},
      signal: new AbortController().signal,
      ...world,
    };
  }
}

export interface Typing {
  /** What is answered on a terminal; without it, there is none. */
  readonly answer?: string | undefined;
  /** Ends a command in the foreground. */
  readonly signal?: AbortSignal;
  /** Told whenever it prints more. */
  readonly onText?: (screen: Screen) => void;
}

/** `sallyport …` at a gateway's socket. */
export async function typedAt(socketPath: string, words: readonly string[], how: Typing = {}): Promise<Typed> {
  const { answer, signal, onText } = how;
  const terminal = answer === undefined ? {} : { stdin: Readable.from([`${answer}\n`]), isTerminal: true };
  const screen = new Screen({ ...terminal, ...(signal === undefined ? {} : { signal }) }, onText);
  const code = await main(["--socket", socketPath, ...words], screen.io);
  return { code, stdout: screen.stdout, stderr: screen.stderr };
}

/** `sallyport funnel …` at this gateway, by a socket of its own that remembers nothing of before. */
export function typedFunnel(gateway: Gateway, words: readonly string[], how?: Typing): Promise<Typed> {
  return typed(gateway, ["funnel", ...words], how);
}

/** The same of any command. */
export async function typed(gateway: Gateway, words: readonly string[], how?: Typing): Promise<Typed> {
  await using socket = await openLocalSocket(new GatewayAdmin(gateway));
  return await typedAt(socket.path, words, how);
}
