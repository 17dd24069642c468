import { spawn } from "node:child_process";
import { findPeer } from "../peers.ts";
import { wordsOf } from "./serve-lines.ts";

/** What one command line came to. */
export interface Said {
  readonly exit: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** One story of `serve-lines.ts`: what each of its lines said, and what was left. */
export interface Told {
  readonly story: readonly string[];
  readonly said: readonly Said[];
  /** `serve status --json` at the end. */
  readonly config: unknown;
  readonly advertised: readonly string[];
}

/** Begins a line that stays in the foreground until Ctrl+C. */
export const FOREGROUND = "^";

/** `tailscale …` at the daemon, or gateway, behind this socket. */
export function stockSays(socket: string, line: string): Promise<Said> {
  const words = wordsOf(line.replace(FOREGROUND, ""));
  const child = spawn(findPeer("tailscale")!, [`--socket=${socket}`, ...words], { stdio: ["ignore", "pipe", "pipe"] });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk) => {
    stdout += String(chunk);
    if (stdout.includes("Press Ctrl+C")) child.kill("SIGINT");
  });
  child.stderr.on("data", (chunk) => {
    stderr += String(chunk);
  });
  return new Promise((resolve) => child.on("close", (exit) => resolve({ exit, stdout, stderr })));
}

/** Without what no two runs have in common. */
export function plain({ exit, stdout, stderr }: Said): Said {
  const text = (given: string): string =>
    given
      .replace(/\b100\.64\.0\.\d+/g, "100.64.0.1")
      .replace(/\bfd7a:115c:a1e0::[0-9a-f]+/g, "fd7a:115c:a1e0::1")
      .replace(/^\d{4}(?:\/\d\d){2} \d\d:\d\d:\d\d /gm, ""); // upstream's logger
  return { exit, stdout: text(stdout), stderr: text(stderr) };
}
