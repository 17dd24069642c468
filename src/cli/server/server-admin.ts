import type { ClaimView } from "../../coordination/claim-administration.ts";
import type { NodeView } from "../../coordination/coordinator.ts";
import type { LogEntry, User } from "../../coordination/records.ts";
import type { ServiceView } from "../../coordination/services.ts";
import { readGivenFile } from "../given-file.ts";
import { CliExit, type CliIo } from "../io.ts";
import { terminalLines, terminalText } from "../terminal-text.ts";
import type { ServerClient } from "./server-client.ts";
import type { ServerValues } from "./server-flags.ts";
import {
  claimTable,
  keyTable,
  logTable,
  nodeLine,
  nodeTable,
  type OwnedKey,
  releasedLine,
  serviceTable,
  userLine,
  userTable,
  type WaitingLogin,
  waitingTable,
} from "./server-tables.ts";

/** What one command asks of the server, and how its answer is shown on a terminal; elsewhere it is JSON. */
interface AdminCall {
  readonly verb: string;
  readonly args?: Readonly<Record<string, unknown>>;
  readonly shown?: (answer: never) => string;
  /** In place of JSON everywhere. */
  readonly plain?: (answer: never) => string;
}

interface AdminCommand {
  /** What follows its name. */
  readonly usage: string;
  /** How many words do. */
  readonly words: readonly [least: number, most: number];
  readonly call: (values: ServerValues, words: readonly string[]) => AdminCall | Promise<AdminCall>;
}

const aboutNode = (verb: string, args: Readonly<Record<string, unknown>>): AdminCall => ({
  verb,
  args,
  shown: (node: NodeView) => nodeLine(node),
});
const gone = (verb: string, args: Readonly<Record<string, unknown>>, what: string | undefined): AdminCall => ({
  verb,
  args,
  shown: () => `${terminalText(what ?? "")} is gone.\n`,
});
const aboutUser = (verb: string, args: Readonly<Record<string, unknown>>): AdminCall => ({
  verb,
  args,
  shown: (user: User) => userLine(user),
});

const PROFILE = "[--name TEXT] [--picture URL] [--role ROLE]";

const COMMANDS: Readonly<Record<string, AdminCommand>> = {
  "users list": {
    usage: "",
    words: [0, 0],
    call: () => ({ verb: "users.list", shown: (users: readonly User[]) => userTable(users) }),
  },
  "users create": {
    usage: `LOGIN ${PROFILE}`,
    words: [1, 1],
    call: (values, [login]) => aboutUser("users.create", { login, ...profileOf(values) }),
  },
  "users set": {
    usage: `LOGIN ${PROFILE}`,
    words: [1, 1],
    call: (values, [login]) => aboutUser("users.set", { login, ...profileOf(values) }),
  },
  "users role": {
    usage: "LOGIN owner|admin|it-admin|network-admin|billing-admin|auditor|member",
    words: [2, 2],
    call: (_, [login, role]) => aboutUser("users.set", { login, role }),
  },
  "users delete": {
    usage: "LOGIN",
    words: [1, 1],
    call: (_, [login]) => gone("users.delete", { login }, `${login}, with devices and keys,`),
  },
  "keys list": {
    usage: "",
    words: [0, 0],
    call: () => ({ verb: "keys.list", shown: (keys: readonly OwnedKey[]) => keyTable(keys) }),
  },
  "keys create": {
    usage: "[--user LOGIN] [--tags tag:a,tag:b] [--reusable] [--ephemeral] [--preapproved] [--expiry 12h]",
    words: [0, 0],
    call: (values) => ({
      verb: "keys.create",
      args: keyArguments(values),
      plain: ({ key }: { key: string }) => `${key}\n`,
    }),
  },
  "keys expire": {
    usage: "ID",
    words: [1, 1],
    call: (_, [id]) => ({ verb: "keys.expire", args: { id }, shown: () => "The key lets nobody in any more.\n" }),
  },
  "nodes list": {
    usage: "",
    words: [0, 0],
    call: () => ({ verb: "nodes.list", shown: (nodes: readonly NodeView[]) => nodeTable(nodes) }),
  },
  "nodes waiting": {
    usage: "",
    words: [0, 0],
    call: () => ({ verb: "nodes.waiting", shown: (logins: readonly WaitingLogin[]) => waitingTable(logins) }),
  },
  "nodes approve": {
    usage: "ID --user LOGIN (who waits at the login page), or NODE (who needs approval)",
    words: [1, 1],
    call: ({ user }, [id]) => aboutNode("nodes.approve", { id, user }),
  },
  "nodes approval": {
    usage: "[on|off]",
    words: [0, 1],
    call: (_, [word]) => ({
      verb: "nodes.approval",
      args: word === undefined ? {} : { isOn: isOn(word) },
      shown: ({ deviceApproval }: { deviceApproval: string }) =>
        deviceApproval === "on" ? "New devices need an approval.\n" : "New devices need no approval.\n",
    }),
  },
  "nodes attr": {
    usage: "NODE custom:NAME=VALUE … (no value takes it away)",
    words: [2, 64],
    call: (_, [node, ...pairs]) => aboutNode("nodes.attr", { node, update: attributesOf(pairs) }),
  },
  "nodes reject": { usage: "ID", words: [1, 1], call: (_, [id]) => gone("nodes.reject", { id }, "The login") },
  "nodes expire": { usage: "NODE", words: [1, 1], call: (_, [node]) => aboutNode("nodes.expire", { node }) },
  "nodes delete": { usage: "NODE", words: [1, 1], call: (_, [node]) => gone("nodes.delete", { node }, node) },
  "nodes rename": {
    usage: "NODE NAME",
    words: [2, 2],
    call: (_, [node, name]) => aboutNode("nodes.rename", { node, name }),
  },
  "nodes release": {
    usage: "NAME",
    words: [1, 1],
    call: (_, [name]) => ({
      verb: "nodes.release",
      args: { name },
      shown: ({ isReleased }: { readonly isReleased: boolean }) =>
        isReleased
          ? `Anybody may have ${terminalText(name ?? "")} now.\n`
          : `${terminalText(name ?? "")} does not rest.\n`,
    }),
  },
  "nodes tag": {
    usage: "NODE tag:a,tag:b",
    words: [2, 2],
    call: (_, [node, tags]) => aboutNode("nodes.tag", { node, tags: list(tags) }),
  },
  "nodes assign": {
    usage: "NODE --user LOGIN",
    words: [1, 1],
    call: ({ user }, [node]) => aboutNode("nodes.assign", { node, user }),
  },
  "nodes routes": {
    usage: "NODE 10.1.0.0/24,0.0.0.0/0|none",
    words: [2, 2],
    call: (_, [node, routes]) => aboutNode("nodes.routes", { node, routes: routes === "none" ? [] : list(routes) }),
  },
  "services list": {
    usage: "",
    words: [0, 0],
    call: () => ({ verb: "services.list", shown: (services: readonly ServiceView[]) => serviceTable(services) }),
  },
  "services create": {
    usage: "svc:NAME",
    words: [1, 1],
    call: (_, [name]) => ({
      verb: "services.create",
      args: { name },
      shown: ({ ipv4, ipv6 }: ServiceView) => `${terminalText(name!)} has the addresses ${ipv4} and ${ipv6}.\n`,
    }),
  },
  "services delete": {
    usage: "svc:NAME",
    words: [1, 1],
    call: (_, [name]) => gone("services.delete", { name }, name),
  },
  "services approve": {
    usage: "svc:NAME NODE",
    words: [2, 2],
    call: (_, [name, node]) => aboutNode("services.approve", { name, node }),
  },
  "services revoke": {
    usage: "svc:NAME NODE",
    words: [2, 2],
    call: (_, [name, node]) => aboutNode("services.approve", { name, node, isApproved: false }),
  },
  "claims list": {
    usage: "",
    words: [0, 0],
    call: () => ({ verb: "claims.list", shown: (claims: readonly ClaimView[]) => claimTable(claims) }),
  },
  "claims release": {
    usage: "DOMAIN|PORT",
    words: [1, 1],
    call: (_, [claim]) => ({
      verb: "claims.release",
      args: { claim },
      shown: (view: ClaimView) => releasedLine(view),
    }),
  },
  "policy get": {
    usage: "",
    words: [0, 0],
    call: () => ({ verb: "policy.get", plain: ({ source }: { source: string }) => source }),
  },
  "policy check": {
    usage: "FILE",
    words: [1, 1],
    call: (_, [file]) => withSource("policy.check", file!, "The policy is sound.\n"),
  },
  "policy set": {
    usage: "FILE",
    words: [1, 1],
    call: (_, [file]) => withSource("policy.set", file!, "The policy is in force.\n"),
  },
  log: {
    usage: "",
    words: [0, 0],
    call: () => ({ verb: "log", shown: (entries: readonly LogEntry[]) => logTable(entries) }),
  },
};

const REFUSALS: Readonly<Record<string, string>> = {
  "nodes share":
    "Cannot share a node with another network: this server is one network and knows no other.\n" +
    "Make the person a user of this one, and let the policy say what that user may reach.",
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
  const rest = words.slice(length);
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined) return refuse(name, words[0] ?? "");
  const [least, most] = command.words;
  if (rest.length < least || rest.length > most) throw new CliExit(`Wanted: ${usageOf(name, command)}`, 2);
  const { verb, args, plain, shown } = await command.call(values, rest);
  const answer = await client.ask<never>(verb, args);
  if (plain !== undefined && values.json !== true) io.stdout(plain(answer));
  else if (shown !== undefined && io.isTerminal && values.json !== true) io.stdout(shown(answer));
  else io.stdout(`${terminalLines(JSON.stringify(answer, undefined, 2))}\n`);
  return 0;
}

const usageOf = (name: string, { usage }: AdminCommand): string => `sallyport server ${name} ${usage}`.trimEnd();

/** Says what there is instead, where the area is one. */
function refuse(name: string, area: string): undefined {
  if (Object.hasOwn(REFUSALS, name)) throw new CliExit(REFUSALS[name]!);
  const near = Object.entries(COMMANDS).filter(([known]) => known.startsWith(`${area} `));
  if (near.length === 0) return undefined;
  const lines = near.map(([known, command]) => `  ${usageOf(known, command)}`);
  throw new CliExit(`There is no \`sallyport server ${terminalText(name)}\`. There are:\n${lines.join("\n")}`, 2);
}

/** `90m`, `12h`, `180d`. */
export function lifetime(text: string): number {
  const [, amount, unit] = /^([1-9]\d{0,6})([mhd])$/.exec(text) ?? [];
  const minutes = { m: 1, h: 60, d: 1440 }[unit ?? ""];
  if (minutes === undefined) throw new CliExit(`Cannot use --expiry "${text}": wanted such as 90m, 12h or 180d`, 2);
  return Number(amount) * minutes * 60_000;
}

const list = (text: string | undefined): readonly string[] => text?.split(",").filter((word) => word !== "") ?? [];

function keyArguments({
  user,
  tags,
  reusable,
  ephemeral,
  preapproved,
  expiry,
}: ServerValues): Readonly<Record<string, unknown>> {
  if (user === undefined && list(tags).length === 0) {
    throw new CliExit("Cannot create a key of nobody: wanted --user LOGIN, or --tags tag:a,tag:b", 2);
  }
  return {
    ...(user === undefined ? {} : { user }),
    tags: list(tags),
    reusable: reusable === true,
    ephemeral: ephemeral === true,
    preapproved: preapproved === true,
    ...(expiry === undefined ? {} : { expiryMs: lifetime(expiry) }),
  };
}

function profileOf({ name, picture, role }: ServerValues): Readonly<Record<string, string>> {
  const given = { displayName: name, profilePicture: picture, role };
  return Object.fromEntries(Object.entries(given).filter((entry): entry is [string, string] => entry[1] !== undefined));
}

export function isOn(text: string): boolean {
  if (text === "on" || text === "off") return text === "on";
  throw new CliExit(`Cannot set this to "${text}": wanted on or off`, 2);
}

/** `custom:tier=prod`; numbers and truth values as such, `"2"` in quotes is text, and nothing takes the attribute away. */
function attributesOf(pairs: readonly string[]): Readonly<Record<string, string | number | boolean | null>> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf("=");
      if (at < 1) throw new CliExit(`Cannot set attribute "${pair}": wanted NAME=VALUE`, 2);
      return [pair.slice(0, at), attributeValue(pair.slice(at + 1))];
    }),
  );
}

function attributeValue(text: string): string | number | boolean | null {
  if (text === "") return null;
  if (text === "true" || text === "false") return text === "true";
  if (/^-?\d{1,15}(\.\d{1,6})?$/.test(text)) return Number(text);
  return /^".*"$/.test(text) ? text.slice(1, -1) : text;
}

async function withSource(verb: string, file: string, done: string): Promise<AdminCall> {
  const source = await readGivenFile(file, "a policy file");
  return { verb, args: { source }, shown: () => done };
}
