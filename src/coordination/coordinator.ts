import type { MapRequest, RegisterRequest, RegisterResponse } from "../wire/tailcfg.ts";
import type { NewAuthKey, NewUser } from "./administration.ts";
import * as administration from "./administration.ts";
import { type AttributeUpdate, setAttributes } from "./attributes.ts";
import { isCertificateName, releaseName } from "./certificate-names.ts";
import { type ClaimView, listClaims, releaseClaim } from "./claim-administration.ts";
import type { ControlHandler, MapSink } from "./control-handler.ts";
import { type CoordinatorOptions, Core } from "./core.ts";
import { approveNode, needsApproval, setDeviceApproval } from "./device-approval.ts";
import { changeDns, type DnsChange, type DnsSettings, dnsSettingsOf } from "./dns-settings.ts";
import { answerMap } from "./map-requests.ts";
import { nameOf, servedRoutes } from "./node-view.ts";
import { answerOther } from "./other-requests.ts";
import type { PendingLogin } from "./pending-logins.ts";
import type { PolicyEngine, PolicyNode } from "./policy-engine.ts";
import type { NamePlace } from "./public-name-set.ts";
import type { AuthKey, NodeRecord, User } from "./records.ts";
import { Registration } from "./registration.ts";
import { relayAddresses } from "./relay-places.ts";
import { approveHost, createService, deleteService, listServices, type Service, type ServiceView } from "./services.ts";
import { type SignIn, signIn } from "./sign-in.ts";
import type { LogQuery, StoredLogEntry } from "./store/coordination-store.ts";
import type { WireGuardMember, WireGuardMemberRequest } from "./wireguard-members.ts";
import * as wireGuard from "./wireguard-members.ts";

export type { CoordinatorOptions } from "./core.ts";

/** A node as administrators see it. */
export interface NodeView extends NodeRecord {
  readonly fqdn: string;
  readonly user: User | undefined;
  readonly online: boolean;
  readonly expired: boolean;
  readonly advertisedRoutes: readonly string[];
  readonly servedRoutes: readonly string[];
}

/** An auth key without what could be used to guess at it. */
export type AuthKeyView = Omit<AuthKey, "salt" | "hash">;

/** The coordination server without its listeners: who is in the network, and what each one knows of it. */
export class Coordinator implements ControlHandler {
  readonly #core: Core;
  readonly #registration: Registration;

  private constructor(core: Core) {
    this.#core = core;
    this.#registration = new Registration(core);
  }

  static async open(options: CoordinatorOptions): Promise<Coordinator> {
    return new Coordinator(await Core.open(options));
  }

  register(machineKey: string, request: RegisterRequest, signal: AbortSignal): Promise<RegisterResponse> {
    return this.#registration.register(machineKey, request, signal);
  }

  map(machineKey: string, request: MapRequest, out: MapSink): Promise<void> {
    return answerMap(this.#core, machineKey, request, out);
  }

  other(machineKey: string, method: string, path: string, body: unknown): Promise<{ status: number; body?: unknown }> {
    return answerOther(this.#core, machineKey, method, path, body);
  }

  /** `by` is the login of who asks, for the log. */
  async createUser(user: NewUser, by: string): Promise<User> {
    return administration.createUser(this.#core, user, by);
  }

  /** @throws {Fault} COORDINATION_SIGN_IN */
  async signIn(who: SignIn, mayJoin: (mail: string) => boolean): Promise<User> {
    return signIn(this.#core, who, mayJoin);
  }

  /** This node relays Funnel's visitors, whatever the policy says: it is the server's own. */
  appointRelay(nodeKey: string): void {
    if (this.#core.views.appointedRelay === nodeKey) return;
    this.#core.views.appointedRelay = nodeKey;
    this.#core.streams.touchAll();
  }

  /** Where is this name among those that visitors from the Internet may ask for? */
  publicPlace(name: string): NamePlace | undefined {
    return this.#core.views.ingresses().publicNames.at(name);
  }

  /** Addresses of Funnel's relays that are here and take visitors, as far as they know them themselves. */
  relayAddresses(): readonly string[] {
    return relayAddresses(this.#core);
  }

  users(): readonly User[] {
    return [...this.#core.ledger.users.values()];
  }

  async setUser(login: string | number, changes: Omit<NewUser, "login">, by: string): Promise<User> {
    return administration.setUser(this.#core, login, changes, by);
  }

  async deleteUser(login: string | number, by: string): Promise<void> {
    return administration.deleteUser(this.#core, login, by);
  }

  /** `key` is shown here and never again. */
  async createAuthKey(wanted: NewAuthKey, by: string): Promise<{ id: string; key: string }> {
    return administration.createAuthKey(this.#core, wanted, by);
  }

  authKeys(): readonly AuthKeyView[] {
    return [...this.#core.ledger.authKeys.values()].map(({ salt: _salt, hash: _hash, ...view }) => view);
  }

  async expireAuthKey(id: string, by: string): Promise<void> {
    return administration.expireAuthKey(this.#core, id, by);
  }

  nodes(): readonly NodeView[] {
    return [...this.#core.ledger.nodes.values()].map((node) => this.#view(node));
  }

  node(id: number): NodeView | undefined {
    const node = this.#core.ledger.nodes.get(id);
    return node === undefined ? undefined : this.#view(node);
  }

  /** Logins that wait at `/register/<id>`. */
  pendingLogins(): readonly PendingLogin[] {
    return this.#registration.pending.list(this.#core.wall);
  }

  pendingLogin(id: string): PendingLogin | undefined {
    return this.#registration.pending.find(id, this.#core.wall);
  }

  /** `isApproved`: whoever runs the network says so, and not a person who signs in. */
  async approveRegistration(
    id: string,
    user: string | number,
    by: string,
    { isApproved = false }: { readonly isApproved?: boolean } = {},
  ): Promise<NodeView> {
    return this.#view(await this.#registration.approve(id, user, by, isApproved));
  }

  /** Lets in a device that waits for it. */
  async approveNode(id: number | string, by: string): Promise<NodeView> {
    return this.#view(await approveNode(this.#core, id, by));
  }

  needsApproval(): boolean {
    return needsApproval(this.#core.ledger);
  }

  async setDeviceApproval(isOn: boolean, by: string): Promise<void> {
    return setDeviceApproval(this.#core, isOn, by);
  }

  /** @throws {Fault} COORDINATION_ATTRIBUTE */
  async setAttributes(id: number | string, update: AttributeUpdate, by: string): Promise<NodeView> {
    return this.#view(await setAttributes(this.#core, id, update, by));
  }

  async rejectRegistration(id: string, by: string): Promise<void> {
    const core = this.#core;
    this.#registration.reject(id);
    await core.exclusive(() => core.ledger.commit([core.entry(by, "login.reject", `login:${id.slice(0, 8)}`)]));
  }

  async expireNode(id: number | string, by: string): Promise<NodeView> {
    return this.#view(await administration.expireNode(this.#core, id, by));
  }

  async deleteNode(id: number | string, by: string): Promise<void> {
    return administration.deleteNode(this.#core, id, by);
  }

  async renameNode(id: number | string, name: string, by: string): Promise<NodeView> {
    return this.#view(await administration.renameNode(this.#core, id, name, by));
  }

  async tagNode(id: number | string, tags: readonly string[], by: string): Promise<NodeView> {
    return this.#view(await administration.tagNode(this.#core, id, tags, by));
  }

  async assignNode(id: number | string, user: string | number, by: string): Promise<NodeView> {
    return this.#view(await administration.assignNode(this.#core, id, user, by));
  }

  async setRoutes(id: number | string, approved: readonly string[], by: string): Promise<NodeView> {
    return this.#view(await administration.setRoutes(this.#core, id, approved, by));
  }

  /** The caller has parsed and tested `source`; a source that does not compile never comes here. */
  async setPolicy(engine: PolicyEngine, source: string, by: string): Promise<void> {
    return administration.setPolicy(this.#core, engine, source, by);
  }

  policySource(): string | undefined {
    return administration.policySource(this.#core);
  }

  /** What a policy under test would be tested against. */
  policyNodes(): readonly PolicyNode[] {
    return [...this.#core.views.policyNodes().values()];
  }

  /** Each with who hosts it, or would if somebody approved. */
  services(): readonly ServiceView[] {
    return listServices(this.#core);
  }

  /** @throws {Fault} COORDINATION_SERVICE */
  async createService(name: string, by: string): Promise<Service> {
    return createService(this.#core, name, by);
  }

  async deleteService(name: string, by: string): Promise<void> {
    return deleteService(this.#core, name, by);
  }

  /** May the node host it? Also before it says that it does. */
  async approveHost(name: string, node: number | string, isApproved: boolean, by: string): Promise<NodeView> {
    return this.#view(await approveHost(this.#core, name, node, isApproved, by));
  }

  /** Own domains and raw ports that nodes ask for. */
  claims(): readonly ClaimView[] {
    return listClaims(this.#core);
  }

  /** @throws {Fault} COORDINATION_CLAIM */
  async releaseClaim(claim: string, by: string): Promise<ClaimView> {
    return releaseClaim(this.#core, claim, by);
  }

  dnsSettings(): DnsSettings {
    return dnsSettingsOf(this.#core.ledger);
  }

  /** @throws {Fault} COORDINATION_DNS */
  async changeDns(change: DnsChange, by: string): Promise<DnsSettings> {
    return changeDns(this.#core, change, by);
  }

  async addWireGuardMember(request: WireGuardMemberRequest, by: string): Promise<WireGuardMember> {
    return wireGuard.addWireGuardMember(this.#core, request, by);
  }

  async removeWireGuardMember(id: number | string, by: string): Promise<void> {
    return wireGuard.removeWireGuardMember(this.#core, id, by);
  }

  /** The DERP map changed: every stream gets it. */
  derpMapChanged(): void {
    this.#core.streams.touchAll();
  }

  /** Who did what, newest first. */
  adminLog(query: LogQuery = { limit: 100 }): Promise<readonly StoredLogEntry[]> {
    return this.#core.options.store.log(query);
  }

  /** Since the start. */
  get counters(): Readonly<Record<"admitted" | "refused" | "fullMaps" | "deltas" | "tooSlow", number>> {
    return { ...this.#registration.counters, ...this.#core.streams.counters };
  }

  /** Notes what was done outside of the coordinator. */
  async record(action: string, target: string, by: string): Promise<void> {
    const core = this.#core;
    await core.exclusive(() => core.ledger.commit([core.entry(by, action, target)]));
  }

  /** May this node key use our DERP? With or without `nodekey:`. */
  isKnownNodeKey(hex: string): boolean {
    const node = this.#core.ledger.nodeByKey(`nodekey:${hex.toLowerCase().replace(/^nodekey:/, "")}`);
    if (node === undefined || node.gateways !== undefined || node.isUnapproved === true) return false;
    return !this.#core.isExpired(node);
  }

  /** Is this the whole name of a node or service that may have a certificate? */
  mayHaveCertificate(name: string): boolean {
    return this.#core.options.setTxt !== undefined && isCertificateName(this.#core, name);
  }

  /** Lets anybody have a name that rests. False: it does not. */
  async releaseName(label: string, by: string): Promise<boolean> {
    return releaseName(this.#core, label, by);
  }

  /** Ends the streams and closes the store. */
  async close(): Promise<void> {
    this.#registration.pending.clear();
    await this.#core.close();
  }

  #view(node: NodeRecord): NodeView {
    const { ledger, options } = this.#core;
    return {
      ...node,
      fqdn: nameOf(node, options.baseDomain),
      user: node.userId === undefined ? undefined : ledger.users.get(node.userId),
      online: this.#core.isOnline(node.id),
      expired: this.#core.isExpired(node),
      advertisedRoutes: node.hostinfo.RoutableIPs ?? [],
      servedRoutes: servedRoutes(node),
    };
  }
}
