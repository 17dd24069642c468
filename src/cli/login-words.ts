import type { CliIo } from "./io.ts";
import { terminalText } from "./terminal-text.ts";

export interface LoginWords {
  readonly onAuthUrl: (url: string) => void;
  readonly onRefused: (reason: string) => void;
}

/**
 * What a person who starts a node must know of its login, beside the log. A refused key is tried again for as long as the
 * program runs, for it may be the server that is mended; a person is told once, and what to do.
 */
export function loginWords(io: CliIo): LoginWords {
  const said = new Set<string>();
  return {
    onAuthUrl: (url) => io.stderr(`\nTo authenticate, visit:\n\n\t${url}\n\n`),
    onRefused: (reason) => {
      if (said.has(reason) || said.size >= MOST_REASONS) return;
      said.add(reason);
      io.stderr(
        `\nNot in the mesh: the server refuses this node: ${terminalText(reason)}\n` +
          "If it is the auth key: make another one (sallyport server keys create) and start again with --auth-key file:PATH.\n\n",
      );
    },
  };
}

const MOST_REASONS = 8;
