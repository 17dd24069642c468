import { z } from "zod";
import { Fault } from "../base/fault.ts";
import type { Fail } from "./file-faults.ts";

/** CAs that need no more than their name; `internal` is this gateway's own. */
export const AUTHORITY_NAMES: readonly string[] = [
  "internal",
  "letsencrypt",
  "letsencrypt-staging",
  "zerossl",
  "google",
];

const LONGEST_NAME = 253;
const NAME = /^(?:\*\.)?(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?$/i;

/**
 * What a command line says of the CA.
 * @throws {Fault} CLI_USAGE
 */
export function authorityOf(given: string | undefined, caBundle: string | undefined): AuthorityConfig | undefined {
  if (given === undefined) {
    if (caBundle === undefined) return undefined;
    throw new Fault("CLI_USAGE", "Cannot use --cert-authority-bundle without --cert-authority");
  }
  if (AUTHORITY_NAMES.includes(given)) return given;
  if (/^https?:\/\/./.test(given) && URL.canParse(given)) return { directory: given, caBundle };
  throw new Fault("CLI_USAGE", `Cannot use "${given}" as a CA: wanted ${AUTHORITY_NAMES.join(", ")} or an address`);
}

/** Files that hold keys or lead to them: nothing of it may ever be served. */
export function pathsOfKeys({
  authority,
  second,
  challenges = [],
  files = [],
  store,
}: CertificatesConfig): readonly string[] {
  const places: (string | undefined)[] = [store];
  for (const one of files) places.push(...(typeof one === "string" ? [one] : Object.values(one)));
  for (const one of [authority, second]) if (typeof one === "object") places.push(one.externalAccount?.hmacKey);
  for (const one of challenges) places.push(...Object.values(one).filter((value) => typeof value === "string"));
  return places.flatMap((place) => {
    const path = place?.replace(/^file:/, "") ?? "";
    return path.startsWith("/") ? [path] : [];
  });
}

/** A full DNS name, perhaps with `*.` in front. */
export function isCertificateName(text: string): boolean {
  return text.length <= LONGEST_NAME && NAME.test(text);
}

const name = z
  .string()
  .refine(isCertificateName, { error: "found no full DNS name, such as app.example.com or *.apps.example.com" });
const domain = name.refine((text) => !text.startsWith("*"), { error: "found a wildcard, wanted the domain itself" });
/** The file is read by many; what it points to is not. */
const secret = z
  .string()
  .regex(/^(?:file:.|env:[A-Za-z_][A-Za-z0-9_]*$)/, "found a secret itself or nothing, wanted file:PATH or env:NAME");
const url = z.string().refine((text) => /^https?:\/\//.test(text) && URL.canParse(text), {
  error: "found no web address, wanted https://…",
});
const listen = z
  .string()
  .regex(/^(?:\[[0-9a-f:.]+\]|[0-9.]+)?:\d{1,5}$/i, "found no place to listen, wanted ADDRESS:PORT or :PORT");

const authority = z.union([
  z.string().refine((text) => AUTHORITY_NAMES.includes(text) || /^https:\/\/./.test(text), {
    error: `found an unknown CA, wanted ${AUTHORITY_NAMES.join(", ")}, a directory's address, or an object`,
  }),
  z.strictObject({
    directory: url,
    /** PEM file with what may sign the directory's own TLS certificate. */
    caBundle: z.string().min(1).optional(),
    externalAccount: z.strictObject({ keyId: z.string().min(1), hmacKey: secret }).optional(),
    /** Common name of the root that the chain should end at. */
    preferredChain: z.string().min(1).optional(),
    /** How much it allows, where that is not what Let's Encrypt does. */
    profile: z.string().min(1).optional(),
  }),
]);

const absolutePath = z.string().startsWith("/", "found no absolute path");
const proves = { for: z.array(domain).min(1).optional(), waitMs: z.number().int().min(0).max(3_600_000).optional() };
const api = { zone: z.string().min(1).optional(), api: url.optional() };
const challenge = z.discriminatedUnion(
  "type",
  [
    z.strictObject({ type: z.literal("control") }),
    z.strictObject({
      type: z.literal("rfc2136"),
      ...proves,
      server: z.string().min(1).optional(),
      zone: domain.optional(),
      keyName: z.string().min(1),
      algorithm: z.enum(["hmac-sha256", "hmac-sha512"]).optional(),
      secret,
      transport: z.enum(["udp", "tcp"]).optional(),
    }),
    z.strictObject({ type: z.literal("cloudflare"), ...proves, token: secret, ...api }),
    z.strictObject({
      type: z.literal("route53"),
      ...proves,
      accessKeyId: secret,
      secretAccessKey: secret,
      sessionToken: secret.optional(),
      ...api,
    }),
    z.strictObject({ type: z.literal("acme-dns"), ...proves, api: url, registrations: absolutePath }),
    z.strictObject({
      type: z.literal("exec"),
      ...proves,
      command: z.tuple([z.string().min(1)], z.string()),
      timeoutMs: z.number().int().min(1000).optional(),
    }),
    z.strictObject({ type: z.literal("http-01"), ...proves, listen: listen.optional() }),
    z.strictObject({ type: z.literal("tls-alpn-01"), ...proves, listen: listen.optional() }),
  ],
  {
    error: "found no known type, wanted control, rfc2136, cloudflare, route53, acme-dns, exec, http-01 or tls-alpn-01",
  },
);

const keyType = z.enum(["ecdsa", "rsa"]);
const named = z.strictObject({
  /** Further names in the same certificate. */
  with: z.array(name).min(1).max(99).optional(),
  authority: z.literal("internal").optional(),
  keyType: keyType.optional(),
  profile: z.string().min(1).optional(),
  when: z.enum(["ahead", "needed"]).optional(),
});

const transparency = z.strictObject({
  logs: z
    .array(
      z.strictObject({
        url,
        key: z.string().regex(/^[A-Za-z0-9+/]{40,1200}={0,2}$/, "found no base64 of a public key"),
        kind: z.enum(["rfc6962", "static"]).optional(),
      }),
    )
    .min(1)
    .max(32),
  domains: z.array(domain).optional(),
  known: z
    .array(z.string().regex(/^sha256:[0-9a-f]{64}$/, "found no key, wanted sha256: and 64 hex digits"))
    .optional(),
  every: z
    .string()
    .regex(/^(?:[1-9]|[12]\d|30)m$/, "found no such interval, wanted 1m to 30m")
    .optional(),
});

/** The member `certificates` of a services file. */
export const certificatesSchema: z.ZodType<CertificatesConfig> = z.strictObject({
  authority: authority.optional(),
  second: authority.optional(),
  staging: z.boolean().optional(),
  contact: z.array(z.email({ error: "found no mail address" })).optional(),
  challenges: z.array(challenge).optional(),
  names: z.record(name, named).optional(),
  wildcards: z.array(domain).optional(),
  keyType: keyType.optional(),
  resolvers: z
    .array(z.string().regex(/^[0-9a-f.:[\]]+$/i, "found no IP address"))
    .min(1)
    .optional(),
  files: z
    .array(z.union([absolutePath, z.strictObject({ certificate: absolutePath, key: absolutePath.optional() })]))
    .optional(),
  store: z
    .string()
    .regex(/^(?:\/|file:\/|env:[A-Za-z_]|postgres(?:ql)?:\/\/)/, "found no folder and no PostgreSQL address")
    .refine((text) => !/^postgres(?:ql)?:\/\/[^/@]*:[^/@]+@/.test(text), {
      error: "found a password, wanted env:NAME or file:PATH with the whole address in it",
    })
    .optional(),
  transparency: transparency.optional(),
});

/** A secret's whereabouts: `file:PATH` or `env:NAME`. */
export type SecretReference = string;

/** A CA by name or by its ACME directory. */
export type AuthorityConfig =
  | string
  | {
      readonly directory: string;
      readonly caBundle?: string | undefined;
      readonly externalAccount?: { readonly keyId: string; readonly hmacKey: SecretReference } | undefined;
      readonly preferredChain?: string | undefined;
      readonly profile?: string | undefined;
    };

/** How a CA is shown that names are ours. */
export type ChallengeConfig = {
  /** The domains that it is good for, with all below them; absent = any. */
  readonly for?: readonly string[] | undefined;
  /** Wait so long in place of asking the zone's servers whether the record is there. */
  readonly waitMs?: number | undefined;
} & (
  | { readonly type: "control" }
  | {
      readonly type: "rfc2136";
      readonly server?: string | undefined;
      readonly zone?: string | undefined;
      readonly keyName: string;
      readonly algorithm?: "hmac-sha256" | "hmac-sha512" | undefined;
      readonly secret: SecretReference;
      readonly transport?: "udp" | "tcp" | undefined;
    }
  | ({ readonly type: "cloudflare"; readonly token: SecretReference } & ZoneApi)
  | ({
      readonly type: "route53";
      readonly accessKeyId: SecretReference;
      readonly secretAccessKey: SecretReference;
      readonly sessionToken?: SecretReference | undefined;
    } & ZoneApi)
  | { readonly type: "acme-dns"; readonly api: string; readonly registrations: string }
  | {
      readonly type: "exec";
      readonly command: readonly [string, ...string[]];
      readonly timeoutMs?: number | undefined;
    }
  | { readonly type: "http-01" | "tls-alpn-01"; readonly listen?: string | undefined }
);

interface ZoneApi {
  /** Its id; absent = found by name. */
  readonly zone?: string | undefined;
  readonly api?: string | undefined;
}

export interface CertificateFiles {
  readonly certificate: string;
  /** Absent = in the same file. */
  readonly key?: string | undefined;
}

export interface NamedCertificate {
  readonly with?: readonly string[] | undefined;
  readonly authority?: "internal" | undefined;
  readonly keyType?: "ecdsa" | "rsa" | undefined;
  readonly profile?: string | undefined;
  readonly when?: "ahead" | "needed" | undefined;
}

/** Public logs that are looked through for certificates of our names that are not ours. */
export interface TransparencyConfig {
  readonly logs: readonly {
    /** Where it is read: for `static` the monitoring prefix. */
    readonly url: string;
    /** base64 of its public key (SubjectPublicKeyInfo). */
    readonly key: string;
    readonly kind?: "rfc6962" | "static" | undefined;
  }[];
  /** Domains of which every certificate is our business. */
  readonly domains?: readonly string[] | undefined;
  /** Keys of ours that others hold, by SHA-256 of SubjectPublicKeyInfo: `sha256:…`. */
  readonly known?: readonly string[] | undefined;
  /** Whole minutes, such as `10m`. */
  readonly every?: string | undefined;
}

/** How this gateway comes to certificates; absent members = upstream's ways. */
export interface CertificatesConfig {
  readonly authority?: AuthorityConfig | undefined;
  /** Used once the first has failed three times. */
  readonly second?: AuthorityConfig | undefined;
  /** The first CA's test instance, whose certificates nobody trusts and whose limits are wide. */
  readonly staging?: boolean | undefined;
  readonly contact?: readonly string[] | undefined;
  readonly challenges?: readonly ChallengeConfig[] | undefined;
  /** Certificates that are not simply one a served name. */
  readonly names?: Readonly<Record<string, NamedCertificate>> | undefined;
  /** Names right below these domains are served by one `*.` certificate, so that none of them becomes public. */
  readonly wildcards?: readonly string[] | undefined;
  readonly keyType?: "ecdsa" | "rsa" | undefined;
  /** Recursive resolvers that see public DNS; absent = those of this machine. */
  readonly resolvers?: readonly string[] | undefined;
  /** Certificates of the operator's own: folders, and pairs of PEM files. */
  readonly files?: readonly (string | CertificateFiles)[] | undefined;
  /** A folder, a PostgreSQL address, or where such an address is written. */
  readonly store?: string | undefined;
  readonly transparency?: TransparencyConfig | undefined;
}

/** What the schema cannot say. */
export function checkCertificates(given: CertificatesConfig, fail: Fail): void {
  if (given.second !== undefined && given.authority === undefined) {
    fail(["certificates", "second"], "found a second CA without a first one");
  }
  if (given.staging === true && typeof given.authority === "object") {
    fail(["certificates", "staging"], "found it beside a directory, wanted the CA by its name");
  }
  const seen = new Set<string>();
  for (const [name, { with: others = [] }] of Object.entries(given.names ?? {})) {
    for (const one of [name, ...others]) {
      if (seen.has(one.toLowerCase())) fail(["certificates", "names", name], `found "${one}" in two certificates`);
      seen.add(one.toLowerCase());
    }
  }
}
