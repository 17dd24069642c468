import { homedir } from "node:os";
import path from "node:path";

/** Where the gateway of this user listens: $SALLYPORT_SOCKET, else root's in /run, else in the user's runtime directory. */
export function defaultSocketPath(env: Readonly<Record<string, string | undefined>>): string {
  const given = env["SALLYPORT_SOCKET"];
  if (given !== undefined && given !== "") return given;
  if (process.getuid?.() === 0) return "/run/sallyport/sallyport.sock";
  const runtime = env["XDG_RUNTIME_DIR"];
  if (runtime !== undefined && path.isAbsolute(runtime)) return path.join(runtime, "sallyport", "sallyport.sock");
  return path.join(homedir(), ".sallyport", "sallyport.sock");
}
