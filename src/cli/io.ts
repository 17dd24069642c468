import type { Readable } from "node:stream";

/** What a command may touch of the world. */
export interface CliIo {
  readonly stdout: (text: string) => void;
  readonly stderr: (text: string) => void;
  readonly stdin: Readable;
  /** Both ends are a terminal: questions can be asked. */
  readonly isTerminal: boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Ctrl+C or a termination signal. */
  readonly signal: AbortSignal;
  /** Who types, where the system knows; 0 is root. */
  readonly uid?: number;
  /** Of the terminal. */
  readonly columns?: number;
}

/** A command: words after its name, exit status. */
export type Command = (args: readonly string[], io: CliIo) => Promise<number>;

/** A refusal that is printed as it stands, exit 1 unless said otherwise. */
export class CliExit extends Error {
  override readonly name: string = "CliExit";
  readonly status: number;
  /** Where the text goes; upstream's reading commands say some things on stdout. */
  readonly stream: "stdout" | "stderr";
  constructor(text: string, status: number = 1, stream: "stdout" | "stderr" = "stderr") {
    super(text);
    this.status = status;
    this.stream = stream;
  }
}
