import path from "node:path";
import { Fault } from "../../base/fault.ts";
import { CliExit, type CliIo } from "../io.ts";
import { terminalLines } from "../terminal-text.ts";
import type { ServerClient } from "./server-client.ts";

/** `sallyport server backup FILE`: the running server writes it. */
export async function backup(
  [file, ...rest]: readonly string[],
  client: Pick<ServerClient, "ask">,
  io: CliIo,
): Promise<number | undefined> {
  if (file === undefined || rest.length > 0) return undefined;
  const target = path.resolve(file);
  await client.ask("backup", { target });
  io.stderr(`${terminalLines(target)} holds the server's private keys: keep it as safe as the server.\n`);
  return 0;
}

/** `sallyport server restore FILE`: works on the state folder itself. */
export async function restore(
  [file, ...rest]: readonly string[],
  state: string,
  io: CliIo,
): Promise<number | undefined> {
  if (file === undefined || rest.length > 0) return undefined;
  const { directoryStore } = await import("../../base/directory-store.ts");
  const { restoreBackup } = await import("../../coordination/store/sqlite-backup.ts");
  const folder = await directoryStore(state);
  try {
    const by = io.env["USER"] ?? "local";
    const { users, nodes, files } = restoreBackup(path.resolve(file), path.join(state, "server.db"), Date.now(), by);
    for (const [name, body] of files) await folder.set(name, body);
    io.stderr(`Restored ${users} users and ${nodes} nodes to ${terminalLines(state)}. Start the server again.\n`);
    return 0;
  } catch (thrown) {
    if (!(thrown instanceof Fault)) throw thrown;
    throw new CliExit(`${thrown.message}${thrown.hint === undefined ? "" : `\n${thrown.hint}`}`);
  }
}
