import { checkedUpdate } from "../coordination/attributes.ts";
import { compilePolicy } from "../coordination/policy/policy.ts";
import {
  type AdminArguments,
  dnsChange,
  number,
  pairs,
  profile,
  truth,
  which,
  word,
  words,
} from "./admin-arguments.ts";
import type { Server } from "./server.ts";

/** What the server's owner may ask for, by name. Arguments and answers are JSON. */
export type AdminVerb = (server: Server, args: AdminArguments, by: string) => Promise<unknown>;

export const ADMIN_VERBS: Readonly<Record<string, AdminVerb>> = {
  "users.list": async ({ coordinator }) => coordinator.users(),
  "users.create": async ({ coordinator }, args, by) =>
    coordinator.createUser({ login: word(args, "login"), ...profile(args) }, by),
  "users.set": async ({ coordinator }, args, by) => coordinator.setUser(word(args, "login"), profile(args), by),
  "users.delete": async ({ coordinator }, args, by) => coordinator.deleteUser(word(args, "login"), by),
  "keys.list": async ({ coordinator }) => {
    const logins = new Map(coordinator.users().map(({ id, login }) => [id, login]));
    return coordinator.authKeys().map((key) => ({ ...key, user: logins.get(key.userId ?? -1) }));
  },
  "keys.create": async ({ coordinator }, args, by) =>
    coordinator.createAuthKey(
      {
        ...(args["user"] === undefined ? {} : { user: word(args, "user") }),
        tags: words(args, "tags"),
        reusable: args["reusable"] === true,
        ephemeral: args["ephemeral"] === true,
        preapproved: args["preapproved"] === true,
        ...(args["expiryMs"] === undefined ? {} : { expiryMs: number(args, "expiryMs") }),
      },
      by,
    ),
  "keys.expire": async ({ coordinator }, args, by) => coordinator.expireAuthKey(word(args, "id"), by),
  "nodes.list": async ({ coordinator }) => coordinator.nodes(),
  "nodes.approve": async ({ coordinator }, args, by) =>
    args["user"] === undefined && coordinator.pendingLogin(String(args["id"])) === undefined
      ? coordinator.approveNode(which(args), by)
      : coordinator.approveRegistration(word(args, "id"), word(args, "user"), by, { isApproved: true }),
  "nodes.approval": async ({ coordinator }, args, by) => {
    if (args["isOn"] !== undefined) await coordinator.setDeviceApproval(truth(args, "isOn"), by);
    return { deviceApproval: coordinator.needsApproval() ? "on" : "off" };
  },
  "nodes.attr": async ({ coordinator }, args, by) =>
    coordinator.setAttributes(which(args), checkedUpdate(args["update"]), by),
  "nodes.waiting": async ({ coordinator }) =>
    coordinator.pendingLogins().map(({ id, nodeKey, hostinfo, created }) => ({ id, nodeKey, hostinfo, created })),
  "nodes.reject": async ({ coordinator }, args, by) => coordinator.rejectRegistration(word(args, "id"), by),
  "nodes.expire": async ({ coordinator }, args, by) => coordinator.expireNode(which(args), by),
  "nodes.delete": async ({ coordinator }, args, by) => coordinator.deleteNode(which(args), by),
  "nodes.rename": async ({ coordinator }, args, by) => coordinator.renameNode(which(args), word(args, "name"), by),
  "nodes.release": async ({ coordinator }, args, by) => ({
    isReleased: await coordinator.releaseName(word(args, "name"), by),
  }),
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
  "services.list": async ({ coordinator }) => coordinator.services(),
  "services.create": async ({ coordinator }, args, by) => coordinator.createService(word(args, "name"), by),
  "services.delete": async ({ coordinator }, args, by) => coordinator.deleteService(word(args, "name"), by),
  "services.approve": async ({ coordinator }, args, by) =>
    coordinator.approveHost(word(args, "name"), which(args), args["isApproved"] !== false, by),
  "claims.list": async ({ coordinator }) => coordinator.claims(),
  "claims.release": async ({ coordinator }, args, by) => coordinator.releaseClaim(word(args, "claim"), by),
  "dns.get": async ({ coordinator }) => coordinator.dnsSettings(),
  "dns.set": async ({ coordinator }, args, by) => coordinator.changeDns(dnsChange(args), by),
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
