import type { ClaimView } from "../../coordination/claim-administration.ts";
import type { AuthKeyView, NodeView } from "../../coordination/coordinator.ts";
import type { LogEntry, User } from "../../coordination/records.ts";
import type { ServiceView } from "../../coordination/services.ts";
import type { Hostinfo } from "../../wire/tailcfg.ts";
import { table } from "../table.ts";
import { terminalText } from "../terminal-text.ts";

const day = (ms: number | undefined): string => (ms === undefined ? "-" : new Date(ms).toISOString().slice(0, 10));
const minute = (ms: number): string => new Date(ms).toISOString().slice(0, 16).replace("T", " ");

export function userTable(users: readonly User[]): string {
  return table(
    ["LOGIN", "NAME", "ROLE", "CREATED"],
    users.map(({ login, displayName, role = "member", created }) => [login, displayName, role, day(created)]),
  );
}

export function userLine({ login, displayName, role }: User): string {
  return `${terminalText(login)} is "${terminalText(displayName)}", ${role ?? "member"}.\n`;
}

export type OwnedKey = AuthKeyView & { readonly user?: string };

export function keyTable(keys: readonly OwnedKey[]): string {
  return table(
    ["ID", "OWNER", "KIND", "USES", "EXPIRES", "STATE"],
    keys.map((key) => [
      key.id,
      key.tags.join(",") || (key.user ?? "-"),
      kindOf(key),
      String(key.uses),
      day(key.expires),
      stateOfKey(key),
    ]),
  );
}

function kindOf({ reusable, ephemeral, preapproved }: AuthKeyView): string {
  const words = [reusable ? "reusable" : "once", ephemeral && "ephemeral", preapproved === true && "preapproved"];
  return words.filter((word) => word !== false).join(", ");
}

function stateOfKey({ revoked, expires, reusable, uses }: AuthKeyView): string {
  if (revoked !== undefined) return "revoked";
  if (expires !== undefined && expires <= Date.now()) return "expired";
  return !reusable && uses > 0 ? "used" : "good";
}

export function nodeTable(nodes: readonly NodeView[]): string {
  return table(
    ["ID", "NAME", "ADDRESS", "OWNER", "STATE", "EXPIRES", "ROUTES"],
    nodes.map((node) => [
      String(node.id),
      node.name,
      node.ipv4,
      ownerOf(node),
      stateOf(node),
      day(node.expires),
      routesOf(node),
    ]),
  );
}

export function nodeLine(node: NodeView): string {
  const owner = terminalText(ownerOf(node));
  const expiry = node.expires === undefined ? "" : `, key until ${day(node.expires)}`;
  const routes = node.servedRoutes.length === 0 ? "" : `, routes ${node.servedRoutes.join(" ")}`;
  const attributes = Object.entries(node.attributes ?? {}).map(([name, value]) => `, ${name}=${String(value)}`);
  const told = terminalText(`${routes}${attributes.join("")}`);
  return `${terminalText(node.name)} (${node.id}, ${node.ipv4}) of ${owner}: ${stateOf(node)}${expiry}${told}.\n`;
}

const ownerOf = ({ tags, user }: NodeView): string => tags.join(",") || (user?.login ?? "-");

function stateOf({ isUnapproved, expired, gateways, online }: NodeView): string {
  if (isUnapproved === true) return "needs approval";
  if (expired) return "expired";
  return gateways !== undefined ? "wireguard" : online ? "online" : "offline";
}

/** What is advertised and not approved is in brackets. */
function routesOf({ servedRoutes, advertisedRoutes }: NodeView): string {
  const waiting = advertisedRoutes.filter((route) => !servedRoutes.includes(route));
  return [...servedRoutes, ...(waiting.length === 0 ? [] : [`(${waiting.join(",")})`])].join(",") || "-";
}

export interface WaitingLogin {
  readonly id: string;
  readonly nodeKey: string;
  readonly hostinfo: Hostinfo;
  readonly created: number;
}

export function waitingTable(logins: readonly WaitingLogin[]): string {
  return table(
    ["ID", "DEVICE", "SYSTEM", "KEY ENDS IN", "SINCE"],
    logins.map(({ id, nodeKey, hostinfo, created }) => [
      id,
      hostinfo.Hostname ?? "-",
      hostinfo.OS ?? "-",
      nodeKey.slice(-16),
      minute(created),
    ]),
  );
}

export function serviceTable(services: readonly ServiceView[]): string {
  const word = (isApproved: boolean, isActive: boolean): string =>
    isApproved ? (isActive ? "" : " (away)") : " (needs approval)";
  return table(
    ["NAME", "ADDRESS", "HOSTS"],
    services.map(({ name, ipv4, hosts }) => [
      name,
      ipv4 === "" ? "not created" : ipv4,
      hosts.map(({ node, isApproved, isActive }) => `${node}${word(isApproved, isActive)}`).join(", ") || "-",
    ]),
  );
}

const CLAIM_WORDS: Readonly<Record<ClaimView["state"], string>> = {
  held: "holds it",
  taken: "waits: another node holds it",
  ungranted: "may not: the policy does not give it",
  closed: "holds it; no ingress has it to let",
  crowded: "may not: it claims too many ports",
};

export function claimTable(claims: readonly ClaimView[]): string {
  return table(
    ["CLAIM", "NODE", "STATE"],
    claims.map(({ claim, node, state, isServers, isOnline, isReleased }) => [
      claim,
      node,
      [
        isServers === true ? "may not: it is the server's own name" : CLAIM_WORDS[state],
        ...(isReleased ? ["until another asks"] : []),
        ...(isOnline ? [] : ["offline"]),
      ].join(", "),
    ]),
  );
}

export function releasedLine({ claim, node, isReleased }: ClaimView): string {
  const [what, who] = [terminalText(claim), terminalText(node)];
  return isReleased
    ? `${what} goes to the next node that asks; ${who} has it until then.\n`
    : `${who} holds ${what} now.\n`;
}

export function logTable(entries: readonly LogEntry[]): string {
  return table(
    ["AT", "BY", "ACTION", "TARGET", "DETAIL"],
    entries.map(({ at, by, action, target, detail }) => [minute(at), by, action, target, (detail ?? "").slice(0, 100)]),
  );
}
