import type { Clock } from "../../../base/clock.ts";
import type { Random } from "../../../base/random.ts";
import type { TsigAlgorithm } from "../../../wire/tsig.ts";
import type { DnsLookup } from "../dns-lookup.ts";
import type { DnsProvider } from "../dns-provider.ts";
import { acmeDnsProvider } from "./acme-dns.ts";
import { cloudflareProvider } from "./cloudflare.ts";
import { execProvider } from "./exec.ts";
import type { Fetch } from "./provider-api.ts";
import { rfc2136Provider } from "./rfc2136.ts";
import { route53Provider } from "./route53.ts";
import { secretOf } from "./secret.ts";

/** Where a secret is: `file:PATH` or `env:NAME`. */
export type SecretPlace = string;

export type DnsProviderSettings =
  | {
      readonly type: "rfc2136";
      /** `ip`, `ip:port` or a name. @default the primary of the zone's SOA record */
      readonly server?: string;
      readonly zone?: string;
      readonly keyName: string;
      readonly algorithm?: TsigAlgorithm;
      readonly secret: SecretPlace;
      readonly transport?: "udp" | "tcp";
    }
  | { readonly type: "cloudflare"; readonly token: SecretPlace; readonly zone?: string; readonly api?: string }
  | {
      readonly type: "route53";
      readonly accessKeyId: SecretPlace;
      readonly secretAccessKey: SecretPlace;
      readonly sessionToken?: SecretPlace;
      readonly zone?: string;
      readonly api?: string;
    }
  | { readonly type: "acme-dns"; readonly api: string; readonly registrations: string }
  | { readonly type: "exec"; readonly command: readonly [string, ...string[]]; readonly timeoutMs?: number };

export interface ProviderSurroundings {
  readonly lookup: DnsLookup;
  readonly clock: Clock;
  readonly random: Random;
  readonly fetch: Fetch;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Whole or not at all, readable by us alone. */
  readonly writeFile: (path: string, text: string) => Promise<void>;
}

/** @throws {Fault} CERT_CHALLENGE_SECRET where a secret stands in place of where it is */
export function dnsProvider(settings: DnsProviderSettings, around: ProviderSurroundings): DnsProvider {
  const { env } = around;
  switch (settings.type) {
    case "rfc2136":
      return rfc2136Provider({ ...around, ...settings, secret: secretOf(settings.secret, env) });
    case "cloudflare":
      return cloudflareProvider({ ...around, ...settings, token: secretOf(settings.token, env) });
    case "route53": {
      const { accessKeyId, secretAccessKey, sessionToken, ...rest } = settings;
      return route53Provider({
        ...{ ...around, ...rest },
        accessKeyId: secretOf(accessKeyId, env),
        secretAccessKey: secretOf(secretAccessKey, env),
        ...(sessionToken === undefined ? {} : { sessionToken: secretOf(sessionToken, env) }),
      });
    }
    case "acme-dns":
      return acmeDnsProvider({ ...around, ...settings });
    case "exec":
      return execProvider({ ...around, ...settings });
  }
}
