import { Fault } from "../base/fault.ts";
import { compilePolicy } from "../coordination/policy/policy.ts";
import type { Server } from "./server.ts";

/** What the server's owner may ask for, by name. Arguments and answers are JSON. */
export type AdminVerb = (server: Server, args: Readonly<Record<string, unknown>>, by: string) => Promise<unknown>;

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
/** A node by id, name or address. */
const which = (args: Readonly<Record<string, unknown>>): number | string => {
  const value = args["node"] ?? args["id"];
  return typeof value === "number" ? value : word({ node: value }, "node");
};
const words = (args: Readonly<Record<string, unknown>>, name: string): readonly string[] =>
  Array.isArray(args[name]) ? args[name].map(String) : [];
const pairs = (args: Readonly<Record<string, unknown>>, name: string): Readonly<Record<string, string>> =>
  Object.fromEntries(Object.entries(args[name] ?? {}).map(([key, value]) => [key, String(value)]));

export const ADMIN_VERBS: Readonly<Record<string, AdminVerb>> = {
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
  "users.set": async ({ coordinator }, args, by) =>
    coordinator.setUser(
      word(args, "login"),
      {
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
  "nodes.waiting": async ({ coordinator }) =>
    coordinator.pendingLogins().map(({ id, nodeKey, hostinfo, created }) => ({ id, nodeKey, hostinfo, created })),
  "nodes.reject": async ({ coordinator }, args, by) => coordinator.rejectRegistration(word(args, "id"), by),
  "nodes.expire": async ({ coordinator }, args, by) => coordinator.expireNode(which(args), by),
  "nodes.delete": async ({ coordinator }, args, by) => coordinator.deleteNode(which(args), by),
  "nodes.rename": async ({ coordinator }, args, by) => coordinator.renameNode(which(args), word(args, "name"), by),
  "nodes.tag": async ({ coordinator }, args, by) => coordinator.tagNode(which(args), words(args, "tags"), by),
  "nodes.assign": async ({ coordinator }, args, by) => coordinator.assignNode(which(args), word(args, "user"), by),
  "nodes.routes": async ({ coordinator }, args, by) => coordinator.setRoutes(which(args), words(args, "routes"), by),
  "wireguard.list": async ({ coordinator }) =>
    coordinator.nodes().flatMap((node) => {
      if (node.gateways === undefined) return [];
      return { ...node, gatewayNames: node.gateways.map((id) => coordinator.node(id)?.name ?? String(id)) };
    }),
  "wireguard.add": async ({ coordinator }, args, by) =>
    coordinator.addWireGuardMember(
      {
        name: word(args, "name"),
        user: word(args, "user"),
        gateways: words(args, "gateways"),
        publicKey: word(args, "publicKey"),
        endpoints: pairs(args, "endpoints"),
        ...(args["expiryMs"] === undefined ? {} : { expiryMs: number(args, "expiryMs") }),
      },
      by,
    ),
  "wireguard.remove": async ({ coordinator }, args, by) => coordinator.removeWireGuardMember(which(args), by),
  "policy.get": async ({ coordinator }) => ({ source: coordinator.policySource() ?? "" }),
  "policy.check": async (server, args) => {
    compilePolicy(word(args, "source"), server.policyContext());
    return { ok: true };
  },
  "policy.set": async (server, args, by) => {
    await server.setPolicy(word(args, "source"), by);
    return { ok: true };
  },
  backup: async (server, args, by) => {
    await server.backup(word(args, "target"), by);
    return { ok: true };
  },
  log: async ({ coordinator }) => coordinator.adminLog({ limit: 100 }),
};
