import { chmod, lstat, mkdir, unlink } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { connect, type Socket } from "node:net";
import path from "node:path";
import { isMainThread } from "node:worker_threads";
import { readAtMost } from "../../base/bounded-read.ts";
import { Fault, messageOf } from "../../base/fault.ts";
import type { Log } from "../../base/log.ts";
import { createAccountRoutes } from "./account-routes.ts";
import {
  ALL_PERMITTED,
  isAdmitted,
  type Permission,
  parseWatchMask,
  permissionOf,
  refusalOfCall,
} from "./admission.ts";
import type { LocalApiBackend } from "./backend.ts";
import { certificate, createCertificateRoutes } from "./certificate-routes.ts";
import { createDoorRoutes } from "./door-routes.ts";
import { createFunnelRoutes } from "./funnel-routes.ts";
import { createInspectionRoutes } from "./inspection-routes.ts";
import { type PeerCredentials, peerCredentialsReader } from "./peer-credentials.ts";
import { type Answer, type Call, createOwnRoutes, createRoutes, type Route, refuse } from "./routes.ts";
import { Watchers } from "./watchers.ts";

const PREFIX = "/localapi/v0/";
const MAX_BODY_BYTES = 1024 * 1024;
const MOST_CONNECTIONS = 512;
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
  /** Asks the kernel who connects. @default by `node:ffi` where it exists; `null` = never */
  readonly credentials?: ((socket: Socket) => PeerCredentials | undefined) | null;
}

/**
 * The local admin interface: HTTP on a unix socket with the endpoints and documents of upstream's daemon (LocalAPI), so that
 * its own command line works too. Where the kernel can be asked who connects, everyone on this machine may read, and only
 * root, the gateway's own user and the operator may change anything. Elsewhere the file mode decides: 0600.
 */
export async function openLocalApi(options: LocalApiOptions): Promise<{ close(): Promise<void> }> {
  const log = options.log.with("localapi");
  const credentials = options.credentials === undefined ? peerCredentialsReader() : (options.credentials ?? undefined);
  const watchers = new Watchers(options.backend, options.version ?? "sallyport", log);
  const routes = new Map([
    ...createRoutes(options.backend, watchers),
    ...createAccountRoutes(options.backend),
    ...createCertificateRoutes(options.backend),
    ...createDoorRoutes(options.backend),
    ...createFunnelRoutes(options.backend),
    ...createInspectionRoutes(options.backend),
  ]);
  const ownRoutes = createOwnRoutes(options.backend);
  const server = createServer({ requireHostHeader: false, keepAliveTimeout: 60_000 }, (request, response) => {
    const permission = permissionFor(request.socket);
    handle(request, response, { ...options, log, watchers, routes, ownRoutes, permission }).catch((thrown: unknown) => {
      log.error("localapi.failed", { path: request.url, reason: messageOf(thrown) });
      if (!response.headersSent) send(response, refuse(500, messageOf(thrown)));
      else response.destroy();
    });
  });
  const permissions = new WeakMap<Socket, Permission>();
  /** As the kernel noted it when the connection was made; nobody may do anything when it cannot be asked. */
  const permissionFor = (socket: Socket): Permission | undefined => {
    if (credentials === undefined) return ALL_PERMITTED;
    const known = permissions.get(socket);
    if (known !== undefined) return known;
    const found = credentials(socket);
    if (found === undefined) return undefined;
    const permission = permissionOf(found.uid, process.getuid?.() ?? -1, options.backend.operatorUid?.());
    permissions.set(socket, permission);
    return permission;
  };
  server.on("connect", (_request, socket) => {
    socket.end("HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
  });
  server.on("clientError", (_error, socket) => {
    if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    else socket.destroy();
  });
  server.maxConnections = MOST_CONNECTIONS;
  await removeStale(options.socketPath);
  await mkdir(path.dirname(options.socketPath), { recursive: true, mode: 0o755 });
  await listen(server, options.socketPath, credentials === undefined ? 0o600 : 0o666);
  log.info("localapi.open", { socket: options.socketPath });
  return {
    close: async () => {
      watchers.close();
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

async function listen(server: Server, socketPath: string, mode: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) =>
      reject(new Fault("LOCALAPI_LISTEN", `Cannot listen on "${socketPath}": ${cause.message}`, { cause })),
    );
    // Until chmod the file is not wider than 0600: `listen` binds before it returns. A worker has no umask of its own.
    const before = isMainThread ? process.umask(0o177) : undefined;
    server.listen(socketPath, resolve);
    if (before !== undefined) process.umask(before);
  });
  await chmod(socketPath, mode);
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
  readonly ownRoutes: ReadonlyMap<string, Route>;
  readonly permission: Permission | undefined;
}

async function handle(request: IncomingMessage, response: ServerResponse, context: Context): Promise<void> {
  const { permission } = context;
  if (permission === undefined) return send(response, refuse(403, "access denied: the caller is unknown"));
  if (!isAdmitted(request.headers)) return send(response, refuse(403, "invalid localapi request"));
  const [rawPath = "", rawQuery = ""] = splitOnce(request.url ?? "/", "?");
  if (rawPath === "/")
    return send(response, {
      status: 200,
      body: "<html><body><h1>sallyport</h1></body></html>\n",
      type: "text/html; charset=utf-8",
    });
  const query = new URLSearchParams(rawQuery);
  const method = request.method ?? "GET";
  const own = context.ownRoutes.get(rawPath);
  if (own !== undefined) {
    const { signal } = new AbortController();
    return send(response, await own({ method, query, headers: request.headers, body: "", signal, permission }));
  }
  if (!rawPath.startsWith(PREFIX)) return send(response, refuse(404, "not found"));
  const name = decodeName(rawPath.slice(PREFIX.length));
  if (name === undefined) return send(response, refuse(404, "not found"));
  if (name === "watch-ipn-bus") {
    if (method !== "GET") return send(response, refuse(405, "want GET"));
    const asked = parseWatchMask(query.get("mask"));
    if ("refusal" in asked) return send(response, refuse(400, asked.refusal));
    for (const [header, value] of Object.entries(FIXED_HEADERS)) response.setHeader(header, value);
    if (!context.watchers.open(asked.mask, response)) send(response, refuse(503, "too many watchers"));
    return;
  }
  const denied = refusalOfCall(method, name, permission);
  if (denied !== undefined) return send(response, refuse(403, denied));
  const body = (await readAtMost(request, MAX_BODY_BYTES))?.toString("utf8");
  if (body === undefined) {
    response.setHeader("Connection", "close");
    return send(response, refuse(413, "request body too large"));
  }
  const gone = new AbortController();
  response.once("close", () => gone.abort());
  const call: Call = { method, query, headers: request.headers, body, signal: gone.signal, permission };
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

function send(response: ServerResponse, answer: Answer): void {
  if (response.destroyed || response.headersSent) return;
  const headers: Record<string, string> = { ...FIXED_HEADERS, ...answer.headers };
  if (answer.type !== undefined) headers["Content-Type"] = answer.type;
  if (answer.status !== 204) headers["Content-Length"] = String(Buffer.byteLength(answer.body));
  response.writeHead(answer.status, headers);
  response.end(answer.body);
}
