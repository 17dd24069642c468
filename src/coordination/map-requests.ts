import { Fault } from "../base/fault.ts";
import { claimsText } from "../wire/claims.ts";
import { checkedPublicSites, checkedVisitedAt, DRAINING, PUBLIC_SITES, VISITED_AT } from "../wire/funnel.ts";
import type { MapRequest } from "../wire/tailcfg.ts";
import { checkedSiteRules, VISITOR_RULES } from "../wire/visitor-rules.ts";
import type { MapSink } from "./control-handler.ts";
import type { Core } from "./core.ts";
import { checkedEndpoints, checkedHostinfo, checkedKey, mergedHostinfo } from "./hostinfo.ts";
import { wishOf } from "./ingresses.ts";
import { isOwnName } from "./names.ts";
import { postureOf } from "./node-view.ts";
import type { NodeRecord } from "./records.ts";
import { assertOwner, assertVersion, withAutoApproved } from "./registration.ts";

/** The three shapes of a map request (control-protocol §4.2). */
export async function answerMap(core: Core, machineKey: string, request: MapRequest, out: MapSink): Promise<void> {
  assertVersion(request.Version);
  const node = nodeOf(core, machineKey, request.NodeKey);
  if (request.Stream === true && request.ReadOnly !== true) {
    // Its description may be stale: lite updates tell the truth. Only what nobody knows yet is taken.
    await keepCapability(core, node, request);
    const current = core.ledger.nodes.get(node.id);
    if (current === undefined) throw unknownNode(node.nodeKey);
    await core.streams.run(current, out, request.KeepAlive === true);
    return;
  }
  if (request.ReadOnly !== true) await keepUpdate(core, node, request);
  if (request.OmitPeers === true) {
    out.end();
    return;
  }
  core.streams.once(core.ledger.nodes.get(node.id) ?? node, out);
}

export function nodeOf(core: Core, machineKey: string, nodeKey: unknown): NodeRecord {
  const key = checkedKey("nodekey", nodeKey);
  const node = key === undefined ? undefined : core.ledger.nodeByKey(key);
  if (node === undefined) throw unknownNode(typeof nodeKey === "string" ? nodeKey.slice(0, 80) : typeof nodeKey);
  assertOwner(node, machineKey);
  return node;
}

function unknownNode(nodeKey: string): Fault {
  return new Fault(
    "COORDINATION_NODE_UNKNOWN",
    `Cannot serve node "${nodeKey}": node not found, wanted one that is registered`,
  );
}

async function keepCapability(core: Core, told: NodeRecord, { Version, DiscoKey }: MapRequest): Promise<void> {
  const discoKey = checkedKey("discokey", DiscoKey);
  const isNews = (node: NodeRecord) =>
    node.capability !== Version || (node.discoKey === undefined && discoKey !== undefined);
  // When all come back at once, most have nothing to write and need not queue for it.
  if (!isNews(told)) return;
  await core.exclusive(async () => {
    const node = core.ledger.nodes.get(told.id);
    if (node === undefined || !isNews(node)) return;
    const disco = node.discoKey ?? discoKey;
    await core.replace(
      { ...node, capability: Version, ...(disco === undefined ? {} : { discoKey: disco }) },
      undefined,
      "members",
    );
  });
}

function keepUpdate(core: Core, { id, nodeKey }: NodeRecord, request: MapRequest): Promise<void> {
  return core.exclusive(async () => {
    const before = core.ledger.nodes.get(id);
    // The key may have been retired while this request waited.
    if (before === undefined || before.nodeKey !== nodeKey) return;
    const after = updated(core, before, request);
    if (after === before) return;
    const isTopology =
      JSON.stringify(postureOf(after.hostinfo)) !== JSON.stringify(postureOf(before.hostinfo)) ||
      String(after.hostinfo.RoutableIPs) !== String(before.hostinfo.RoutableIPs) ||
      wishOf(after.hostinfo) !== wishOf(before.hostinfo) ||
      JSON.stringify(after.visitorRules) !== JSON.stringify(before.visitorRules) ||
      String(after.publicSites) !== String(before.publicSites) ||
      after.hostinfo.SallyportDoors !== before.hostinfo.SallyportDoors ||
      claimsText(after.hostinfo) !== claimsText(before.hostinfo) ||
      String(after.approvedRoutes) !== String(before.approvedRoutes);
    await core.replace(after, undefined, isTopology ? "topology" : "members");
    if (after.hostinfo.ServicesHash !== before.hostinfo.ServicesHash) core.services.ask(id);
  });
}

/** The record with what the node says of itself: never owner, tags, expiry or approvals (matrix CS-15). */
function updated(core: Core, before: NodeRecord, request: MapRequest): NodeRecord {
  const told = checkedHostinfo(request.Hostinfo);
  const hostinfo = told === undefined ? before.hostinfo : mergedHostinfo(before.hostinfo, told);
  const home = hostinfo.NetInfo?.PreferredDERP;
  const discoKey = checkedKey("discokey", request.DiscoKey) ?? before.discoKey;
  const isNews = hostinfo.Hostname !== before.hostinfo.Hostname || isOwnName(before.name, core.options);
  const renamed = !before.nameFixed && isNews;
  const {
    visitorRules: rulesBefore = [],
    isDraining: wasDraining = false,
    publicSites: sitesBefore,
    visitedAt: placesBefore = [],
    ...kept
  } = before;
  // All of them come with every description, where there is something to say.
  const visitorRules = told === undefined ? rulesBefore : checkedSiteRules(request[VISITOR_RULES]);
  const isDraining = told === undefined ? wasDraining : request[DRAINING] === true;
  const publicSites = told === undefined ? sitesBefore : checkedPublicSites(request[PUBLIC_SITES]);
  const visitedAt = told === undefined ? placesBefore : checkedVisitedAt(request[VISITED_AT]);
  const after: NodeRecord = {
    ...kept,
    hostinfo,
    ...(visitedAt.length === 0 ? {} : { visitedAt }),
    ...(publicSites === undefined ? {} : { publicSites }),
    ...(visitorRules.length === 0 ? {} : { visitorRules }),
    ...(isDraining ? { isDraining } : {}),
    ...(discoKey === undefined ? {} : { discoKey }),
    // Both absent until known; an update without them says nothing about them.
    endpoints: Array.isArray(request.Endpoints) ? checkedEndpoints(request.Endpoints) : before.endpoints,
    homeDerp: home !== undefined && home > 0 && home < 65536 ? home : before.homeDerp,
    capability: request.Version,
    name: renamed ? core.name(hostinfo.Hostname, before) : before.name,
  };
  const approved = withAutoApproved(core, after);
  return JSON.stringify(approved) === JSON.stringify(before) ? before : approved;
}
