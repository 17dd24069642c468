import { type ChildProcess, spawn } from "node:child_process";
import { createServer } from "node:net";
import path from "node:path";
import type { Space } from "./namespace.ts";

const root = path.resolve(import.meta.dirname, "../..");
const KEPT_BYTES = 64 * 1024;

/** A running command of ours. */
export interface Running {
  readonly child: ChildProcess;
  /** The end of what it logged. */
  log(): string;
  /** Ends it as a power cut would. */
  kill(): Promise<void>;
}

function spawnBin(args: readonly string[], space?: Space): ChildProcess {
  const command = ["--disable-warning=ExperimentalWarning", `${root}/src/bin.ts`, ...args];
  if (space !== undefined) return space.start(process.execPath, command);
  const stdio = ["ignore", "pipe", "pipe"] as const;
  return spawn("setpriv", ["--pdeathsig", "KILL", process.execPath, ...command], { stdio: [...stdio] });
}

/** Starts a long-running command, in `space` or on this machine, and waits for an event in its log. */
export function startSallyport(args: readonly string[], event: string, space?: Space): Promise<Running> {
  const child = spawnBin(args, space);
  let text = "";
  const ended = new Promise<void>((resolve) => child.on("close", () => resolve()));
  const running: Running = {
    child,
    log: () => text,
    kill() {
      child.kill("SIGKILL");
      return ended;
    },
  };
  return new Promise((resolve, reject) => {
    child.stdout!.resume();
    child.stderr!.on("data", (chunk) => {
      text = (text + String(chunk)).slice(-KEPT_BYTES);
      if (text.includes(`"msg":"${event}"`)) resolve(running);
    });
    child.on("exit", (code) => reject(new Error(`${args.join(" ")} ended with ${code}: ${text}`)));
  });
}

/** Runs a short command; gives its standard output. */
export async function sallyport(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await outcomeOf(spawnBin(args));
  if (code !== 0) throw new Error(`${args.join(" ")} ended with ${code}: ${stderr}`);
  return stdout;
}

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a short command in `space`, without blocking whatever else this process serves. */
export function commandAt(space: Space, command: string, ...args: readonly string[]): Promise<Outcome> {
  return outcomeOf(space.start(command, args));
}

async function outcomeOf(child: ChildProcess): Promise<Outcome> {
  let [stdout, stderr] = ["", ""];
  child.stdout!.on("data", (chunk) => {
    stdout += String(chunk);
  });
  child.stderr!.on("data", (chunk) => {
    stderr += String(chunk);
  });
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, stdout, stderr };
}

/** Ports that were free a moment ago, all different: what is killed has to come back on the same ones. */
export async function freePorts(address: string, count: number): Promise<string[]> {
  const servers = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<ReturnType<typeof createServer>>((resolve) => {
          const server = createServer();
          server.listen(0, address, () => resolve(server));
        }),
    ),
  );
  return servers.map((server) => {
    const at = server.address();
    server.close();
    return String(typeof at === "object" ? at?.port : undefined);
  });
}
