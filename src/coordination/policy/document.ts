import type { CapMap } from "../../wire/tailcfg.ts";
import type { PolicyNode } from "../policy-engine.ts";
import {
  readNames,
  readNodeAttributes,
  readRouteApprovers,
  readServiceApprovers,
  readSourcePostures,
  readTagOwners,
  readTests,
} from "./declarations.ts";
import { type NetworkSettings, readNetwork } from "./network-settings.ts";
import type { Opening } from "./ports.ts";
import type { Posture } from "./posture.ts";
import { RuleReader } from "./rule-reader.ts";
import type { Names, Selector } from "./selector.ts";
import { type Place, SelectorReader } from "./selector-reader.ts";
import { type Path, PolicySource } from "./source.ts";
import { readSsh, readSshTests, type SshRule, type SshTest } from "./ssh.ts";

export interface Grant {
  /** Where it stands in the file. */
  readonly path: Path;
  readonly sources: readonly Selector[];
  readonly destinations: readonly Selector[];
  readonly openings: readonly Opening[];
  readonly app: CapMap | undefined;
  readonly via: readonly string[];
  /** One of them must hold of a source; none: of all. */
  readonly postures: readonly Posture[];
}

export interface NodeAttribute {
  readonly targets: readonly Selector[];
  readonly attributes: CapMap;
  readonly pools: readonly string[];
}

export interface PolicyTest {
  readonly path: Path;
  readonly src: string;
  readonly proto: string;
  readonly accept: readonly string[];
  readonly deny: readonly string[];
  /** `srcPostureAttrs` */
  readonly attributes: PolicyNode["attributes"];
}

export interface PolicyDocument {
  readonly source: PolicySource;
  readonly names: Names;
  readonly tagOwners: ReadonlyMap<string, readonly string[]>;
  /** `undefined`: neither `acls` nor `grants` is there, so everything is allowed. */
  readonly grants: readonly Grant[] | undefined;
  readonly nodeAttributes: readonly NodeAttribute[];
  readonly routeApprovers: ReadonlyMap<string, readonly Selector[]>;
  readonly exitApprovers: readonly Selector[];
  readonly serviceApprovers: ReadonlyMap<string, readonly Selector[]>;
  /** What the file says of the whole network at once. */
  readonly network: NetworkSettings;
  readonly ssh: readonly SshRule[];
  readonly tests: readonly PolicyTest[];
  readonly sshTests: readonly SshTest[];
}

const MEMBERS = [
  "groups",
  "hosts",
  "ipsets",
  "tagOwners",
  "acls",
  "grants",
  "autoApprovers",
  "nodeAttrs",
  "ssh",
  "tests",
  "sshTests",
  "postures",
  "defaultSrcPosture",
  "attrConfig",
  "derpMap",
  "disableIPv4",
  "oneCGNATRoute",
  "randomizeClientPort",
];

/** What is known of the tailnet beyond the policy; where absent, the checks that need it are left out. */
export interface Known {
  readonly users?: readonly string[];
  readonly domains?: readonly string[];
}

/** Reads and checks a policy file. Everything wrong with it is a fault with line and column. */
export function readPolicy(text: string, file: string, known: Known): PolicyDocument {
  const source = new PolicySource(text.trim() === "" ? "{}" : text, file);
  const top = source.members(source.value, [], MEMBERS);
  const at = (name: string): Place => top.get(name) ?? { value: undefined, path: [] };
  const reader = new SelectorReader(source, readNames(source, at, known.users), known);
  const defaults = readSourcePostures(source, reader.names, at("defaultSrcPosture"), []);
  const rules = new RuleReader(reader, defaults);
  const acls = at("acls");
  const grants = at("grants");
  const approvers = source.members(at("autoApprovers").value, at("autoApprovers").path, [
    "routes",
    "exitNode",
    "services",
  ]);
  const routes = approvers.get("routes");
  const exitNode = approvers.get("exitNode");
  const document: Omit<PolicyDocument, "grants"> = {
    source,
    names: reader.names,
    tagOwners: readTagOwners(reader, at("tagOwners")),
    nodeAttributes: readNodeAttributes(reader, at("nodeAttrs")),
    routeApprovers: readRouteApprovers(reader, routes),
    exitApprovers: exitNode === undefined ? [] : reader.selectors(exitNode.value, exitNode.path),
    serviceApprovers: readServiceApprovers(reader, approvers.get("services")),
    network: readNetwork(reader, at),
    ssh: readSsh(source, at("ssh"), reader.names, reader.domains, defaults),
    tests: readTests(source, at("tests")),
    sshTests: readSshTests(source, at("sshTests"), reader.names),
  };
  const isOpen = !top.has("acls") && !top.has("grants");
  return { ...document, grants: isOpen ? undefined : [...rules.acls(acls), ...rules.grants(grants)] };
}
