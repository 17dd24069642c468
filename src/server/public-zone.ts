import { isIP } from "node:net";
import type { Clock } from "../base/clock.ts";
import { Fault } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import { ChallengeRecords } from "../certs/zone/challenge-records.ts";
import { nodeRecords } from "../certs/zone/node-records.ts";
import {
  addressRecord,
  allRecords,
  caaRecord,
  fixedRecords,
  type RecordSource,
  type ZoneRecord,
} from "../certs/zone/records.ts";
import { Zone } from "../certs/zone/zone.ts";
import { encodeName } from "../wire/dns.ts";
import { plainName } from "../wire/host-name.ts";
import { openZoneListeners, type ZoneCounters } from "./zone-listeners.ts";

const ADDRESS_TTL_S = 300;
const CAA_TTL_S = 300;

/** The one zone that the world's DNS delegates to this server. */
export interface PublicZoneOptions {
  /** The tailnet's base domain, or a name above it. */
  readonly zone: string;
  /** Where to answer. */
  readonly address: string;
  /** @default 53 */
  readonly port?: number;
  /** This server's name in the NS record of the parent zone. */
  readonly nameServer: string;
  /** Its public addresses, wanted where its name is inside the zone. @default `address` where that is one */
  readonly nameServerAddresses?: readonly string[];
  /** Where the server's own name leads, if it is inside the zone. @default as the name server, which is the same process */
  readonly ownAddresses?: readonly string[];
  /** Who may issue for names of the zone, in the words of CAA: `letsencrypt.org; validationmethods=dns-01`. @default anybody */
  readonly caa?: readonly string[];
  /** What else is in the zone, such as the addresses of an ingress. */
  readonly records?: RecordSource;
  /** What is at names where nothing else is. */
  readonly wildcards?: RecordSource;
}

export interface PublicZone {
  readonly port: number;
  readonly challenges: ChallengeRecords;
  readonly counters: Readonly<ZoneCounters>;
  close(): Promise<void>;
}

interface Surroundings {
  readonly baseDomain: string;
  /** By which clients find the server. */
  readonly ownName: string;
  readonly isPublic: (name: string) => boolean;
  readonly clock: Clock;
  readonly log: Log;
}

/** @throws {Fault} ZONE_… */
export async function openPublicZone(options: PublicZoneOptions, around: Surroundings): Promise<PublicZone> {
  const { address, port = 53, records = () => undefined, wildcards = () => undefined } = options;
  const zone = nameOr(options.zone, "zone");
  const nameServer = nameOr(options.nameServer, "name server");
  const baseDomain = around.baseDomain.toLowerCase();
  if (baseDomain !== zone && !baseDomain.endsWith(`.${zone}`)) {
    throw new Fault(
      "ZONE_DOMAIN",
      `Cannot answer for "${zone}": the nodes' domain is "${baseDomain}", wanted it inside`,
      {
        hint: "Give --domain the zone itself or a name below it.",
      },
    );
  }
  const caa = (options.caa ?? []).map((value) => caaRecord({ isCritical: false, tag: "issue", value }, CAA_TTL_S));
  const challenges = new ChallengeRecords(around.clock);
  const written = allRecords(
    nodeRecords({ zone, baseDomain, isPublic: around.isPublic, challenges }),
    fixedRecords(new Map([[zone, caa]])),
    fixedRecords(nameServerRecords(zone, nameServer, options)),
    fixedRecords(ownRecords(zone, options, around)),
    records,
  );
  const served = new Zone({
    zone,
    nameServers: [nameServer],
    serial: () => Math.floor(around.clock.wall() / 1000) >>> 0,
    records: (name) => written(name) ?? wildcards(name),
  });
  const { clock, log } = around;
  const listeners = await openZoneListeners({ zone: served, address, port, clock, log });
  return { port: listeners.port, challenges, counters: listeners.counters, close: () => listeners.close() };
}

/** A name server inside the zone that it serves is found by the parent's glue, which resolvers check here. */
function nameServerRecords(zone: string, nameServer: string, options: PublicZoneOptions): FixedRecords {
  if (!isInside(nameServer, zone)) return new Map();
  const records = nameServerAddresses(options);
  if (records !== undefined) return new Map([[nameServer, records]]);
  throw new Fault(
    "ZONE_NAME_SERVER",
    `Cannot answer for "${zone}": no address of its name server "${nameServer}", wanted one`,
    { hint: `Give --dns-ns ${nameServer}=203.0.113.5 with the public address of this machine.` },
  );
}

/** Whoever delegated the zone cannot say elsewhere where the server itself is. */
function ownRecords(zone: string, options: PublicZoneOptions, { ownName, log }: Surroundings): FixedRecords {
  if (isIP(ownName) !== 0 || !isInside(ownName, zone) || ownName === plainName(options.nameServer)) return new Map();
  const { ownAddresses } = options;
  const records = ownAddresses === undefined ? nameServerAddresses(options) : addressRecords(ownAddresses);
  if (records !== undefined) return new Map([[ownName, records]]);
  log.warn("zone.own_name", { name: ownName, error: "The zone has no address for it: give --url-address." });
  return new Map();
}

type FixedRecords = ReadonlyMap<string, readonly ZoneRecord[]>;

const isInside = (name: string, zone: string): boolean => name === zone || name.endsWith(`.${zone}`);

function nameServerAddresses({ address, nameServerAddresses: given }: PublicZoneOptions): ZoneRecord[] | undefined {
  const isAny = address === "0.0.0.0" || address === "::";
  return addressRecords(given ?? (isAny ? [] : [address]));
}

/** `undefined`: there are none, or one of them is no address. */
function addressRecords(addresses: readonly string[]): ZoneRecord[] | undefined {
  const records = addresses.map((text) => addressRecord(text, ADDRESS_TTL_S)).filter((record) => record !== undefined);
  return records.length === 0 || records.length < addresses.length ? undefined : records;
}

function nameOr(text: string, what: string): string {
  const name = plainName(text);
  const fits = /^(?:[a-z0-9_-]+\.)+[a-z0-9-]+$/.test(name) && encodeName(name) !== undefined && isIP(name) === 0;
  if (fits) return name;
  throw new Fault("ZONE_NAME", `Cannot use "${text}" as ${what}: wanted a DNS name such as mesh.example.com`);
}
