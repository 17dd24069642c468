import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { findPeer, peersOrSkip } from "../peers.ts";
import { listening } from "../suites/listening.ts";
import { IGNORED, lineOf, type Quirks } from "./echo-line.ts";
import { PROXY_CONFIGS } from "./echo-proxies.ts";
import { freePorts } from "./processes.ts";

/** A server that logs what it is asked, by lines (see `echo-line.ts`), and answers with its line. */
export interface EchoServer {
  readonly port: number;
  /** What was logged since this was last called. */
  logged(): Promise<string[]>;
  close(): Promise<void>;
}

export interface EchoServerKind {
  readonly name: string;
  readonly missing: string | undefined;
  readonly quirks: Quirks;
  open(): Promise<EchoServer>;
}

/** Servers in Python, by the module that each needs. */
const PYTHON_SERVERS: Readonly<Record<string, string>> = {
  stdlib: "http.server",
  gunicorn: "gunicorn",
  waitress: "waitress",
  cheroot: "cheroot",
  uvicorn: "uvicorn",
  httptools: "httptools",
  hypercorn: "hypercorn",
  aiohttp: "aiohttp",
  tornado: "tornado",
  gevent: "gevent",
  eventlet: "eventlet",
  granian: "granian",
  twisted: "twisted",
};
const RUBY_SERVERS = ["webrick", "puma"];

const QUIRKS: Readonly<Record<string, Quirks>> = {
  stdlib: { isMerging: true },
  waitress: { own: ["x-forwarded-for"] },
  eventlet: { isMerging: true },
  webrick: { isMerging: true },
  cheroot: { isLastOnly: true },
  "http-daemon": { isEscaping: true },
  gevent: { isDecoded: true },
  caddy: { own: ["x-forwarded-for"] },
  apache2: { own: ["x-forwarded-for"], isMerging: true },
  lighttpd: { own: ["x-forwarded-for"] },
  h2o: { own: ["x-forwarded-for"] },
  nghttpx: { isDecoded: true, isMerging: true },
};

const python = process.env["SALLYPORT_PYTHON"] ?? "python3";
const script = (name: string): string => path.join(import.meta.dirname, name);

/** Every server that there may be on this machine. */
export function echoServers(): EchoServerKind[] {
  const lacking = missingModules(Object.values(PYTHON_SERVERS));
  const kind = (name: string, missing: string | undefined, open: () => Promise<EchoServer>): EchoServerKind => ({
    name,
    missing,
    quirks: QUIRKS[name] ?? {},
    open,
  });
  return [
    kind("node", undefined, nodeEcho),
    ...Object.entries(PYTHON_SERVERS).map(([name, module]) =>
      kind(name, lacking.has(module) ? module : undefined, () => talking(python, [script("echo-server.py"), name])),
    ),
    ...RUBY_SERVERS.map((name) =>
      kind(name, peersOrSkip("puma").missing, () => talking("ruby", [script("echo-server.rb"), name])),
    ),
    kind("http-daemon", missingPerl(), perlEcho),
    kind("php", peersOrSkip("php").missing, phpEcho),
    ...Object.keys(PROXY_CONFIGS).map((name) => kind(name, peersOrSkip(name).missing, () => proxyEcho(name))),
  ];
}

/** Those of them that Python does not find. */
function missingModules(names: readonly string[]): ReadonlySet<string> {
  const code = "import sys, importlib.util as u; print(*(n for n in sys.argv[1:] if u.find_spec(n) is None))";
  const { status, stdout } = spawnSync(python, ["-c", code, ...names], { encoding: "utf8" });
  const missing = status === 0 ? stdout.split(/\s+/).filter((name) => name !== "") : names;
  if (missing.length > 0) wanted(`${missing} for ${python}`);
  return new Set(missing);
}

function missingPerl(): string | undefined {
  const isThere = spawnSync("perl", ["-MHTTP::Daemon", "-e", "1"]).status === 0;
  if (!isThere) wanted("Perl's HTTP::Daemon");
  return isThere ? undefined : "HTTP::Daemon";
}

function wanted(what: string): void {
  if (process.env["SALLYPORT_REQUIRE_PEERS"] !== "1") return;
  throw new Error(`Cannot find ${what}: SALLYPORT_REQUIRE_PEERS is set, .ci/run should have installed it`);
}

/** Node's own. */
async function nodeEcho(): Promise<EchoServer> {
  const lines: string[] = [];
  const server = http.createServer((request, response) => {
    const { method = "", url: target = "", headersDistinct } = request;
    const values = (name: string): readonly string[] => headersDistinct[name] ?? [];
    const parts: Buffer[] = [];
    const answer = (): void => {
      const line = lineOf({ method, target, values, body: Buffer.concat(parts) });
      lines.push(line);
      response.setHeader("Content-Length", line.length);
      response.end(line, "latin1");
    };
    request.on("error", () => undefined);
    if (target.startsWith(IGNORED)) return answer();
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", answer);
  });
  return {
    port: await listening(server),
    logged: async () => lines.splice(0),
    close: async () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** A program that prints its port and tells at `/log` what it has logged. */
async function talking(command: string, args: readonly string[]): Promise<EchoServer> {
  const child = start(command, args);
  const port = await portOf(child);
  const logged = async (): Promise<string[]> => {
    const bytes = await (await fetch(`http://127.0.0.1:${port}/log`)).arrayBuffer();
    return linesIn(Buffer.from(bytes).toString("latin1"));
  };
  return { port, logged, close: () => end(child) };
}

async function perlEcho(): Promise<EchoServer> {
  const folder = mkdtempSync(path.join(tmpdir(), "sallyport-echo-"));
  const child = start("perl", [script("echo-server.pl"), path.join(folder, "log")]);
  return { port: await portOf(child), ...inFolder(folder, child) };
}

async function phpEcho(): Promise<EchoServer> {
  const folder = mkdtempSync(path.join(tmpdir(), "sallyport-echo-"));
  const [port = ""] = await freePorts("127.0.0.1", 1);
  const child = start(
    "php",
    ["-d", "enable_post_data_reading=0", "-S", `127.0.0.1:${port}`, script("echo-server.php")],
    {
      ECHO_LOG: path.join(folder, "log"),
    },
  );
  await reachable(Number(port), child);
  return { port: Number(port), ...inFolder(folder, child) };
}

/** Of a program that writes its log to a file there. */
function inFolder(folder: string, child: ChildProcess): Pick<EchoServer, "logged" | "close"> {
  const file = path.join(folder, "log");
  let read = 0;
  return {
    logged: async () => {
      const text = existsSync(file) ? readFileSync(file, "latin1") : "";
      const from = read;
      read = text.lastIndexOf("\n") + 1;
      return linesIn(text.slice(from, read));
    },
    close: async () => {
      await end(child);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

const linesIn = (text: string): string[] => text.split("\n").filter((line) => line !== "");

/** A proxy before Node's server. */
async function proxyEcho(name: string): Promise<EchoServer> {
  const origin = await nodeEcho();
  const folder = mkdtempSync(path.join(tmpdir(), "sallyport-echo-"));
  const [port = ""] = await freePorts("127.0.0.1", 1);
  const file = path.join(folder, "conf");
  const { config, args } = PROXY_CONFIGS[name]!;
  writeFileSync(file, config({ port: Number(port), origin: origin.port, folder }));
  const home = { XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder, HOME: folder };
  const child = start(findPeer(name)!, args(file, folder), home);
  await reachable(Number(port), child);
  return {
    port: Number(port),
    logged: () => origin.logged(),
    close: async () => {
      await end(child);
      await origin.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

const errors: WeakMap<ChildProcess, string[]> = new WeakMap();
const stderrOf = (child: ChildProcess): string => (errors.get(child) ?? []).join("").slice(-2000);

function start(command: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): ChildProcess {
  const child = spawn("setpriv", ["--pdeathsig", "KILL", command, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...env },
    // Those that fork (Apache, HTTP::Daemon, gunicorn) end as a whole.
    detached: true,
  });
  const said: string[] = [];
  child.stderr!.on("data", (part) => said.length < 100 && said.push(String(part)));
  errors.set(child, said);
  return child;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const gone = once(child, "exit");
  process.kill(-child.pid, "SIGKILL");
  await gone;
}

/** The first line that it prints. */
async function portOf(child: ChildProcess): Promise<number> {
  const [line] = await Promise.race([
    once(createInterface(child.stdout!), "line"),
    once(child, "exit").then(() => Promise.reject(new Error(`Cannot run ${child.spawnargs}: ${stderrOf(child)}`))),
  ]);
  return Number(line);
}

async function reachable(port: number, child: ChildProcess): Promise<void> {
  for (;;) {
    if (child.exitCode !== null) throw new Error(`the server ended with ${child.exitCode}: ${stderrOf(child)}`);
    const socket = connect(port, "127.0.0.1");
    const isThere = await new Promise((resolve) => {
      socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    });
    socket.destroy();
    if (isThere) return;
    await new Promise(setImmediate);
  }
}
