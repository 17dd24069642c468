import { chmod, lstat, mkdir, unlink } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { connect } from "node:net";
import path from "node:path";
import { isMainThread } from "node:worker_threads";
import { Fault, messageOf } from "../../base/fault.ts";
import type { Log } from "../../base/log.ts";
import { isAdmitted, parseWatchMask } from "./admission.ts";
import type { LocalApiBackend } from "./backend.ts";
import { type Answer, type Call, certificate, createRoutes, type Route, refuse } from "./routes.ts";
import { Watchers } from "./watchers.ts";

const PREFIX = "/localapi/v0/";
const MAX_BODY_BYTES = 1024 * 1024;
/** Our capability version, for clients that look. `Tailscale-Version` is left out: a differing one makes them warn. */
const CAPABILITY_VERSION = "142";

const FIXED_HEADERS: Readonly<Record<string, string>> = {
  "Content-Security-Policy":
    "default-src 'none'; frame-ancestors 'none'; script-src 'none'; script-src-elem 'none'; script-src-attr 'none'",
  "X-Frame-Options": "DENY",
  "X-Content-Type-Options": "nosniff",
  "Tailscale-Cap": CAPABILITY_VERSION,
};

export interface LocalApiOptions {
  readonly socketPath: string;
  readonly backend: LocalApiBackend;
  readonly log: Log;
  /** What notifications call our version. */
  readonly version?: string;
}

/**
 * The local admin interface: HTTP on a unix socket with the endpoints and documents of upstream's daemon (LocalAPI), so that
 * its own command line works too. Node.js cannot ask the kernel who connects, so the file mode decides: 0600, only the user
 * that runs the gateway and root. With that every caller may read and write.
 */
export async function openLocalApi(options: LocalApiOptions): Promise<{ close(): Promise<void> }> {
  const log = options.log.with("localapi");
  const watchers = new Watchers(options.backend, options.version ?? "sallyport", log);
  const routes = createRoutes(options.backend, watchers);
  const server = createServer({ requireHostHeader: false, keepAliveTimeout: 60_000 }, (request, response) => {
    handle(request, response, { ...options, log, watchers, routes }).catch((thrown: unknown) => {
      log.error("localapi.failed", { path: request.url, reason: messageOf(thrown) });
      if (!response.headersSent) send(response, refuse(500, messageOf(thrown)));
      else response.destroy();
    });
  });
  server.on("connect", (_request, socket) => {
    socket.end("HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
  });
  server.on("clientError", (_error, socket) => {
    if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    else socket.destroy();
  });
  await removeStale(options.socketPath);
  await mkdir(path.dirname(options.socketPath), { recursive: true, mode: 0o755 });
  await listen(server, options.socketPath);
  log.info("localapi.open", { socket: options.socketPath });
  return {
    close: async () => {
      watchers.close();
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

async function listen(server: Server, socketPath: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) =>
      reject(new Fault("LOCALAPI_LISTEN", `Cannot listen on "${socketPath}": ${cause.message}`, { cause })),
    );
    // The file is never wider than 0600, not even before chmod: `listen` binds before it returns. A worker has no umask of its own.
    const before = isMainThread ? process.umask(0o177) : undefined;
    server.listen(socketPath, resolve);
    if (before !== undefined) process.umask(before);
  });
  await chmod(socketPath, 0o600);
}

/** A socket that nobody answers on is left over from a crash; one that answers belongs to a running gateway. */
async function removeStale(socketPath: string): Promise<void> {
  const found = await lstat(socketPath).catch(() => undefined);
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new Fault(
      "LOCALAPI_NOT_SOCKET",
      `Cannot listen on "${socketPath}": found another kind of file, wanted a socket`,
    );
  }
  const isAnswered = await new Promise<boolean>((resolve) => {
    const probe = connect(socketPath);
    probe.once("connect", () => {
      probe.destroy();
      resolve(true);
    });
    probe.once("error", () => resolve(false));
  });
  if (isAnswered) {
    throw new Fault(
      "LOCALAPI_IN_USE",
      `Cannot listen on "${socketPath}": another gateway answers there, wanted a free path`,
      {
        hint: "Stop the other gateway, or give this one its own --socket",
      },
    );
  }
  await unlink(socketPath);
}

interface Context extends LocalApiOptions {
  readonly watchers: Watchers;
  readonly routes: ReadonlyMap<string, Route>;
}

async function handle(request: IncomingMessage, response: ServerResponse, context: Context): Promise<void> {
  if (!isAdmitted(request.headers)) return send(response, refuse(403, "invalid localapi request"));
  const [rawPath = "", rawQuery = ""] = splitOnce(request.url ?? "/", "?");
  if (rawPath === "/")
    return send(response, {
      status: 200,
      body: "<html><body><h1>sallyport</h1></body></html>\n",
      type: "text/html; charset=utf-8",
    });
  if (!rawPath.startsWith(PREFIX)) return send(response, refuse(404, "not found"));
  const name = decodeName(rawPath.slice(PREFIX.length));
  if (name === undefined) return send(response, refuse(404, "not found"));
  const query = new URLSearchParams(rawQuery);
  const method = request.method ?? "GET";
  if (name === "watch-ipn-bus") {
    if (method !== "GET") return send(response, refuse(405, "want GET"));
    const asked = parseWatchMask(query.get("mask"));
    if ("refusal" in asked) return send(response, refuse(400, asked.refusal));
    for (const [header, value] of Object.entries(FIXED_HEADERS)) response.setHeader(header, value);
    if (!context.watchers.open(asked.mask, response)) send(response, refuse(503, "too many watchers"));
    return;
  }
  const body = await readBody(request);
  if (body === undefined) {
    response.setHeader("Connection", "close");
    return send(response, refuse(413, "request body too large"));
  }
  const gone = new AbortController();
  response.once("close", () => gone.abort());
  const call: Call = { method, query, headers: request.headers, body, signal: gone.signal };
  const route = context.routes.get(name);
  if (route !== undefined) return send(response, await route(call));
  if (name.startsWith("cert/"))
    return send(response, await certificate(call, name.slice("cert/".length), context.backend));
  send(response, refuse(404, "not found"));
}

function splitOnce(text: string, at: string): readonly string[] {
  const found = text.indexOf(at);
  return found < 0 ? [text] : [text.slice(0, found), text.slice(found + 1)];
}

function decodeName(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined; // malformed percent-encoding names nothing
  }
}

async function readBody(request: IncomingMessage): Promise<string | undefined> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > MAX_BODY_BYTES) return undefined;
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}

function send(response: ServerResponse, answer: Answer): void {
  if (response.destroyed || response.headersSent) return;
  const headers: Record<string, string> = { ...FIXED_HEADERS, ...answer.headers };
  if (answer.type !== undefined) headers["Content-Type"] = answer.type;
  if (answer.status !== 204) headers["Content-Length"] = String(Buffer.byteLength(answer.body));
  response.writeHead(answer.status, headers);
  response.end(answer.body);
}
