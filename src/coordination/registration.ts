import { Fault } from "../base/fault.ts";
import type { RegisterRequest, RegisterResponse } from "../wire/tailcfg.ts";
import { authKeyId, matchesAuthKey, refusalOf } from "./auth-keys.ts";
import { ownerKey } from "./certificate-names.ts";
import { type Core, NODE_KEY_EXPIRY_MS } from "./core.ts";
import { needsApproval } from "./device-approval.ts";
import { checkedHostinfo, checkedKey, checkedTime, mergedHostinfo } from "./hostinfo.ts";
import { isTag } from "./names.ts";
import { ownerOf, policyNode, profileOf, rfc3339, rolesOf } from "./node-view.ts";
import { type Applicant, type PendingLogin, PendingLogins } from "./pending-logins.ts";
import type { PolicyEngine } from "./policy-engine.ts";
import type { AuthKey, Change, NodeRecord, User } from "./records.ts";
import { withAutoApprovedServices } from "./services.ts";

/** Everything below lacks named filters, `HomeDERP` or AllowedIPs that may be absent (control-protocol §4.7). */
export const LEAST_VERSION = 113;

/** Who lets a node in, as what. */
interface Admission {
  readonly userId: number | undefined;
  readonly tags: readonly string[];
  readonly ephemeral: boolean;
  readonly authKey?: AuthKey;
  /** Whoever runs the network has seen this very device, or minted a key that says so. */
  readonly isApproved: boolean;
  readonly by: string;
}

const NOBODY: RegisterResponse = {
  User: { ID: 0, DisplayName: "" },
  Login: { ID: 0, Provider: "", LoginName: "", DisplayName: "" },
  NodeKeyExpired: false,
  MachineAuthorized: false,
  AuthURL: "",
  NodeKeySignature: null,
  Error: "",
};
const refused = (error: string): RegisterResponse => ({ ...NOBODY, Error: error });

export function assertVersion(version: unknown): void {
  if (typeof version === "number" && version >= LEAST_VERSION) return;
  throw new Fault(
    "COORDINATION_VERSION",
    `Cannot serve capability version "${typeof version === "number" ? version : typeof version}": it is too old, wanted ${LEAST_VERSION} or newer`,
    { hint: "Update the client to 1.80 or newer." },
  );
}

export function assertOwner(node: NodeRecord, machineKey: string): void {
  if (node.machineKey === machineKey) return;
  throw new Fault(
    "COORDINATION_KEY_FOREIGN",
    `Cannot serve node key "${node.nodeKey}": it belongs to another machine, wanted the one that registered it`,
  );
}

/** Logins and log-outs: flows A to G of control-protocol §3.3. */
export class Registration {
  readonly #core: Core;
  readonly pending: PendingLogins;
  readonly counters: { admitted: number; refused: number } = { admitted: 0, refused: 0 };

  constructor(core: Core) {
    this.#core = core;
    this.pending = new PendingLogins(core.options.random);
  }

  async register(machineKey: string, request: RegisterRequest, signal: AbortSignal): Promise<RegisterResponse> {
    const answer = await this.#answer(machineKey, request, signal);
    if (answer.Error !== "") this.counters.refused++;
    else if (answer.MachineAuthorized) this.counters.admitted++;
    return answer;
  }

  async #answer(machineKey: string, request: RegisterRequest, signal: AbortSignal): Promise<RegisterResponse> {
    assertVersion(request.Version);
    const nodeKey = checkedKey("nodekey", request.NodeKey);
    if (nodeKey === undefined) {
      throw new Fault(
        "COORDINATION_REQUEST",
        "Cannot register: the request has no node key, wanted `nodekey:` and 64 hex digits",
      );
    }
    const { ledger, wall } = this.#core;
    const known = ledger.nodeByKey(nodeKey);
    if (known !== undefined) assertOwner(known, machineKey);
    // First of all: a logout carries the auth key of its process.
    const expires = checkedTime(request.Expiry);
    if (expires !== undefined && expires <= wall) return this.#logout(nodeKey);

    const authKey = typeof request.Auth?.AuthKey === "string" ? request.Auth.AuthKey : "";
    if (known !== undefined && !this.#core.isExpired(known)) return this.#refresh(known, expires, request);
    if (known !== undefined && authKey === "" && !request.Followup) {
      return { ...NOBODY, NodeKeyExpired: true };
    }

    const applicant: Applicant = {
      machineKey,
      nodeKey,
      oldNodeKey: checkedKey("nodekey", request.OldNodeKey),
      hostinfo: checkedHostinfo(request.Hostinfo) ?? {},
      capability: request.Version,
      expires,
      ephemeral: request.Ephemeral === true,
    };
    if (typeof request.Followup === "string" && request.Followup !== "") {
      return this.#followUp(applicant, request.Followup, signal);
    }
    if (authKey !== "") return this.#byAuthKey(applicant, authKey);
    return this.#askPerson(applicant);
  }

  /** A person with the right to do so lets a waiting login in. */
  async approve(id: string, login: string | number, by: string, isApproved: boolean): Promise<NodeRecord> {
    const user = this.#core.user(login);
    const { hostinfo } = this.#waiting(id);
    const tags = [...new Set(hostinfo.RequestTags ?? [])].toSorted();
    const denied = this.#deniedTags(tags, user);
    if (denied.length > 0) {
      const error = tagError(denied);
      this.pending.settle(id, error);
      throw new Fault(
        "COORDINATION_TAG_DENIED",
        `Cannot approve login "${id}": ${error}, wanted tags that ${user.login} owns`,
      );
    }
    return this.#core.exclusive(async () => {
      // Looked up again: another approval may have come first.
      const pending = this.#waiting(id);
      const { ephemeral } = pending;
      const node = await this.#admit(pending, { userId: user.id, tags, ephemeral, isApproved, by });
      this.pending.settle(id);
      return node;
    });
  }

  reject(id: string): void {
    this.#waiting(id);
    this.pending.settle(id, "registration denied");
  }

  #waiting(id: string): PendingLogin {
    const pending = this.pending.find(id, this.#core.wall);
    if (pending !== undefined) return pending;
    throw new Fault(
      "COORDINATION_LOGIN_UNKNOWN",
      `Cannot find login "${id}": it is over or never was, wanted one that waits`,
      {
        hint: "Start the login on the device again; it is good for 15 minutes.",
      },
    );
  }

  #logout(nodeKey: string): Promise<RegisterResponse> {
    const core = this.#core;
    return core.exclusive(async () => {
      const node = core.ledger.nodeByKey(nodeKey);
      if (node === undefined) return { ...NOBODY, NodeKeyExpired: true };
      const answer = { ...this.#admitted(node), NodeKeyExpired: true };
      if (node.ephemeral) await core.delete(node, `node:${node.id}`, "node.logout");
      else {
        const entry = core.entry(`node:${node.id}`, "node.logout", `node:${node.id}`, node.name);
        await core.replace({ ...node, expires: Math.min(core.wall, node.expires ?? Infinity) }, entry, "members");
      }
      return answer;
    });
  }

  /** Flow A. The node may shorten its own life, never prolong it. */
  #refresh(known: NodeRecord, expires: number | undefined, request: RegisterRequest): Promise<RegisterResponse> {
    const core = this.#core;
    return core.exclusive(async () => {
      const node = core.ledger.nodes.get(known.id);
      if (node === undefined || node.nodeKey !== known.nodeKey) return refused("node was removed");
      if (expires !== undefined && expires > (node.expires ?? Infinity)) return refused("extending key is not allowed");
      const capability = request.Version;
      if (expires !== undefined && expires !== node.expires) {
        const entry = core.entry(`node:${node.id}`, "node.shorten", `node:${node.id}`, rfc3339(expires));
        await core.replace({ ...node, expires, capability }, entry, "members");
      }
      return this.#admitted(node);
    });
  }

  async #followUp(applicant: Applicant, url: string, signal: AbortSignal): Promise<RegisterResponse> {
    const id = url.slice(0, 1024).split("/").at(-1) ?? "";
    this.pending.prune(this.#core.wall);
    const outcome = await this.pending.wait(id, applicant.machineKey, applicant.nodeKey, signal);
    if (outcome === "unknown") return this.#askPerson(applicant);
    if (outcome === "aborted") return refused("registration timed out");
    if (outcome !== "settled") return refused(outcome.error);
    const node = this.#core.ledger.nodeByKey(applicant.nodeKey);
    if (node === undefined || node.machineKey !== applicant.machineKey) return refused("node was removed");
    return this.#core.isExpired(node) ? { ...NOBODY, NodeKeyExpired: true } : this.#admitted(node);
  }

  #askPerson(applicant: Applicant): RegisterResponse {
    const { id } = this.pending.begin(applicant, this.#core.wall);
    return { ...NOBODY, AuthURL: `${this.#core.options.serverUrl.replace(/\/+$/, "")}/register/${id}` };
  }

  async #byAuthKey(applicant: Applicant, text: string): Promise<RegisterResponse> {
    const core = this.#core;
    const id = authKeyId(text);
    return core.exclusive(async () => {
      const { ledger, wall } = core;
      const key = id === undefined ? undefined : ledger.authKeys.get(id);
      if (key === undefined || !matchesAuthKey(key, text)) return refused("invalid pre auth key");
      // The answer to the first use may have been lost: the node that the key let in is let in, and nothing is used.
      const known = ledger.nodeByKey(applicant.nodeKey);
      if (known?.machineKey === applicant.machineKey && !core.isExpired(known)) return this.#admitted(known);
      const refusal = refusalOf(key, wall);
      if (refusal !== undefined) return refused(refusal);
      const requested = [...new Set(applicant.hostinfo.RequestTags ?? [])];
      const owner = key.userId === undefined ? undefined : ledger.users.get(key.userId);
      const denied = this.#deniedTags(
        requested.filter((tag) => !key.tags.includes(tag)),
        owner,
      );
      if (denied.length > 0) return refused(tagError(denied));
      const admission: Admission = {
        userId: key.userId,
        tags: [...new Set([...key.tags, ...requested])].toSorted(),
        ephemeral: key.ephemeral || applicant.ephemeral,
        authKey: key,
        isApproved: key.preapproved === true,
        by: `authkey:${key.id}`,
      };
      try {
        return this.#admitted(await this.#admit(applicant, admission));
      } catch (thrown) {
        // Reasons that the person at the client should read; all others are ours.
        if (!(thrown instanceof Fault)) throw thrown;
        if (thrown.code === "COORDINATION_KEY_USED") return refused("authkey already used");
        if (thrown.code === "COORDINATION_ADDRESSES_EXHAUSTED") return refused("no address is free");
        throw thrown;
      }
    });
  }

  #deniedTags(tags: readonly string[], user: User | undefined): readonly string[] {
    const { policy } = this.#core.views;
    return tags.filter((tag) => !isTag(tag) || user === undefined || !policy.mayTag(user.login, tag, rolesOf(user)));
  }

  /** Only inside `exclusive`. */
  async #admit(applicant: Applicant, admission: Admission): Promise<NodeRecord> {
    const core = this.#core;
    const { ledger, wall } = core;
    const { userId, tags, ephemeral, authKey, isApproved, by } = admission;
    const before = this.#identityOf(applicant, admission);
    const life = core.options.nodeKeyExpiryMs ?? NODE_KEY_EXPIRY_MS;
    const expires = tags.length > 0 ? applicant.expires : Math.min(wall + life, applicant.expires ?? Infinity);
    const hostinfo = before === undefined ? applicant.hostinfo : mergedHostinfo(before.hostinfo, applicant.hostinfo);
    const common = {
      machineKey: applicant.machineKey,
      nodeKey: applicant.nodeKey,
      ...(tags.length > 0 || userId === undefined ? {} : { userId }),
      tags,
      hostinfo,
      capability: applicant.capability,
      ephemeral,
      ...(expires === undefined || expires === Infinity ? {} : { expires }),
      ...(authKey === undefined ? {} : { authKeyId: authKey.id }),
    };
    const changes: Change[] = authKey === undefined ? [] : [{ use: "authKey", id: authKey.id, at: wall }];
    let node: NodeRecord;
    if (before === undefined) {
      const { id, change } = core.nextId("nextNode");
      const user = userId === undefined || tags.length > 0 ? undefined : ledger.users.get(userId)?.login;
      const roles = user === undefined ? [] : rolesOf(ledger.users.get(userId!));
      const pools = core.views.policy.poolsFor({ id, user, roles, tags, addresses: [], routes: [] });
      const { ipv4, ipv6, changes: poolChanges } = core.addresses(pools);
      const name = core.name(hostinfo.Hostname, undefined, ownerKey(common));
      node = {
        ...common,
        id,
        name,
        nameFixed: false,
        ipv4,
        ipv6,
        created: wall,
        lastSeen: wall,
        endpoints: [],
        homeDerp: 0,
        approvedRoutes: [],
        ...(!isApproved && needsApproval(core.ledger) ? { isUnapproved: true } : {}),
      };
      changes.push(change, ...poolChanges);
    } else {
      const { userId: _user, expires: _expires, authKeyId: _key, discoKey: _disco, isUnapproved, ...kept } = before;
      const approval = isUnapproved === true && !isApproved ? { isUnapproved } : {};
      node = {
        ...kept,
        ...common,
        ...approval,
        name: before.nameFixed ? before.name : core.name(hostinfo.Hostname, before),
      };
      if (before.nodeKey === node.nodeKey && before.discoKey !== undefined)
        node = { ...node, discoKey: before.discoKey };
    }
    // A key belongs to one node: another one of the same machine gives it up.
    const holder = ledger.nodeByKey(node.nodeKey);
    if (holder !== undefined && holder.id !== node.id) changes.push(...core.deletion(holder));
    node = withAutoApproved(core, node);
    const action = before === undefined ? "node.join" : "node.login";
    changes.push({ put: "node", value: node }, core.entry(by, action, `node:${node.id}`, node.name));
    await ledger.commit(changes);
    // The stream of a retired key would go on under a name that is no longer its own.
    if (before !== undefined && before.nodeKey !== node.nodeKey) {
      core.retire(before.nodeKey);
      core.streams.end(node.id);
    }
    core.arrived(node);
    return node;
  }

  /** The node that this login renews; undefined: it is a new one. Never one of another machine or another user. */
  #identityOf({ machineKey, nodeKey, oldNodeKey }: Applicant, { userId, tags }: Admission): NodeRecord | undefined {
    const { ledger } = this.#core;
    const owner = tags.length > 0 ? undefined : userId;
    const candidates = [nodeKey, oldNodeKey].map((key) => (key === undefined ? undefined : ledger.nodeByKey(key)));
    const named = candidates.find((node) => node !== undefined && node.machineKey === machineKey);
    if (named !== undefined && (named.userId === owner || named.userId === undefined || owner === undefined))
      return named;
    for (const node of ledger.nodes.values()) {
      if (node.machineKey === machineKey && node.userId === owner && node.gateways === undefined) {
        // Tagged nodes share no owner that could tell two of one machine apart: the tags must agree.
        if (owner !== undefined || String(node.tags) === String(tags)) return node;
      }
    }
    return undefined;
  }

  #admitted(node: NodeRecord): RegisterResponse {
    const { users } = this.#core.ledger;
    const profile = profileOf(ownerOf(node), users);
    const user = users.get(ownerOf(node));
    const shown = {
      ID: ownerOf(node),
      DisplayName: profile?.DisplayName ?? "",
      ...(profile?.ProfilePicURL === undefined ? {} : { ProfilePicURL: profile.ProfilePicURL }),
    };
    return {
      ...NOBODY,
      User: user === undefined ? shown : { ...shown, Created: rfc3339(user.created) },
      Login: { ...shown, Provider: "", LoginName: profile?.LoginName ?? "" },
      MachineAuthorized: node.isUnapproved !== true,
    };
  }
}

function tagError(tags: readonly string[]): string {
  return `requested tags [${tags.join(" ").slice(0, 150)}] are invalid or not permitted`;
}

/** Adds the advertised routes and hosted services that the policy approves by itself. */
export function withAutoApproved(core: Core, node: NodeRecord, policy: PolicyEngine = core.views.policy): NodeRecord {
  return withAutoApprovedServices(core, withAutoApprovedRoutes(core, node, policy), policy);
}

function withAutoApprovedRoutes(core: Core, node: NodeRecord, policy: PolicyEngine): NodeRecord {
  const approved = new Set(node.approvedRoutes);
  const asked = (node.hostinfo.RoutableIPs ?? []).filter((route) => !approved.has(route));
  if (asked.length === 0) return node;
  const subject = policyNode(node, core.ledger.users);
  const added = asked.filter((route) => policy.autoApproves(subject, route));
  return added.length === 0 ? node : { ...node, approvedRoutes: [...node.approvedRoutes, ...added].toSorted() };
}
