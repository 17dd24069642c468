import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { readAtMost } from "../base/bounded-read.ts";
import { Fault } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import { ADMIN_VERBS } from "./admin-verbs.ts";
import { ServerMetrics } from "./metrics.ts";
import { listenPrivately } from "./private-socket.ts";
import type { Server } from "./server.ts";

const LARGEST_BODY_BYTES = 1024 * 1024;

export interface AdminApiOptions {
  readonly socketPath: string;
  readonly server: Server;
  readonly log: Log;
}

interface Answer {
  readonly status: number;
  /** A string goes out as it is. */
  readonly body: unknown;
  readonly type?: string;
}

/** Serves the owner's commands, health and metrics on a unix socket that only the owner of the process may open. */
export async function openAdminApi({ socketPath, server, log }: AdminApiOptions): Promise<{ close(): Promise<void> }> {
  const metrics = new ServerMetrics(server);
  const answer = async (request: IncomingMessage): Promise<Answer> => {
    // A page in a browser has no business here, however it found the socket (matrix CF-5).
    if (request.headers.origin !== undefined || request.headers.referer !== undefined) {
      return { status: 403, body: { error: "not for browsers" } };
    }
    if (request.method === "GET" && request.url === "/healthz") return health(server);
    if (request.method === "GET" && request.url === "/metrics") {
      return { status: 200, body: await metrics.text(), type: metrics.contentType };
    }
    return act(request, server, log);
  };
  const http = createServer((request, response) => {
    answer(request).then(
      (given) => respond(response, given),
      () => response.destroy(),
    );
  });
  return { close: await listenPrivately(http, socketPath) };
}

/** The same document as a gateway's. */
async function health(server: Server): Promise<Answer> {
  const problems = await server.problems();
  const isHealthy = problems.length === 0;
  return { status: isHealthy ? 200 : 503, body: { status: isHealthy ? "ok" : "failing", problems } };
}

async function act(request: IncomingMessage, server: Server, log: Log): Promise<Answer> {
  const name = request.url?.startsWith("/v1/") ? request.url.slice("/v1/".length) : "";
  const verb = Object.hasOwn(ADMIN_VERBS, name) ? ADMIN_VERBS[name] : undefined;
  if (verb === undefined || request.method !== "POST") return { status: 404, body: { error: "no such verb" } };
  try {
    const body = (await readAtMost(request, LARGEST_BODY_BYTES))?.toString("utf8");
    if (body === undefined) return { status: 413, body: { error: "too large" } };
    const args = JSON.parse(body || "{}") as Readonly<Record<string, unknown>>;
    const by = typeof args["by"] === "string" ? args["by"] : "local";
    return { status: 200, body: (await verb(server, args, by)) ?? null };
  } catch (thrown) {
    if (!(thrown instanceof Fault)) log.error("admin.failed", { verb: name, error: thrown });
    const fault = thrown instanceof Fault ? thrown : new Fault("ADMIN_FAILED", "Cannot do this: see the server's log");
    const { code, message, hint, line, column } = fault;
    return { status: 400, body: { error: message, code, hint, line, column } };
  }
}

function respond(response: ServerResponse, { status, body, type = "application/json" }: Answer): void {
  response.writeHead(status, { "Content-Type": type });
  response.end(typeof body === "string" ? body : JSON.stringify(body));
}
