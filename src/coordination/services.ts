import { Fault } from "../base/fault.ts";
import { ADDRESS_REST_MS } from "./address-pool.ts";
import type { Core } from "./core.ts";
import type { Ledger } from "./ledger.ts";
import { isLabel } from "./names.ts";
import { policyNode } from "./node-view.ts";
import type { PolicyEngine } from "./policy-engine.ts";
import type { Change, HostedService, NodeRecord } from "./records.ts";

/** A service with addresses of its own, which several nodes may host (control-protocol §6.4). */
export interface Service {
  /** `svc:web`. */
  readonly name: string;
  readonly ipv4: string;
  readonly ipv6: string;
  readonly created: number;
}

const SETTING = "services";
const MOST = 256;
const MOST_HOSTED = 64;
const MOST_PORTS = 64;
const NONE: ReadonlyMap<string, Service> = new Map();
const parsed: WeakMap<Ledger, { readonly text: string; readonly services: ReadonlyMap<string, Service> }> =
  new WeakMap();

/** By name. The same object as long as nothing changes. */
export function servicesOf(ledger: Ledger): ReadonlyMap<string, Service> {
  const text = ledger.settings.get(SETTING);
  if (text === undefined) return NONE;
  let known = parsed.get(ledger);
  if (known?.text !== text) {
    const list = JSON.parse(text) as readonly Service[];
    known = { text, services: new Map(list.map((service) => [service.name, service])) };
    parsed.set(ledger, known);
  }
  return known.services;
}

export function isServiceName(name: string): boolean {
  return name.startsWith("svc:") && isLabel(name.slice("svc:".length));
}

/** What `node` hosts, each with its addresses: told by the node, approved, and there. */
export function hostedBy(
  node: NodeRecord,
  services: ReadonlyMap<string, Service>,
): Readonly<Record<string, readonly [ipv4: string, ipv6: string]>> {
  if (node.services === undefined || node.isUnapproved === true) return {};
  const approved = new Set(node.approvedServices ?? []);
  const hosted = node.services.flatMap(({ name, isActive }) => {
    const service = isActive && approved.has(name) ? services.get(name) : undefined;
    return service === undefined ? [] : [service];
  });
  return Object.fromEntries(hosted.map(({ name, ipv4, ipv6 }) => [name, [ipv4, ipv6]]));
}

/** The addresses of a service as routes to its host. */
export function prefixesOf(addresses: readonly [string, string]): readonly string[] {
  return addresses.map(asPrefix);
}

export function asPrefix(address: string): string {
  return `${address}/${address.includes(":") ? 128 : 32}`;
}

const bad = (what: string, name: string, found: string, wanted: string): Fault =>
  new Fault("COORDINATION_SERVICE", `Cannot ${what} service "${name.slice(0, 100)}": ${found}, wanted ${wanted}`);

const kept = (services: Iterable<Service>): Change => ({
  put: "setting",
  name: SETTING,
  value: JSON.stringify([...services]),
});

/** @throws {Fault} COORDINATION_SERVICE */
export function createService(core: Core, name: string, by: string): Promise<Service> {
  return core.exclusive(async () => {
    const services = servicesOf(core.ledger);
    const label = name.slice("svc:".length);
    if (!isServiceName(name)) throw bad("create", name, "that is no name for one", "svc: and a host name");
    if (services.has(name)) throw bad("create", name, "it is there", "a new name");
    if (services.size >= MOST) throw bad("create", name, `there are ${MOST}`, "to delete one first");
    if (core.name(label) !== label)
      throw bad("create", name, `a node or record is called ${label}, or was and has a certificate`, "a free name");
    const { ipv4, ipv6, changes } = core.addresses();
    const service: Service = { name, ipv4, ipv6, created: core.wall };
    const hosts = approvedByPolicy(core, name);
    const entry = core.entry(by, "service.create", name, `${ipv4} ${ipv6}`);
    await core.ledger.commit([...changes, kept([...services.values(), service]), ...hosts, entry]);
    core.streams.touchAll();
    return service;
  });
}

/** Hosts that have told of it already, and that the policy approves. */
function approvedByPolicy({ ledger, views }: Core, name: string): readonly Change[] {
  return [...ledger.nodes.values()]
    .filter(({ services }) => services?.some((service) => service.name === name))
    .filter((node) => views.policy.autoApprovesService(policyNode(node, ledger.users), name))
    .map((node): Change => ({ put: "node", value: withApproval(node, name, true) }));
}

export function deleteService(core: Core, name: string, by: string): Promise<void> {
  return core.exclusive(async () => {
    const services = new Map(servicesOf(core.ledger));
    const service = known(services, name);
    services.delete(name);
    const hosts = [...core.ledger.nodes.values()].filter(({ approvedServices }) => approvedServices?.includes(name));
    await core.ledger.commit([
      kept(services.values()),
      { put: "resting", value: { ipv4: service.ipv4, until: core.wall + ADDRESS_REST_MS } },
      ...hosts.map((node): Change => ({ put: "node", value: withApproval(node, name, false) })),
      core.entry(by, "service.delete", name),
    ]);
    core.streams.touchAll();
  });
}

/** A service as administrators see it. */
export interface ServiceView extends Service {
  readonly hosts: readonly ServiceHostView[];
}

export interface ServiceHostView {
  readonly node: string;
  readonly ports: readonly string[];
  /** The node says that it hosts it now. */
  readonly isActive: boolean;
  readonly isApproved: boolean;
}

/** Also those that nodes say they host and nobody created: without addresses. */
export function listServices(core: Core): readonly ServiceView[] {
  const nodes = [...core.ledger.nodes.values()];
  const told = new Set(nodes.flatMap(({ services = [] }) => services.map(({ name }) => name)));
  const created = servicesOf(core.ledger);
  const unknown = [...told].filter((name) => !created.has(name));
  const nobody = unknown.map((name): Service => ({ name, ipv4: "", ipv6: "", created: 0 }));
  return [...created.values(), ...nobody].map((service) => ({
    ...service,
    hosts: nodes.flatMap((node): ServiceHostView[] => {
      const hosted = node.services?.find(({ name }) => name === service.name);
      const isApproved = node.approvedServices?.includes(service.name) === true;
      if (hosted === undefined && !isApproved) return [];
      return [{ node: node.name, ports: hosted?.ports ?? [], isActive: hosted?.isActive === true, isApproved }];
    }),
  }));
}

/** May `which` host the service? Also before it says that it does. */
export function approveHost(
  core: Core,
  name: string,
  which: number | string,
  isApproved: boolean,
  by: string,
): Promise<NodeRecord> {
  return core.exclusive(async () => {
    known(servicesOf(core.ledger), name);
    const node = withApproval(core.node(which), name, isApproved);
    const action = isApproved ? "service.approve" : "service.revoke";
    await core.replace(node, core.entry(by, action, `node:${node.id}`, name), "topology");
    return node;
  });
}

function known(services: ReadonlyMap<string, Service>, name: string): Service {
  const service = services.get(name);
  if (service === undefined) throw bad("find", name, "there is none", "one that `services list` shows");
  return service;
}

export function withApproval(node: NodeRecord, name: string, isApproved: boolean): NodeRecord {
  const { approvedServices = [], ...rest } = node;
  const names = approvedServices.filter((other) => other !== name);
  if (isApproved) names.push(name);
  return names.length === 0 ? rest : { ...rest, approvedServices: names.toSorted() };
}

/** Adds what the node hosts and the policy approves by itself. */
export function withAutoApprovedServices(
  core: Core,
  node: NodeRecord,
  policy: PolicyEngine = core.views.policy,
): NodeRecord {
  const approved = new Set(node.approvedServices ?? []);
  const services = servicesOf(core.ledger);
  const asked = (node.services ?? []).filter(({ name }) => !approved.has(name) && services.has(name));
  if (asked.length === 0) return node;
  const subject = policyNode(node, core.ledger.users);
  const added = asked.filter(({ name }) => policy.autoApprovesService(subject, name));
  return added.reduce((after, { name }) => withApproval(after, name, true), node);
}

/**
 * Asks a node what it hosts, when what it told of itself says that this changed (`ServicesHash`). False: it did not
 * answer, or not in a way that can be understood.
 */
export async function learnServices(core: Core, nodeId: number): Promise<boolean> {
  const before = core.ledger.nodes.get(nodeId);
  const hash = before?.hostinfo.ServicesHash ?? "";
  if (before === undefined || hash === (before.servicesHash ?? "")) return true;
  // Nothing is hosted where there is no hash.
  const answer = hash === "" ? "{}" : await core.questions.ask(nodeId, "/vip-services");
  const services = answer === undefined ? undefined : readServices(answer);
  if (services === undefined) return false;
  await core.exclusive(async () => {
    const node = core.ledger.nodes.get(nodeId);
    if (node === undefined || node.nodeKey !== before.nodeKey) return;
    const { services: _services, servicesHash: _hash, ...rest } = node;
    const told = {
      ...rest,
      ...(services.length === 0 ? {} : { services }),
      ...(hash === "" ? {} : { servicesHash: hash }),
    };
    await core.replace(withAutoApprovedServices(core, told), undefined, "topology");
  });
  return true;
}

/** `{"VIPServices":[{"Name":"svc:web","Ports":["tcp:443"],"Active":true}],…}` */
function readServices(text: string): readonly HostedService[] | undefined {
  let listed: unknown;
  try {
    listed = (JSON.parse(text) as { VIPServices?: unknown } | null)?.VIPServices ?? [];
  } catch {
    return undefined;
  }
  if (!Array.isArray(listed)) return undefined;
  return listed.slice(0, MOST_HOSTED).flatMap((item: unknown) => {
    const { Name, Ports, Active } = (item ?? {}) as Readonly<Record<string, unknown>>;
    if (typeof Name !== "string" || !isServiceName(Name)) return [];
    const texts = Array.isArray(Ports) ? Ports.slice(0, MOST_PORTS).filter((port) => typeof port === "string") : [];
    return { name: Name, ports: texts.map((port) => port.slice(0, 32)), isActive: Active === true };
  });
}
