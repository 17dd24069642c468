import { readFile } from "node:fs/promises";
import type { AuthKeyView, NodeView } from "../coordination/coordinator.ts";
import type { User } from "../coordination/records.ts";
import { CliExit, type CliIo } from "./io.ts";
import type { ServerClient } from "./server-client.ts";
import type { ServerValues } from "./server-flags.ts";
import { table } from "./table.ts";
import { terminalLines } from "./terminal-text.ts";

/** What one command asks of the server, and how its answer is shown on a terminal; elsewhere it is JSON. */
interface AdminCall {
  readonly verb: string;
  readonly args?: Readonly<Record<string, unknown>>;
  readonly table?: (answer: never) => string;
  readonly plain?: (answer: never) => string;
}

type AdminCommand = (values: ServerValues, words: readonly string[]) => AdminCall | Promise<AdminCall> | undefined;

const COMMANDS: Readonly<Record<string, AdminCommand>> = {
  "users list": () => ({ verb: "users.list", table: userTable }),
  "users create": ({ name, picture }, [login]) => ({
    verb: "users.create",
    args: { login, ...(name === undefined ? {} : { displayName: name }), ...pictureOf(picture) },
  }),
  "users set": ({ name, picture }, [login]) => ({
    verb: "users.set",
    args: { login, ...(name === undefined ? {} : { displayName: name }), ...pictureOf(picture) },
  }),
  "users delete": (_, [login]) => ({ verb: "users.delete", args: { login } }),
  "keys list": () => ({ verb: "keys.list", table: keyTable }),
  "keys create": ({ user, tags, reusable, ephemeral, expiry }) => ({
    verb: "keys.create",
    args: {
      ...(user === undefined ? {} : { user }),
      tags: list(tags),
      reusable: reusable === true,
      ephemeral: ephemeral === true,
      ...(expiry === undefined ? {} : { expiryMs: lifetime(expiry) }),
    },
    plain: ({ key }: { key: string }) => `${key}\n`,
  }),
  "keys expire": (_, [id]) => ({ verb: "keys.expire", args: { id } }),
  "nodes list": () => ({ verb: "nodes.list", table: nodeTable }),
  "nodes waiting": () => ({ verb: "nodes.waiting" }),
  "nodes approve": ({ user }, [id]) => ({ verb: "nodes.approve", args: { id, user } }),
  "nodes reject": (_, [id]) => ({ verb: "nodes.reject", args: { id } }),
  "nodes expire": (_, [node]) => ({ verb: "nodes.expire", args: { node } }),
  "nodes delete": (_, [node]) => ({ verb: "nodes.delete", args: { node } }),
  "nodes rename": (_, [node, name]) => ({ verb: "nodes.rename", args: { node, name } }),
  "nodes tag": (_, [node, tags]) => ({ verb: "nodes.tag", args: { node, tags: list(tags) } }),
  "nodes assign": ({ user }, [node]) => ({ verb: "nodes.assign", args: { node, user } }),
  "nodes routes": (_, [node, routes]) => ({ verb: "nodes.routes", args: { node, routes: list(routes) } }),
  "policy get": () => ({ verb: "policy.get", plain: ({ source }: { source: string }) => source }),
  "policy check": (_, [file]) => withSource("policy.check", file),
  "policy set": (_, [file]) => withSource("policy.set", file),
  log: () => ({ verb: "log" }),
};

/** Runs one command of the server's owner; undefined: there is no such command. */
export async function administer(
  values: ServerValues,
  words: readonly string[],
  client: Pick<ServerClient, "ask">,
  io: CliIo,
): Promise<number | undefined> {
  const length = words[0] === "log" ? 1 : 2;
  const name = words.slice(0, length).join(" ");
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  const call = await command?.(values, words.slice(length));
  if (call === undefined) return undefined;
  const answer = await client.ask<never>(call.verb, call.args);
  if (call.plain !== undefined && values.json !== true) io.stdout(call.plain(answer));
  else if (call.table !== undefined && io.isTerminal && values.json !== true) io.stdout(call.table(answer));
  else io.stdout(`${terminalLines(JSON.stringify(answer, undefined, 2))}\n`);
  return 0;
}

/** `90m`, `12h`, `180d`. */
export function lifetime(text: string): number {
  const [, amount, unit] = /^([1-9]\d{0,6})([mhd])$/.exec(text) ?? [];
  const minutes = { m: 1, h: 60, d: 1440 }[unit ?? ""];
  if (minutes === undefined) throw new CliExit(`Cannot use --expiry "${text}": wanted such as 90m, 12h or 180d`, 2);
  return Number(amount) * minutes * 60_000;
}

const list = (text: string | undefined): readonly string[] => text?.split(",").filter((word) => word !== "") ?? [];

const pictureOf = (picture: string | undefined): { profilePicture?: string } =>
  picture === undefined ? {} : { profilePicture: picture };

async function withSource(verb: string, file: string | undefined): Promise<AdminCall> {
  if (file === undefined) throw new CliExit("Cannot read the policy: wanted the name of its file", 2);
  return { verb, args: { source: await readFile(file, "utf8") } };
}

const day = (ms: number | undefined): string => (ms === undefined ? "-" : new Date(ms).toISOString().slice(0, 10));

function userTable(users: readonly User[]): string {
  return table(
    ["LOGIN", "NAME", "CREATED"],
    users.map(({ login, displayName, created }) => [login, displayName, day(created)]),
  );
}

function keyTable(keys: readonly AuthKeyView[]): string {
  return table(
    ["ID", "TAGS", "KIND", "USES", "EXPIRES", "STATE"],
    keys.map(({ id, tags, reusable, ephemeral, uses, expires, revoked }) => [
      id,
      tags.join(",") || "-",
      `${reusable ? "reusable" : "once"}${ephemeral ? ", ephemeral" : ""}`,
      String(uses),
      day(expires),
      revoked === undefined ? "good" : "revoked",
    ]),
  );
}

function nodeTable(nodes: readonly NodeView[]): string {
  return table(
    ["ID", "NAME", "ADDRESS", "OWNER", "STATE", "EXPIRES", "ROUTES"],
    nodes.map((node) => [
      String(node.id),
      node.name,
      node.ipv4,
      node.tags.join(",") || (node.user?.login ?? "-"),
      node.expired ? "expired" : node.gateways !== undefined ? "wireguard" : node.online ? "online" : "offline",
      day(node.expires),
      node.servedRoutes.join(",") || "-",
    ]),
  );
}
