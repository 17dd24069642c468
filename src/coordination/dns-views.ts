import type { DnsConfig, DnsRecord } from "../wire/tailcfg.ts";
import { certificateNames } from "./certificate-names.ts";
import { type DnsSettings, dnsSettingsOf, sharedDnsConfig } from "./dns-settings.ts";
import type { Ledger } from "./ledger.ts";
import type { NodeRecord } from "./records.ts";
import type { Service } from "./services.ts";

export interface DnsViewsOptions {
  readonly ledger: Ledger;
  readonly baseDomain: string;
  /** Nodes can have certificates for their names. */
  readonly certificates: boolean;
}

/** What each node is told of names: mostly the same as all others. */
export class DnsViews {
  readonly #options: DnsViewsOptions;
  #shared: { readonly settings: DnsSettings; readonly config: DnsConfig } | undefined;

  constructor(options: DnsViewsOptions) {
    this.#options = options;
  }

  /** `services` are those that it hosts or may reach. */
  of(node: NodeRecord, services: readonly Service[]): DnsConfig {
    const { ledger, baseDomain, certificates } = this.#options;
    const shared = this.#sharedConfig();
    const records = services.flatMap((service) => this.#recordsOf(service));
    if (!certificates && records.length === 0) return shared;
    return {
      ...shared,
      ...(records.length === 0 ? {} : { ExtraRecords: [...(shared.ExtraRecords ?? []), ...records] }),
      ...(certificates ? { CertDomains: certificateNames(node, ledger, baseDomain) } : {}),
    };
  }

  #recordsOf({ name, ipv4, ipv6 }: Service): readonly DnsRecord[] {
    const Name = `${name.slice("svc:".length)}.${this.#options.baseDomain}`;
    return [
      { Name, Type: "A", Value: ipv4 },
      { Name, Type: "AAAA", Value: ipv6 },
    ];
  }

  #sharedConfig(): DnsConfig {
    const settings = dnsSettingsOf(this.#options.ledger);
    if (this.#shared?.settings !== settings) {
      this.#shared = { settings, config: sharedDnsConfig(settings, this.#options.baseDomain) };
    }
    return this.#shared.config;
  }
}
