import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { findPeer } from "../peers.ts";
import { freePorts } from "./processes.ts";

/** A server that logs what it is asked, by lines `METHOD QUERY LENGTH:SHA1`, and answers with its line. */
export interface EchoServer {
  readonly port: number;
  /** What was logged since this was last called. */
  logged(): Promise<string[]>;
  close(): Promise<void>;
}

/** Servers in Python, by the module that each needs. */
export const PYTHON_SERVERS: Readonly<Record<string, string>> = {
  stdlib: "http.server",
  gunicorn: "gunicorn",
  waitress: "waitress",
  cheroot: "cheroot",
  uvicorn: "uvicorn",
  hypercorn: "hypercorn",
  aiohttp: "aiohttp",
  tornado: "tornado",
};
export const PROXIES = ["nginx", "haproxy", "caddy"] as const;

const python = process.env["SALLYPORT_PYTHON"] ?? "python3";

/** Those of them that Python does not find. */
export function missingModules(names: readonly string[]): ReadonlySet<string> {
  const script = "import sys, importlib.util as u; print(*(n for n in sys.argv[1:] if u.find_spec(n) is None))";
  const { status, stdout } = spawnSync(python, ["-c", script, ...names], { encoding: "utf8" });
  const missing = status === 0 ? stdout.split(/\s+/).filter((name) => name !== "") : names;
  if (missing.length > 0 && process.env["SALLYPORT_REQUIRE_PEERS"] === "1")
    throw new Error(
      `Cannot find ${missing} for ${python}: SALLYPORT_REQUIRE_PEERS is set, .ci/run should have installed it`,
    );
  return new Set(missing);
}

export function lineOf(method: string, query: string, body: Buffer): string {
  return `${method} ${query} ${body.length}:${createHash("sha1").update(body).digest("hex")}`;
}

/** Node's own. */
export async function nodeEcho(): Promise<EchoServer> {
  const lines: string[] = [];
  const server = http.createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("error", () => undefined);
    request.on("end", () => {
      const { method = "", url = "" } = request;
      const line = lineOf(method, url.split("?").slice(1).join("?"), Buffer.concat(parts));
      lines.push(line);
      response.end(line);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    logged: async () => lines.splice(0),
    close: async () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

export async function pythonEcho(kind: string): Promise<EchoServer> {
  const script = path.join(import.meta.dirname, "echo-server.py");
  const child = start(python, [script, kind]);
  const [line] = await Promise.race([
    once(createInterface(child.stdout!), "line"),
    once(child, "exit").then(() => Promise.reject(new Error(`Cannot run echo-server.py ${kind}: ${stderrOf(child)}`))),
  ]);
  const port = Number(line);
  return { port, logged: () => linesFrom(port), close: () => end(child) };
}

async function linesFrom(port: number): Promise<string[]> {
  const text = Buffer.from(await (await fetch(`http://127.0.0.1:${port}/log`)).arrayBuffer()).toString("latin1");
  return text === "" ? [] : text.split("\n");
}

/** A proxy before Node's server. */
export async function proxyEcho(kind: (typeof PROXIES)[number]): Promise<EchoServer> {
  const origin = await nodeEcho();
  const folder = mkdtempSync(path.join(tmpdir(), "sallyport-echo-"));
  const [port = ""] = await freePorts("127.0.0.1", 1);
  const file = path.join(folder, "conf");
  writeFileSync(file, CONFIGS[kind](port, origin.port, folder));
  const args = {
    nginx: ["-p", folder, "-c", file],
    haproxy: ["-f", file],
    caddy: ["run", "--adapter", "caddyfile", "--config", file],
  };
  const child = start(findPeer(kind)!, args[kind], { XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder, HOME: folder });
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

const CONFIGS: Readonly<Record<(typeof PROXIES)[number], (port: string, origin: number, folder: string) => string>> = {
  nginx: (port, origin, folder) => `
daemon off; worker_processes 1; pid ${folder}/pid; error_log /dev/null;
events {}
http {
  access_log off; client_body_temp_path ${folder}/b; proxy_temp_path ${folder}/p; fastcgi_temp_path ${folder}/f;
  uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s;
  upstream origin { server 127.0.0.1:${origin}; keepalive 8; }
  server {
    listen 127.0.0.1:${port};
    location / { proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_request_buffering off; }
  }
}`,
  haproxy: (port, origin) => `
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
frontend in
  bind 127.0.0.1:${port}
  default_backend origin
backend origin
  http-reuse always
  server one 127.0.0.1:${origin}
`,
  caddy: (port, origin) => `{
  admin off
  auto_https off
  log default {
    output discard
  }
}
http://127.0.0.1:${port}, http://gw.tail.test:${port}, http://:${port} {
  reverse_proxy 127.0.0.1:${origin}
}
`,
};

const errors: WeakMap<ChildProcess, string[]> = new WeakMap();
const stderrOf = (child: ChildProcess): string => (errors.get(child) ?? []).join("").slice(-2000);

function start(command: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): ChildProcess {
  const child = spawn("setpriv", ["--pdeathsig", "KILL", command, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...env },
  });
  const said: string[] = [];
  child.stderr!.on("data", (part) => said.length < 100 && said.push(String(part)));
  errors.set(child, said);
  return child;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, "exit");
  child.kill("SIGKILL");
  await gone;
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
