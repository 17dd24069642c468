import { execFileSync, spawn } from "node:child_process";
import { chownSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { findPeer, isRoot } from "../peers.ts";

/** Wants to be spelt with a percent sign in a URL. */
export const POSTGRES_PASSWORD = "s3cret/of the+house";

export interface PostgresServer {
  /** Of the superuser, by the Unix socket; a secret. */
  readonly url: string;
  /** The Unix socket. */
  readonly socket: string;
  close(): Promise<void>;
}

/** A server of its own in a temporary folder, on a Unix socket; it does not run as root, so neither does this. */
export async function startPostgres(): Promise<PostgresServer> {
  const folder = mkdtempSync(path.join(tmpdir(), "sp-pg-"));
  const [data, passwords] = [path.join(folder, "data"), path.join(folder, "password")];
  writeFileSync(passwords, POSTGRES_PASSWORD);
  const asUser = isRoot ? ["--reuid=postgres", "--regid=postgres", "--clear-groups"] : [];
  if (isRoot) {
    const id = (flag: string): number => Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8" }));
    for (const file of [folder, passwords]) chownSync(file, id("-u"), id("-g"));
  }
  const initdb = [
    findPeer("initdb")!,
    "-D",
    data,
    "-U",
    "house",
    "-E",
    "UTF8",
    "--locale=C",
    "--no-sync",
    "-A",
    "scram-sha-256",
  ];
  execFileSync("setpriv", [...asUser, ...initdb, `--pwfile=${passwords}`], { cwd: folder, stdio: "pipe" });
  const options = ["-k", folder, "-h", "", "-F", "-c", "max_connections=60"];
  const child = spawn("setpriv", [...asUser, "--pdeathsig", "INT", findPeer("postgres")!, "-D", data, ...options], {
    cwd: folder,
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.on("data", (chunk) => {
    said = (said + String(chunk)).slice(-4_000);
  });
  const ended = new Promise<void>((resolve) => child.on("close", () => resolve()));
  while (!said.includes("ready to accept connections") || !existsSync(path.join(folder, ".s.PGSQL.5432"))) {
    if (child.exitCode !== null) throw new Error(`PostgreSQL ended: ${said}`);
    await sleep(50);
  }
  return {
    url: `postgresql://house:${encodeURIComponent(POSTGRES_PASSWORD)}@/postgres?host=${encodeURIComponent(folder)}`,
    socket: path.join(folder, ".s.PGSQL.5432"),
    async close() {
      child.kill("SIGINT"); // "fast": ends its connections
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
