import { Fault } from "../base/fault.ts";
import { mintAuthKey } from "./auth-keys.ts";
import { isResting, ownerKey } from "./certificate-names.ts";
import type { Core } from "./core.ts";
import { isRoute } from "./hostinfo.ts";
import { isLabel, isOwnName, isTag } from "./names.ts";
import { EXIT_ROUTES, isExitRoute } from "./node-view.ts";
import type { PolicyEngine } from "./policy-engine.ts";
import { type AuthKey, type Change, type NodeRecord, USER_ROLES, type User, type UserRole } from "./records.ts";
import { withAutoApproved } from "./registration.ts";

export interface NewUser {
  readonly login: string;
  /** `member` takes a role away. */
  readonly role?: string;
  readonly displayName?: string;
  readonly profilePicture?: string;
}

export interface NewAuthKey {
  /** Login or id. Absent: the key is of tagged nodes. */
  readonly user?: string | number;
  readonly tags?: readonly string[];
  readonly reusable?: boolean;
  readonly ephemeral?: boolean;
  /** Needs no approval where new devices do. */
  readonly preapproved?: boolean;
  /** From now. */
  readonly expiryMs?: number;
}

const LONGEST_TEXT = 320;

const bad = (what: string, value: string, found: string, wanted: string): Fault =>
  new Fault("COORDINATION_ARGUMENT", `Cannot ${what} "${value.slice(0, 100)}": ${found}, wanted ${wanted}`);

/** Control characters would forge headers and log lines. */
export function checkedLogin(login: string): string {
  if (login !== "" && login.length <= LONGEST_TEXT && /^[^\s\p{Cc}]+$/u.test(login)) return login;
  throw bad("create user", login, "the login is empty, too long or has spaces", "a name or an e-mail address");
}

export function createUser(core: Core, user: NewUser, by: string): Promise<User> {
  const login = checkedLogin(user.login);
  const role = roleOf(user);
  return core.exclusive(async () => {
    if (core.ledger.userByLogin(login) !== undefined) throw bad("create user", login, "it exists", "a new login");
    const { id, change } = core.nextId("nextUser");
    const shown = { displayName: user.displayName ?? login, ...picture(user) };
    const value: User = { id, login, created: core.wall, ...shown, ...role };
    await core.ledger.commit([change, { put: "user", value }, core.entry(by, "user.create", `user:${id}`, login)]);
    return value;
  });
}

const picture = ({ profilePicture }: Pick<NewUser, "profilePicture">): { profilePicture?: string } =>
  profilePicture === undefined ? {} : { profilePicture };

function roleOf({ role }: Pick<NewUser, "role">): { role?: UserRole } {
  if (role === undefined || role === "member") return {};
  const known = USER_ROLES.find((name) => name === role);
  if (known === undefined) throw bad("give the role", role, "there is none", `member, ${USER_ROLES.join(", ")}`);
  return { role: known };
}

export function setUser(
  core: Core,
  login: string | number,
  changes: Omit<NewUser, "login">,
  by: string,
): Promise<User> {
  return core.exclusive(async () => {
    const before = core.user(login);
    const { role: had, ...kept } = before;
    const role = changes.role === undefined ? (had === undefined ? {} : { role: had }) : roleOf(changes);
    const shown = { displayName: changes.displayName ?? before.displayName, ...picture(changes) };
    const value: User = { ...kept, ...shown, ...role };
    await core.ledger.commit([{ put: "user", value }, core.entry(by, "user.set", `user:${value.id}`, changes.role)]);
    core.streams.touchAll();
    return value;
  });
}

/** With the nodes and keys of that user, and of nobody else. */
export function deleteUser(core: Core, login: string | number, by: string): Promise<void> {
  return core.exclusive(async () => {
    const user = core.user(login);
    for (const node of core.ledger.nodes.values()) {
      if (node.userId === user.id) await core.delete(node, by, "node.delete");
    }
    const keys = [...core.ledger.authKeys.values()].filter(({ userId }) => userId === user.id);
    await core.ledger.commit([
      ...keys.map(({ id }): Change => ({ remove: "authKey", id })),
      { remove: "user", id: user.id },
      core.entry(by, "user.delete", `user:${user.id}`, user.login),
    ]);
    core.streams.touchAll();
  });
}

export function createAuthKey(core: Core, wanted: NewAuthKey, by: string): Promise<{ id: string; key: string }> {
  const tags = [...new Set(wanted.tags ?? [])].toSorted();
  const wrong = tags.find((tag) => !isTag(tag));
  if (wrong !== undefined) throw bad("create an auth key with tag", wrong, "it is no tag", "`tag:` and a name");
  if (wanted.user === undefined && tags.length === 0) {
    throw bad("create an auth key for", "", "neither user nor tags are given", "one of them");
  }
  if (wanted.expiryMs !== undefined && !(wanted.expiryMs > 0)) {
    throw bad("create an auth key that expires in", `${wanted.expiryMs} ms`, "that is no time to come", "more than 0");
  }
  return core.exclusive(async () => {
    const userId = wanted.user === undefined ? undefined : core.user(wanted.user).id;
    const { key, ...secret } = mintAuthKey(core.options.random);
    const value: AuthKey = {
      ...secret,
      ...(userId === undefined ? {} : { userId }),
      tags,
      reusable: wanted.reusable === true,
      ephemeral: wanted.ephemeral === true,
      ...(wanted.preapproved === true ? { preapproved: true } : {}),
      created: core.wall,
      ...(wanted.expiryMs === undefined ? {} : { expires: core.wall + wanted.expiryMs }),
      uses: 0,
    };
    await core.ledger.commit([{ put: "authKey", value }, core.entry(by, "authkey.create", `authkey:${value.id}`)]);
    return { id: value.id, key };
  });
}

export function expireAuthKey(core: Core, id: string, by: string): Promise<void> {
  return core.exclusive(async () => {
    const key = core.ledger.authKeys.get(id);
    if (key === undefined) throw bad("expire auth key", id, "there is none", "an id that `keys list` shows");
    if (key.revoked !== undefined) return;
    const value = { ...key, revoked: core.wall };
    await core.ledger.commit([{ put: "authKey", value }, core.entry(by, "authkey.expire", `authkey:${id}`)]);
  });
}

/** One change of one node by an administrator. */
function edit(
  core: Core,
  which: number | string,
  by: string,
  action: string,
  detail: string | undefined,
  reach: "members" | "topology",
  change: (node: NodeRecord) => NodeRecord,
): Promise<NodeRecord> {
  return core.exclusive(async () => {
    const after = change(core.node(which));
    await core.replace(after, core.entry(by, action, `node:${after.id}`, detail), reach);
    return after;
  });
}

export function expireNode(core: Core, which: number | string, by: string): Promise<NodeRecord> {
  return edit(core, which, by, "node.expire", undefined, "topology", (node) => ({
    ...node,
    expires: Math.min(core.wall, node.expires ?? Infinity),
  }));
}

export function deleteNode(core: Core, which: number | string, by: string): Promise<void> {
  return core.exclusive(() => core.delete(core.node(which), by, "node.delete"));
}

/** The name stays when the host name changes; `""` gives it back to the host name. */
export function renameNode(core: Core, which: number | string, name: string, by: string): Promise<NodeRecord> {
  if (name !== "" && !isLabel(name)) {
    throw bad("rename a node to", name, "it is no host name", "up to 63 lower-case letters, digits and inner dashes");
  }
  return edit(core, which, by, "node.rename", name, "members", (node) => {
    if (name === "") return { ...node, name: core.name(node.hostinfo.Hostname, node), nameFixed: false };
    const holder = core.ledger.nodeByName(name);
    if (holder !== undefined && holder.id !== node.id)
      throw bad("rename a node to", name, "another node has it", "a free name");
    if (core.name(name, node) !== name) {
      const rests = isResting(core.ledger, name, ownerKey(node), core.wall);
      const taken = isOwnName(name, core.options) ? "the server itself is called so" : "a DNS record has it";
      const found = rests ? "a certificate of its last owner may still be good" : taken;
      throw bad("rename a node to", name, found, "a free name");
    }
    return { ...node, name, nameFixed: true };
  });
}

/** Tagged nodes have no user and do not expire by themselves; without tags the node would have no owner. */
export function tagNode(core: Core, which: number | string, tags: readonly string[], by: string): Promise<NodeRecord> {
  const wrong = tags.find((tag) => !isTag(tag));
  if (wrong !== undefined) throw bad("tag a node with", wrong, "it is no tag", "`tag:` and a name");
  if (tags.length === 0)
    throw bad("tag a node with", "", "no tag is given", "at least one, for the tags are its owner");
  return edit(core, which, by, "node.tag", tags.join(" "), "topology", (node) => {
    const { userId: _user, expires, ...kept } = node;
    const isGone = expires !== undefined && expires <= core.wall;
    return { ...kept, ...(isGone ? { expires } : {}), tags: [...new Set(tags)].toSorted() };
  });
}

/** Hands a node to a user; tags go. */
export function assignNode(
  core: Core,
  which: number | string,
  login: string | number,
  by: string,
): Promise<NodeRecord> {
  const user = core.user(login);
  return edit(core, which, by, "node.assign", user.login, "topology", (node) => ({
    ...node,
    tags: [],
    userId: user.id,
  }));
}

export function setRoutes(
  core: Core,
  which: number | string,
  approved: readonly string[],
  by: string,
): Promise<NodeRecord> {
  const wrong = approved.find((route) => !isRoute(route));
  if (wrong !== undefined)
    throw bad("approve route", wrong, "it is no prefix without host bits", "such as 10.1.0.0/24");
  return edit(core, which, by, "node.routes", approved.join(" "), "topology", (node) => ({
    ...node,
    // A client takes a node for an exit only where it is one for both families.
    approvedRoutes: [...new Set(approved.some(isExitRoute) ? [...approved, ...EXIT_ROUTES] : approved)].toSorted(),
  }));
}

const POLICY = "policy";

export function setPolicy(core: Core, engine: PolicyEngine, source: string, by: string): Promise<void> {
  return core.exclusive(async () => {
    // At a start the one in the store comes into force again: nobody has done anything.
    if (policySource(core) !== source) {
      const nodes = [...core.ledger.nodes.values()];
      const approved = nodes.map((node) => withAutoApproved(core, node, engine)).filter((node, i) => node !== nodes[i]);
      await core.ledger.commit([
        { put: "setting", name: POLICY, value: source },
        ...approved.map((value): Change => ({ put: "node", value })),
        core.entry(by, "policy.set", "policy", `${source.length} characters`),
      ]);
    }
    core.views.setPolicy(engine);
    core.streams.touchAll();
  });
}

export function policySource(core: Core): string | undefined {
  return core.ledger.settings.get(POLICY);
}
