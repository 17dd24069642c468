import type { CapMap } from "../../wire/tailcfg.ts";
import type { PolicyNode } from "../policy-engine.ts";
import type { Place, SelectorReader } from "./selector-reader.ts";

/** Members of the file that are about every node. */
export interface NetworkSettings {
  readonly disableIPv4: boolean;
  readonly randomizeClientPort: boolean;
  /** About macOS alone, as hosted. */
  readonly oneCGNATRoute: "" | "mac-always" | "mac-never";
  /** Attributes that nodes may set themselves, with the type that they must have, if any. */
  readonly settable: ReadonlyMap<string, string | undefined>;
}

const KINDS = ["string", "number", "bool"];

export function readNetwork(reader: SelectorReader, at: (name: string) => Place): NetworkSettings {
  const truth = (name: string): boolean => {
    const { value = false, path } = at(name);
    if (value !== null && typeof value !== "boolean")
      throw reader.source.fault("POLICY_SHAPE", path, "true or false is wanted");
    return value === true;
  };
  const { value: route, path } = at("oneCGNATRoute");
  const oneCGNATRoute = reader.source.text(route ?? "", path);
  if (oneCGNATRoute !== "" && oneCGNATRoute !== "mac-always" && oneCGNATRoute !== "mac-never") {
    throw reader.fault(path, `oneCGNATRoute "${oneCGNATRoute}" is not valid: wanted "mac-always" or "mac-never"`);
  }
  const relays = at("derpMap");
  if (reader.source.entries(relays.value, relays.path).length > 0) throw reader.unsupported(relays.path, "derpMap");
  const settable = readAttributes(reader, at("attrConfig"));
  const randomizeClientPort = truth("randomizeClientPort");
  return { disableIPv4: truth("disableIPv4"), randomizeClientPort, oneCGNATRoute, settable };
}

function readAttributes(reader: SelectorReader, { value, path }: Place): ReadonlyMap<string, string | undefined> {
  const settable = new Map<string, string | undefined>();
  for (const [name, config] of reader.source.entries(value, path)) {
    const where = [...path, name];
    if (!/^custom:./.test(name))
      throw reader.fault(where, `attrConfig["${name}"]: attribute names must start with "custom:"`);
    const members = reader.source.members(config, where, ["type", "allowSetByNode", "broadcastToPeers"]);
    const kind = members.get("type");
    if (kind !== undefined && !KINDS.includes(String(kind.value)))
      throw reader.fault(kind.path, `attrConfig["${name}"]: type must be one of ${KINDS.join(", ")}`);
    if (members.get("allowSetByNode")?.value === true)
      settable.set(name, kind === undefined ? undefined : String(kind.value));
  }
  return settable;
}

/** A type of the file in JavaScript's words. */
const KIND_OF: Readonly<Record<string, string>> = { string: "string", number: "number", boolean: "bool" };

export function maySetAttribute({ settable }: NetworkSettings, name: string, value: unknown): boolean {
  if (!settable.has(name)) return false;
  const kind = settable.get(name);
  return value === null || kind === undefined || KIND_OF[typeof value] === kind;
}

/** The settings as node attributes (control-protocol sheet 6.1). */
export function networkAttributes(settings: NetworkSettings, node: PolicyNode): CapMap {
  const held: Record<string, null> = {};
  if (settings.disableIPv4) held["disable-ipv4"] = null;
  if (settings.randomizeClientPort) held["randomize-client-port"] = null;
  const isMac = node.attributes?.["node:os"] === "macos";
  if (isMac && settings.oneCGNATRoute !== "") {
    held[`one-cgnat?v=${settings.oneCGNATRoute === "mac-always"}`] = null;
  }
  return held;
}
