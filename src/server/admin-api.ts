import { chmod, rm } from "node:fs/promises";
import { createServer, type IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import { Fault } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import { compilePolicy } from "../coordination/policy/policy.ts";
import type { Server } from "./server.ts";

const LARGEST_BODY_BYTES = 1024 * 1024;

/** What the server's owner may ask for, by name. Arguments and answers are JSON. */
type Verb = (server: Server, args: Readonly<Record<string, unknown>>, by: string) => Promise<unknown>;

const word = (args: Readonly<Record<string, unknown>>, name: string): string => {
  const value = args[name];
  if (typeof value === "string" && value !== "") return value;
  throw new Fault(
    "ADMIN_ARGUMENT",
    `Cannot do this without "${name}": found ${JSON.stringify(value) ?? "nothing"}, wanted text`,
  );
};
const number = (args: Readonly<Record<string, unknown>>, name: string): number => {
  const value = Number(args[name]);
  if (Number.isSafeInteger(value)) return value;
  throw new Fault(
    "ADMIN_ARGUMENT",
    `Cannot do this without "${name}": found ${String(args[name])}, wanted a whole number`,
  );
};
const words = (args: Readonly<Record<string, unknown>>, name: string): readonly string[] =>
  Array.isArray(args[name]) ? args[name].map(String) : [];

const verbs: Readonly<Record<string, Verb>> = {
  "users.list": async ({ coordinator }) => coordinator.users(),
  "users.create": async ({ coordinator }, args, by) =>
    coordinator.createUser(
      {
        login: word(args, "login"),
        ...(args["displayName"] === undefined ? {} : { displayName: word(args, "displayName") }),
        ...(args["profilePicture"] === undefined ? {} : { profilePicture: word(args, "profilePicture") }),
      },
      by,
    ),
  "users.delete": async ({ coordinator }, args, by) => coordinator.deleteUser(word(args, "login"), by),
  "keys.list": async ({ coordinator }) => coordinator.authKeys(),
  "keys.create": async ({ coordinator }, args, by) =>
    coordinator.createAuthKey(
      {
        ...(args["user"] === undefined ? {} : { user: word(args, "user") }),
        tags: words(args, "tags"),
        reusable: args["reusable"] === true,
        ephemeral: args["ephemeral"] === true,
        ...(args["expiryMs"] === undefined ? {} : { expiryMs: number(args, "expiryMs") }),
      },
      by,
    ),
  "keys.expire": async ({ coordinator }, args, by) => coordinator.expireAuthKey(word(args, "id"), by),
  "nodes.list": async ({ coordinator }) => coordinator.nodes(),
  "nodes.approve": async ({ coordinator }, args, by) =>
    coordinator.approveRegistration(word(args, "id"), word(args, "user"), by),
  "nodes.expire": async ({ coordinator }, args, by) => coordinator.expireNode(number(args, "id"), by),
  "nodes.delete": async ({ coordinator }, args, by) => coordinator.deleteNode(number(args, "id"), by),
  "nodes.rename": async ({ coordinator }, args, by) =>
    coordinator.renameNode(number(args, "id"), word(args, "name"), by),
  "nodes.routes": async ({ coordinator }, args, by) =>
    coordinator.setRoutes(number(args, "id"), words(args, "routes"), by),
  "nodes.tag": async ({ coordinator }, args, by) => coordinator.tagNode(number(args, "id"), words(args, "tags"), by),
  "policy.get": async ({ coordinator }) => ({ source: coordinator.policySource() ?? "" }),
  "policy.check": async (server, args) => {
    compilePolicy(word(args, "source"), server.policyContext());
    return { ok: true };
  },
  "policy.set": async (server, args, by) => {
    await server.setPolicy(word(args, "source"), by);
    return { ok: true };
  },
  log: async ({ coordinator }) => coordinator.adminLog({ limit: 100 }),
};

/** Serves the owner's commands on a unix socket that only the owner of the process may open. */
export async function openAdminApi(options: {
  readonly socketPath: string;
  readonly server: Server;
  readonly log: Log;
}): Promise<{ close(): Promise<void> }> {
  const { socketPath, server, log } = options;
  const http = createServer((request, response) => {
    answer(request, server, log).then(
      ({ status, body }) => {
        response.writeHead(status, { "Content-Type": "application/json" });
        response.end(JSON.stringify(body ?? null));
      },
      () => response.destroy(),
    );
  });
  await rm(socketPath, { force: true });
  const mask = process.umask(0o177); // the socket is never there with wider rights
  try {
    await new Promise<void>((resolve, reject) => {
      http.once("error", reject);
      http.listen(socketPath, () => resolve());
    });
  } finally {
    process.umask(mask);
  }
  await chmod(socketPath, 0o600);
  return {
    close: () =>
      new Promise((resolve) => {
        http.close(() => resolve());
        http.closeAllConnections();
      }),
  };
}

async function answer(request: IncomingMessage, server: Server, log: Log): Promise<{ status: number; body: unknown }> {
  if (request.url === "/healthz") return { status: 200, body: { ok: true, nodes: server.coordinator.nodes().length } };
  const verb = Object.hasOwn(verbs, request.url?.slice(4) ?? "") ? verbs[request.url!.slice(4)] : undefined;
  if (!request.url?.startsWith("/v1/") || verb === undefined || request.method !== "POST") {
    return { status: 404, body: { error: "no such verb" } };
  }
  if (Number(request.headers["content-length"] ?? Number.NaN) > LARGEST_BODY_BYTES) {
    return { status: 413, body: { error: "too large" } };
  }
  try {
    const args = JSON.parse((await text(request)) || "{}") as Readonly<Record<string, unknown>>;
    const by = typeof args["by"] === "string" ? args["by"] : "local";
    return { status: 200, body: (await verb(server, args, by)) ?? null };
  } catch (thrown) {
    if (!(thrown instanceof Fault)) log.error("admin.failed", { verb: request.url, error: thrown });
    const fault = thrown instanceof Fault ? thrown : new Fault("ADMIN_FAILED", "Cannot do this: see the server's log");
    const { code, message, hint, line, column } = fault;
    return { status: 400, body: { error: message, code, hint, line, column } };
  }
}
