import { Fault, messageOf } from "../base/fault.ts";
import { CliExit, type CliIo, type Command } from "./io.ts";
import { LocalClient } from "./local-client.ts";
import { defaultSocketPath } from "./socket-path.ts";
import { terminalLines } from "./terminal-text.ts";
import { ROOT_USAGE } from "./usage.ts";

/** A command that talks to the running gateway. */
export type ClientCommand = (args: readonly string[], io: CliIo, client: LocalClient) => Promise<number>;

/** Loaded when called, so that `sallyport status` need not load a gateway. */
const clientCommands: Readonly<Record<string, () => Promise<ClientCommand>>> = {
  serve: async () => (await import("./serve/serve.ts")).serve,
  funnel: async () => (await import("./serve/serve.ts")).funnel,
  status: async () => (await import("./status.ts")).status,
  whois: async () => (await import("./whois.ts")).whois,
  whoami: async () => (await import("./whois.ts")).whoami,
  ping: async () => (await import("./ping.ts")).ping,
  ip: async () => (await import("./ip.ts")).ip,
  up: async () => (await import("./connection.ts")).up,
  down: async () => (await import("./connection.ts")).down,
  logout: async () => (await import("./connection.ts")).logout,
  inspect: async () => (await import("./inspect.ts")).inspect,
  doors: async () => (await import("./doors.ts")).doors,
  set: async () => (await import("./set.ts")).set,
  netcheck: async () => (await import("./netcheck.ts")).netcheck,
  bugreport: async () => (await import("./bugreport.ts")).bugreport,
  cert: async () => (await import("./cert/cert.ts")).cert,
  ca: async () => (await import("./documents.ts")).ca,
  jwks: async () => (await import("./documents.ts")).jwks,
  metrics: async () => (await import("./documents.ts")).metrics,
  health: async () => (await import("./documents.ts")).health,
  version: async () => (await import("./version.ts")).version,
};

// The programs themselves, and what works without one running: `(args, io) => exit status`.
const programs: Readonly<Record<string, () => Promise<Command>>> = {
  check: async () => (await import("./check.ts")).check,
  run: async () => (await import("./run.ts")).run,
  server: async () => (await import("./server/server.ts")).server,
  ingress: async () => (await import("./ingress.ts")).ingress,
  policy: async () => (await import("./policy.ts")).policy,
  demo: async () => (await import("./demo.ts")).demo,
};

/** Runs one command line; the answer is the exit status. */
export async function main(args: readonly string[], io: CliIo): Promise<number> {
  let rest = args;
  let given: string | undefined;
  for (;;) {
    const word = rest[0];
    const match = word === undefined ? null : /^--?socket(?:=(.*))?$/s.exec(word);
    if (match === null) break;
    const value = match[1] ?? rest[1];
    if (value === undefined) return fail(io, "flag needs an argument: -socket", 2);
    given = value;
    rest = rest.slice(match[1] === undefined ? 2 : 1);
  }
  const [word, ...words] = rest;
  if (word === undefined || ["help", "-h", "--help", "-help"].includes(word)) {
    io.stderr(ROOT_USAGE);
    return 0;
  }
  const name = ["-V", "--version", "-version"].includes(word) ? "version" : word.toLowerCase();
  try {
    const program = Object.hasOwn(programs, name) ? programs[name] : undefined;
    // A program opens a socket of its own, or refuses the flag.
    const socket = given === undefined ? [] : [`--socket=${given}`];
    if (program !== undefined) return await (await program())([...socket, ...words], io);
    const command = Object.hasOwn(clientCommands, name) ? clientCommands[name] : undefined;
    if (command !== undefined) {
      return await (await command())(words, io, new LocalClient(given ?? defaultSocketPath(io.env), io.signal));
    }
  } catch (thrown) {
    if (thrown instanceof CliExit) {
      if (thrown.message !== "" && !(thrown.status === 0 && io.signal.aborted)) {
        io[thrown.stream](`${terminalLines(`${thrown.message}${howToBeAllowed(thrown.message, args, io)}`)}\n`);
      }
      return thrown.status;
    }
    const hint = thrown instanceof Fault && thrown.hint !== undefined ? `\n${thrown.hint}` : "";
    return fail(io, `${messageOf(thrown)}${hint}`, isOfFlags(thrown) ? 2 : 1);
  }
  if (word.startsWith("-")) {
    io.stderr(`flag provided but not defined: -${terminalLines(word.replace(/^--?/, ""))}\n${ROOT_USAGE}`);
    return 2;
  }
  return fail(io, `sallyport: unknown subcommand: ${word}`, 1);
}

/** What upstream says then (`client/local/local.go:IsAccessDeniedError`, `cli.go`). */
function howToBeAllowed(refusal: string, args: readonly string[], { uid = 0 }: CliIo): string {
  if (uid === 0 || !/(?:^|: )Access denied: /.test(refusal)) return "";
  const words = args.some((word) => /key/i.test(word)) ? ["…"] : args; // it may be a secret
  return `\n\nUse 'sudo sallyport ${words.join(" ")}'.\nTo not require root, use 'sudo sallyport set --operator=$USER' once.`;
}

/** A flag that is unknown (Node's `parseArgs`), or whose value is none. */
function isOfFlags(thrown: unknown): boolean {
  const code = String((Object(thrown) as { readonly code?: unknown }).code);
  return code === "CLI_USAGE" || code.startsWith("ERR_PARSE_ARGS_");
}

function fail(io: CliIo, text: string, status: number): number {
  io.stderr(`${terminalLines(text)}\n`);
  return status;
}
