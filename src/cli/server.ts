import { readFile } from "node:fs/promises";
import { request } from "node:http";
import path from "node:path";
import { text } from "node:stream/consumers";
import { parseArgs } from "node:util";
import { createLog, type LogLevel } from "../base/log.ts";
import { CliExit, type CliIo } from "./io.ts";
import { terminalLines } from "./terminal-text.ts";

const USAGE = `sallyport server: coordination, DERP and STUN in one process

  sallyport server [--state DIR] [--address IP] [--port N] [--derp-port N] [--stun-port N]
                   [--url URL] [--domain NAME] [--policy FILE] [--log LEVEL]
  sallyport server users list | create LOGIN [--name TEXT] | delete LOGIN
  sallyport server keys list | create --user LOGIN [--tags tag:a,tag:b] [--reusable] [--ephemeral] | expire ID
  sallyport server nodes list | approve ID --user LOGIN | expire ID | delete ID | rename ID NAME
  sallyport server policy get | check FILE | set FILE
  sallyport server log

The commands talk to the running server at DIR/server.sock (--socket).
`;

const OPTIONS = {
  state: { type: "string" },
  socket: { type: "string" },
  address: { type: "string" },
  port: { type: "string" },
  "derp-port": { type: "string" },
  "stun-port": { type: "string" },
  url: { type: "string" },
  domain: { type: "string" },
  policy: { type: "string" },
  log: { type: "string" },
  user: { type: "string" },
  tags: { type: "string" },
  name: { type: "string" },
  reusable: { type: "boolean" },
  ephemeral: { type: "boolean" },
  help: { type: "boolean", short: "h" },
} as const;

type Values = ReturnType<typeof parse>["values"];

function parse(args: readonly string[]) {
  return parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
}

/** `sallyport server`: runs the server, or asks the running one. */
export async function server(args: readonly string[], io: CliIo): Promise<number> {
  const { values, positionals } = parse(args);
  if (values.help === true) {
    io.stdout(USAGE);
    return 0;
  }
  const state = values.state ?? path.join(io.env["HOME"] ?? ".", ".local", "state", "sallyport-server");
  const socketPath = values.socket ?? path.join(state, "server.sock");
  return positionals.length === 0 ? serve(values, state, socketPath, io) : ask(values, positionals, socketPath, io);
}

async function serve(values: Values, state: string, socketPath: string, io: CliIo): Promise<number> {
  const { directoryStore } = await import("../mesh/state.ts");
  const { SqliteCoordinationStore } = await import("../coordination/store/sqlite-store.ts");
  const { Server } = await import("../server/server.ts");
  const { openAdminApi } = await import("../server/admin-api.ts");
  const log = createLog((values.log ?? "info") as LogLevel);
  await using stack = new AsyncDisposableStack();
  const running = await Server.open({
    state: await directoryStore(state),
    store: await SqliteCoordinationStore.open(path.join(state, "server.db")),
    baseDomain: values.domain ?? "mesh.internal",
    port: Number(values.port ?? 8080),
    derpPort: Number(values["derp-port"] ?? 8443),
    stunPort: Number(values["stun-port"] ?? 3478),
    log,
    ...(values.address === undefined ? {} : { address: values.address }),
    ...(values.url === undefined ? {} : { serverUrl: values.url }),
    ...(values.policy === undefined ? {} : { policy: await readFile(values.policy, "utf8") }),
  });
  stack.defer(() => running.close());
  const admin = await openAdminApi({ socketPath, server: running, log: log.with("admin") });
  stack.defer(() => admin.close());
  log.info("server.started", { url: running.url, socketPath });
  if (!io.signal.aborted) {
    await new Promise<void>((resolve) => io.signal.addEventListener("abort", () => resolve(), { once: true }));
  }
  return 0;
}

async function ask(
  values: Values,
  [area = "", verb = "", ...rest]: string[],
  socketPath: string,
  io: CliIo,
): Promise<number> {
  const call = await callOf(values, area, verb, rest);
  if (call === undefined) throw new CliExit(USAGE, 2);
  const { status, body } = await post(socketPath, call.verb, { ...call.args, by: io.env["USER"] ?? "local" });
  if (status !== 200) {
    const { error, line, column, hint } = body as Record<string, unknown>;
    const where = line === undefined ? "" : ` (line ${String(line)}, column ${String(column)})`;
    throw new CliExit(`${String(error)}${where}${hint === undefined ? "" : `\n${String(hint)}`}`);
  }
  if (area === "policy" && verb === "get") io.stdout((body as { source: string }).source);
  else if (area === "keys" && verb === "create") io.stdout(`${(body as { key: string }).key}\n`);
  else io.stdout(`${terminalLines(JSON.stringify(body, undefined, 2))}\n`);
  return 0;
}

async function callOf(
  values: Values,
  area: string,
  verb: string,
  [first, second]: readonly string[],
): Promise<{ verb: string; args: Record<string, unknown> } | undefined> {
  const name = area === "log" ? "log" : `${area}.${verb}`;
  switch (name) {
    case "users.list":
    case "keys.list":
    case "nodes.list":
    case "policy.get":
    case "log":
      return { verb: name, args: {} };
    case "users.create":
      return { verb: name, args: { login: first, ...(values.name === undefined ? {} : { displayName: values.name }) } };
    case "users.delete":
      return { verb: name, args: { login: first } };
    case "keys.create":
      return {
        verb: name,
        args: {
          ...(values.user === undefined ? {} : { user: values.user }),
          tags: values.tags?.split(",") ?? [],
          reusable: values.reusable === true,
          ephemeral: values.ephemeral === true,
        },
      };
    case "keys.expire":
    case "nodes.expire":
    case "nodes.delete":
      return { verb: name, args: { id: first } };
    case "nodes.approve":
      return { verb: name, args: { id: first, user: values.user } };
    case "nodes.rename":
      return { verb: name, args: { id: first, name: second } };
    case "policy.check":
    case "policy.set":
      return first === undefined ? undefined : { verb: name, args: { source: await readFile(first, "utf8") } };
    default:
      return undefined;
  }
}

function post(socketPath: string, verb: string, args: unknown): Promise<{ status: number; body: unknown }> {
  return new Promise((resolve, reject) => {
    const body = JSON.stringify(args);
    const outgoing = request(
      { socketPath, path: `/v1/${verb}`, method: "POST", headers: { "Content-Length": Buffer.byteLength(body) } },
      (response) => {
        text(response).then(
          (answer) => resolve({ status: response.statusCode ?? 0, body: JSON.parse(answer) }),
          reject,
        );
      },
    );
    outgoing.on("error", (error) =>
      reject(
        new CliExit(`Cannot reach the server at "${socketPath}": ${error.message}\nIs \`sallyport server\` running?`),
      ),
    );
    outgoing.end(body);
  });
}
