import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { Fault, messageOf } from "../../base/fault.ts";
import type { DoorConfig, DoorsConfig, OidcDoorConfig } from "../../config/doors.ts";
import { OidcClient } from "../../identity/oidc-client.ts";
import { type Door, type DoorOidc, TOKEN_HEADER } from "../../proxy/doors/door.ts";
import {
  hashSecret,
  isPin,
  LONGEST_PASSWORD,
  parseHash,
  plainSecret,
  type SecretHash,
  SHORTEST_PASSWORD,
  tokenDigest,
  withoutMarks,
} from "../../proxy/doors/secret-hash.ts";

type Environment = Readonly<Record<string, string | undefined>>;

const HOUR_MS = 3_600_000;
const UNITS: Readonly<Record<string, number>> = { m: 60_000, h: HOUR_MS, d: 24 * HOUR_MS };
const IDLE_MS = 24 * HOUR_MS;
const LONGEST_MS = 7 * 24 * HOUR_MS;
const LARGEST_SECRET_BYTES = 4096;
const SHORTEST_TOKEN = 20;
/** Anybody but the owner may read. */
const OTHERS = 0o077;

/**
 * The doors of a services file with what their secrets hash to; the secrets themselves are not kept.
 * @throws {Fault} DOOR_SECRET
 */
export async function openDoors(
  doors: DoorsConfig,
  env: Environment,
  onLoose: (file: string) => void = () => {},
): Promise<readonly Door[]> {
  const read = (where: string): Promise<string> => secretAt(where, env, onLoose);
  return await Promise.all(Object.entries(doors).map(([name, config]) => openDoor(name, config, read)));
}

type Read = (where: string) => Promise<string>;

async function openDoor(name: string, config: DoorConfig, read: Read): Promise<Door> {
  const {
    password,
    pin,
    tokens = {},
    tokenHeader = TOKEN_HEADER,
    oidc,
    stops = "public",
    links = false,
    certificates = false,
  } = config;
  const secrets: string[] = [];
  const secret = async (where: string): Promise<string> => {
    const text = await read(where);
    secrets.push(text);
    return text;
  };
  const opened = {
    ...(password === undefined ? {} : { password: await hashOf(await secret(password), password, "password") }),
    ...(pin === undefined ? {} : { pin: await hashOf(await secret(pin), pin, "pin") }),
    ...(oidc === undefined ? {} : { oidc: providerOf(oidc, await secret(oidc.clientSecret)) }),
  };
  const machines = [];
  for (const [machine, where] of Object.entries(tokens)) {
    const token = await secret(where);
    if (/^sha256:[0-9a-f]{64}$/.test(token)) machines.push({ name: machine, digest: token.slice("sha256:".length) });
    else if (/^[\x21-\x7e]+$/.test(token) && token.length >= SHORTEST_TOKEN) {
      machines.push({ name: machine, digest: tokenDigest(token) });
    } else throw unfit(where, `a token of ${SHORTEST_TOKEN} printable ASCII characters or more, without blanks`);
  }
  const idleMs = durationOf(config.idle) ?? IDLE_MS;
  const longestMs = durationOf(config.longest) ?? LONGEST_MS;
  const version = createHash("sha256")
    .update(JSON.stringify([config, secrets]))
    .digest("hex");
  return {
    name,
    version,
    stops,
    hasLinks: links,
    hasCertificates: certificates,
    tokens: machines,
    tokenHeader,
    life: { idleMs, longestMs },
    ...opened,
  };
}

function providerOf(config: OidcDoorConfig, clientSecret: string): DoorOidc {
  const { issuer, clientId, label, addresses = [], domains = [], groups = [], groupsClaim = "groups" } = config;
  const wanted = groups.length > 0 ? { wantedClaim: groupsClaim } : {};
  const client = new OidcClient({ issuer, clientId, clientSecret, ...wanted });
  return { client, label: label ?? new URL(issuer).hostname, who: { addresses, domains, groups, groupsClaim } };
}

/** The file may hold the hash in place of the secret (`sallyport doors hash`). */
async function hashOf(secret: string, where: string, kind: "password" | "pin"): Promise<SecretHash> {
  const hash = parseHash(secret);
  if (hash !== undefined) return hash;
  if (kind === "password") {
    const { length } = secret;
    if (length < SHORTEST_PASSWORD) throw unfit(where, `a password of ${SHORTEST_PASSWORD} characters or more`);
    if (length > LONGEST_PASSWORD) throw unfit(where, `a password of ${LONGEST_PASSWORD} characters or less`);
    return await hashSecret(secret);
  }
  const digits = withoutMarks(secret);
  if (!isPin(digits)) throw unfit(where, "a PIN of 6 to 12 digits");
  return await hashSecret(digits);
}

/** Says where the secret is, never what it is (CF-6). */
function unfit(where: string, wanted: string): Fault {
  return new Fault("DOOR_SECRET", `Cannot use the secret at "${where}": found another one, wanted ${wanted}`);
}

async function secretAt(where: string, env: Environment, onLoose: (file: string) => void): Promise<string> {
  const place = where.slice(where.indexOf(":") + 1);
  const text = where.startsWith("env:") ? env[place] : await fileText(place, onLoose);
  const secret = plainSecret(text ?? "");
  if (secret === undefined) throw unfit(where, "one line of text in UTF-8");
  if (secret !== "" && secret.length <= LARGEST_SECRET_BYTES) return secret;
  throw new Fault("DOOR_SECRET", `Cannot read the secret at "${where}": found nothing of use there`);
}

async function fileText(file: string, onLoose: (file: string) => void): Promise<string> {
  try {
    const { mode } = await stat(file);
    if ((mode & OTHERS) !== 0) onLoose(file);
    return await readFile(file, "utf8");
  } catch (cause) {
    throw new Fault("DOOR_SECRET", `Cannot read the secret at "file:${file}": ${messageOf(cause)}`, { cause });
  }
}

function durationOf(text: string | undefined): number | undefined {
  return text === undefined ? undefined : Number(text.slice(0, -1)) * UNITS[text.slice(-1)]!;
}
