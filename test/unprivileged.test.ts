import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  globSync,
  lstatSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:http";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createNode } from "../src/index.ts";
import { freePorts } from "./suites/free-ports.ts";
import { listening } from "./suites/listening.ts";
import { scratchFolder } from "./suites/scratch.ts";

const WAIT = { timeout: 60_000, interval: 50 };
const NOBODY = 65_534;
const bin = path.resolve(import.meta.dirname, "../src/bin.ts");
const scratch = scratchFolder();
const children: ChildProcess[] = [];
const backend = createServer((_request, response) => response.end("served"));
/** Nobody in particular, without any capability and without a way to one. */
const AS_NOBODY = [
  ...["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups"],
  ...["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"],
];
const isRoot = process.getuid?.() === 0;
/** Who is not root is nobody already; root becomes nobody, where nobody may read these files. */
const prefix = isRoot ? AS_NOBODY : [];
const [asked = "", ...more] = [...prefix, process.execPath, "-e", "fs.readFileSync(process.argv[1])", bin];
const isPossible = spawnSync(asked, more).status === 0;

/** With files that everybody could read and write, were it for the umask. */
function careless(...args: readonly string[]): readonly [command: string, args: readonly string[]] {
  const node = [process.execPath, "--disable-warning=ExperimentalWarning", bin, ...args];
  const [command = "", ...rest] = [...prefix, "sh", "-c", 'umask 000; exec "$0" "$@"', ...node];
  return [command, rest];
}

async function sallyport(...args: readonly string[]): Promise<string> {
  const [command, rest] = careless(...args);
  return (await promisify(execFile)(command, rest)).stdout;
}

/** Gives the line of the log. */
function start(event: string, ...args: readonly string[]): Promise<{ pid: number; line: Record<string, unknown> }> {
  const [command, rest] = careless(...args);
  const child = spawn(command, rest, { stdio: ["ignore", "ignore", "pipe"] });
  children.push(child);
  let text = "";
  return new Promise((resolve, reject) => {
    child.stderr!.on("data", (chunk) => {
      text += String(chunk);
      const line = text.split("\n").find((one) => one.includes(`"msg":"${event}"`));
      if (line !== undefined) resolve({ pid: child.pid!, line: JSON.parse(line) as Record<string, unknown> });
    });
    child.on("exit", (code) => reject(new Error(`${args.join(" ")} ended with ${code}: ${text}`)));
  });
}

beforeAll(() => {
  chmodSync(scratch, 0o755);
  if (isRoot) chownSync(scratch, NOBODY, NOBODY);
});
afterAll(async () => {
  await Promise.all(
    children.map((child) => {
      const gone = new Promise((resolve) => child.once("exit", resolve));
      return child.kill("SIGTERM") ? gone : undefined;
    }),
  );
  backend.close();
});

/** What others may do with it, by path. */
function open(folder: string): readonly string[] {
  const found = [folder, ...globSync("**/{*,.*}", { cwd: folder }).map((name) => path.join(folder, name))];
  return found.flatMap((file) => {
    const info = lstatSync(file, { throwIfNoEntry: false });
    if (info === undefined || (info.mode & 0o077) === 0) return []; // a scratch file may be gone by now
    return [`${path.relative(scratch, file)} ${(info.mode & 0o777).toString(8)}`];
  });
}

test.runIf(isPossible)(
  "HD-5 SE-3 server, gateway and ingress run as nobody without any capability, and with umask 000 all that they keep is theirs alone",
  {
    timeout: 240_000,
  },
  async () => {
    const state = (name: string): string => `${scratch}/${name}`;
    const admin = ["server", "--state", state("server")];
    const ports = ["--port", "0", "--derp-port", "0", "--stun-port", "0"];
    const server = await start("server.started", ...admin, ...ports);
    const url = String(server.line["url"]);
    await sallyport(...admin, "users", "create", "alice@example.com", "--name", "Alice");
    const key = (await sallyport(...admin, "keys", "create", "--user", "alice@example.com", "--reusable")).trim();
    writeFileSync(state("key"), key, { mode: 0o600 });
    if (isRoot) chownSync(state("key"), NOBODY, NOBODY);
    const joins = (name: string) => [
      "--login-server",
      url,
      "--auth-key",
      `file:${state("key")}`,
      "--hostname",
      name,
      "--state",
      state(name),
    ];
    const socket = ["--socket", state("gate.sock")];
    const gateway = await start("gateway.started", ...socket, "run", ...joins("gw"));
    const [visitors] = await freePorts(1);
    const where = ["--address", "127.0.0.1", "--ports", String(visitors), "--http-port", "0"];
    const ingress = await start("ingress.started", "ingress", ...joins("relay"), ...where);

    const node = await createNode({
      controlUrl: url,
      authKey: key,
      hostname: "laptop",
      signal: AbortSignal.timeout(60_000),
    });
    await using _ = { [Symbol.asyncDispose]: () => node.close() };
    const port = String(await listening(backend));
    await expect
      .poll(() => sallyport(...socket, "serve", "--bg", "--http", "80", port).catch(() => ""), WAIT)
      .toContain("http://gw.");
    const answer = await node.fetch("http://gw.mesh.internal/", { signal: AbortSignal.timeout(60_000) });
    expect(await answer.text()).toBe("served");
    await sallyport(...socket, "serve", "--bg", "--https", "443", port);
    expect(await sallyport(...socket, "ca")).toContain("BEGIN CERTIFICATE");
    await sallyport(...socket, "set", "--hostname", "gw");
    await sallyport(...admin, "backup", state("backup"));

    for (const { pid } of [server, gateway, ingress]) {
      const status = readFileSync(`/proc/${pid}/status`, "utf8");
      expect(/^Uid:\t(\d+)/m.exec(status)?.[1]).not.toBe("0");
      if (isRoot) expect(status).toMatch(/^CapEff:\t0+$/m);
      if (isRoot) expect(status).toMatch(/^CapBnd:\t0+$/m);
      const fds = readdirSync(`/proc/${pid}/fd`).map((fd) => {
        try {
          return readlinkSync(`/proc/${pid}/fd/${fd}`);
        } catch {
          return "";
        }
      });
      expect(fds).not.toContain("/dev/net/tun");
    }
    const kept = ["server", "gw", "relay"].map(state);
    expect([...kept, state("backup")].flatMap(open)).toEqual([]);
    const names = kept.flatMap((folder) => readdirSync(folder, { recursive: true }).map(String));
    // Something of each kind was there; a server that alone has its file needs no `-shm`.
    for (const wanted of [/-wal$/, /\.old$/, /key/i, /\.sock$/])
      expect(names.join("\n")).toMatch(new RegExp(wanted, "m"));
  },
);
