import type { CliIo } from "./io.ts";

/** This process's own streams; the first Ctrl+C asks the command to end, the second ends the process. */
export function processIo(): CliIo {
  const stop = new AbortController();
  const onSignal = (): void => {
    if (stop.signal.aborted) process.exit(130);
    stop.abort();
  };
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
  // A reader that leaves early (`| head`) is no error.
  process.stdout.on("error", () => stop.abort());
  // Nobody hears what was to be said; what is served goes on.
  process.stderr.on("error", () => undefined);
  const uid = process.getuid?.();
  return {
    stdout: (text) => void process.stdout.write(text),
    stderr: (text) => void process.stderr.write(text),
    stdin: process.stdin,
    isTerminal: process.stdin.isTTY === true && process.stdout.isTTY === true,
    env: process.env,
    signal: stop.signal,
    ...(uid === undefined ? {} : { uid }),
    ...(process.stderr.isTTY === true ? { columns: process.stderr.columns } : {}),
  };
}
