import { z } from "zod";
import type { Fail, Path } from "./file-faults.ts";

/** The file is read by many; what it points to is not. */
const secret = z
  .string()
  .regex(/^(?:file:.|env:[A-Za-z_][A-Za-z0-9_]*$)/, "found a secret itself or nothing, wanted file:PATH or env:NAME");
/** `oidc-state` is the name of a cookie that doors have in common. */
const doorName = z
  .string()
  .regex(/^(?!oidc-state$)[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/, "found no name, wanted up to 32 of a-z, 0-9 and -");
const duration = z.string().regex(/^[1-9]\d{0,4}[mhd]$/, "found no duration, wanted a number from 1 and m, h or d");
const list = z.array(z.string().min(1)).min(1);
const mail = z.string().regex(/^[^@\s]+@[^@\s]+$/, "found no mail address");
const domain = z.string().regex(/^(?!@)[^@\s]+$/, "found no domain, wanted example.com");

const oidc = z
  .strictObject({
    issuer: z.string().refine((text) => /^https?:\/\//.test(text) && URL.canParse(text), {
      error: "found no web address, wanted https://…",
    }),
    clientId: z.string().min(1),
    clientSecret: secret,
    label: z.string().min(1).max(60).optional(),
    addresses: z.array(mail).min(1).optional(),
    domains: z.array(domain).min(1).optional(),
    groups: list.optional(),
    groupsClaim: z.string().min(1).optional(),
  })
  .refine(
    ({ addresses, domains, groups }) => addresses !== undefined || domains !== undefined || groups !== undefined,
    {
      error: "found nobody who may enter, wanted addresses, domains or groups",
    },
  );

const door = z
  .strictObject({
    password: secret.optional(),
    pin: secret.optional(),
    links: z.boolean().optional(),
    certificates: z.boolean().optional(),
    tokens: z.record(z.string().regex(/^[\w.-]{1,64}$/, "found no name of a machine"), secret).optional(),
    tokenHeader: z
      .string()
      .regex(/^[A-Za-z][A-Za-z0-9-]{1,63}$/, "found no header name")
      .refine((name) => !/^(?:cookie|host|connection|content-.*|transfer-encoding|te|upgrade|origin)$/i.test(name), {
        error: "found a header that has another meaning",
      })
      .optional(),
    oidc: oidc.optional(),
    stops: z.enum(["public", "everyone"]).optional(),
    idle: duration.optional(),
    longest: duration.optional(),
  })
  .refine(
    ({ password, pin, links, certificates, tokens, oidc }) =>
      password ?? pin ?? links ?? certificates ?? tokens ?? oidc,
    { error: "found a door that nobody can pass, wanted password, pin, links, certificates, tokens or oidc" },
  );

/** The member `doors` of a services file. */
export const doorsSchema: z.ZodType<DoorsConfig> = z.record(doorName, door);

export type DoorsConfig = Readonly<Record<string, DoorConfig>>;

export interface DoorConfig {
  readonly password?: string | undefined;
  readonly pin?: string | undefined;
  /** Guests may be let in by links. */
  readonly links?: boolean | undefined;
  /** Or by client certificates that the gateway makes. */
  readonly certificates?: boolean | undefined;
  /** By name of the machine. */
  readonly tokens?: Readonly<Record<string, string>> | undefined;
  readonly tokenHeader?: string | undefined;
  readonly oidc?: OidcDoorConfig | undefined;
  readonly stops?: "public" | "everyone" | undefined;
  readonly idle?: string | undefined;
  readonly longest?: string | undefined;
}

export interface OidcDoorConfig {
  readonly issuer: string;
  readonly clientId: string;
  readonly clientSecret: string;
  readonly label?: string | undefined;
  readonly addresses?: readonly string[] | undefined;
  readonly domains?: readonly string[] | undefined;
  readonly groups?: readonly string[] | undefined;
  readonly groupsClaim?: string | undefined;
}

/** Files that hold doors' secrets: they must never be served. */
export function filesOfDoors(doors: DoorsConfig): readonly string[] {
  const secrets = Object.values(doors).flatMap(({ password, pin, tokens = {}, oidc: provider }) => [
    password,
    pin,
    ...Object.values(tokens),
    provider?.clientSecret,
  ]);
  return secrets.flatMap((where) => (where?.startsWith("file:") === true ? [where.slice("file:".length)] : []));
}

interface Guarded {
  readonly door?: string | null | undefined;
  readonly guestsAsUsers?: string | undefined;
}
interface GuardedContent extends Guarded {
  readonly mounts?: Readonly<Record<string, string | Guarded>> | undefined;
}
interface GuardedEndpoint extends GuardedContent {
  readonly hosts?: readonly string[] | Readonly<Record<string, string | GuardedContent>> | undefined;
}

/** Every door that is named must be there, and stand where browsers can keep a secret: before HTTPS. */
export function checkDoors(
  doors: DoorsConfig,
  endpoints: readonly (readonly [key: string, given: string | GuardedEndpoint, listen: string])[],
  fail: Fail,
): readonly string[] {
  const used = new Set<string>();
  const warnings: string[] = [];
  const check = (given: string | Guarded, listen: string, at: Path): void => {
    if (typeof given === "string") return;
    const { door: name, guestsAsUsers } = given;
    if (guestsAsUsers !== undefined) {
      const isAsked = Object.values(doors).some(({ oidc }) => oidc?.issuer === guestsAsUsers);
      const what = isAsked ? `guests of ${guestsAsUsers} are users there` : `no door has guests of ${guestsAsUsers}`;
      warnings.push(`${at.map(String).join(" / ")}: ${what}`);
    }
    if (name === undefined || name === null) return;
    if (!Object.hasOwn(doors, name)) fail([...at, "door"], `found door "${name}", wanted one of "doors"`);
    if (listen !== "https") fail([...at, "door"], `found a door on an ${listen} listener, wanted https`);
    used.add(name);
  };
  const checkContent = (given: string | GuardedContent, listen: string, at: Path): void => {
    check(given, listen, at);
    if (typeof given === "string") return;
    for (const [mount, one] of Object.entries(given.mounts ?? {})) check(one, listen, [...at, "mounts", mount]);
  };
  for (const [key, given, listen] of endpoints) {
    const at = ["node", "endpoints", key];
    checkContent(given, listen, at);
    if (typeof given === "string" || Array.isArray(given.hosts)) continue;
    for (const [host, one] of Object.entries(given.hosts ?? {})) checkContent(one, listen, [...at, "hosts", host]);
  }
  for (const name of Object.keys(doors)) if (!used.has(name)) warnings.push(`door "${name}" stands before nothing`);
  return warnings;
}
