import { parseAddressPort } from "../base/address.ts";
import { toHex } from "../base/bytes.ts";
import { messageOf } from "../base/fault.ts";
import { systemRandom } from "../base/random.ts";
import type { BudgetLine } from "../certs/budget.ts";
import type { CertificateStatus } from "../certs/keeper.ts";
import type { Place } from "../config/node-serve-config.ts";
import { serveConfigEtag } from "../config/serve-document.ts";
import { Observations } from "../funnel/observations.ts";
import type { PingKind } from "../mesh/node.ts";
import { capabilitiesOf } from "../wire/capabilities.ts";
import { CLAIMS } from "../wire/claims.ts";
import { foldName, wildcardOf } from "../wire/host-name.ts";
import {
  applyMaskedPrefs,
  type IpnStatus,
  type MaskedPrefs,
  type NetcheckDocument,
  NOTIFY,
  type Notify,
  type PingResult,
  type Prefs,
  type QueryFeatureResponse,
  STATE_NUMBERS,
  type StartOptions,
  type StoredServeConfig,
  type WhoIsResponse,
} from "../wire/ipn.ts";
import type { NetworkMap } from "../wire/network-map.ts";
import { leaseKey } from "../wire/serve-config.ts";
import { splitSite } from "../wire/site.ts";
import type { Node } from "../wire/tailcfg.ts";
import { observedCertificate } from "./certificates/certificate-report.ts";
import { bugReport, netcheckDocument, profileDocument } from "./diagnosis.ts";
import { queryDns } from "./dns/dns-query.ts";
import type { CommandDoors } from "./doors/command-doors.ts";
import { DoorAdmin } from "./doors/door-admin.ts";
import { effectiveConfig } from "./effective-config.ts";
import { mayFunnel } from "./funnel/funnel-question.ts";
import type { VisitorRulebook } from "./funnel/visitor-rulebook.ts";
import type { Gateway } from "./gateway.ts";
import type { Inspection } from "./inspection.ts";
import type { LocalApiBackend } from "./localapi/index.ts";
import { gatewayHealth } from "./metrics.ts";
import { refusalOfPrefs } from "./preferences.ts";
import { backendState, statusDocument, whoIsDocument } from "./status-document.ts";

/** Upstream `tsconst.HealthWarnableTLSCertPending`. */
const CERT_PENDING = "tls-cert-pending";
const PING_KINDS: readonly PingKind[] = ["disco", "TSMP", "ICMP", "peerapi"];

/** The gateway as its local admin interface sees it. */
export class GatewayAdmin implements LocalApiBackend {
  readonly doors: DoorAdmin;
  readonly inspection: Inspection;
  readonly observations: Observations;
  readonly commandDoors: CommandDoors;
  readonly visitorRules: VisitorRulebook;
  readonly #gateway: Gateway;
  readonly #watchers: Set<(notify: Notify) => void> = new Set();
  /** Of the newest `start`, until it is used. */
  #offeredKey: string | undefined;

  constructor(gateway: Gateway) {
    this.#gateway = gateway;
    this.inspection = gateway.inspection;
    this.doors = new DoorAdmin(gateway.gatekeeper, () => gateway.standingDoors);
    this.commandDoors = gateway.commandDoors;
    this.visitorRules = gateway.visitorRules;
    this.observations = new Observations(
      (target) => {
        const { AllowFunnel: open = {}, TCP, Web } = effectiveConfig(gateway.storedServeConfig);
        const { name, port } = splitSite(target);
        const isLeased = open[leaseKey(port)] === true && target === `${gateway.name}:${port}`;
        const above = `${wildcardOf(name)}:${port}`;
        const isUnder = Web?.[target] === undefined && open[above] === true && foldName(name) === name;
        const site = isUnder ? above : target;
        return open[site] === true || isLeased ? JSON.stringify([TCP?.[port], Web?.[site]]) : undefined;
      },
      () => gateway.node.wall(),
    );
    gateway.node.onState((state) => {
      this.#notify({ State: STATE_NUMBERS[backendState(gateway.node)] });
      if (state.kind === "needs-login" && state.url !== undefined) this.#notify({ BrowseToURL: state.url });
    });
    gateway.certificates.onWaiting(() => this.#notify({ Health: this.#health() }));
    gateway.node.onMap((map) =>
      this.#notify({ SelfChange: map.self, NetMap: netMap(map), State: STATE_NUMBERS[backendState(gateway.node)] }),
    );
  }

  async status({ peers }: { readonly peers: boolean }): Promise<IpnStatus> {
    const document = statusDocument(this.#gateway.node, peers);
    const { certificates } = this.#gateway;
    const observed = certificates.list().flatMap((one) => (one.state === "none" ? [] : [observedCertificate(one)]));
    return {
      ...document,
      Self: this.#withAnswers(document.Self),
      CertDomains: this.certDomains(),
      ...(observed.length === 0 ? {} : { Certificates: observed }),
      Health: [...(document.Health ?? []), ...certificates.problems, ...this.#gateway.warnings],
    };
  }

  /** An answer to what we claimed before is none to what we claim now. */
  #withAnswers(self: IpnStatus["Self"]): IpnStatus["Self"] {
    const { answers } = this.#gateway.claims;
    return answers === undefined ? self : { ...self, CapMap: { ...self.CapMap, [CLAIMS]: answers } };
  }

  serveConfig(): { config: StoredServeConfig; etag: string } {
    const config = this.#gateway.storedServeConfig;
    return { config, etag: serveConfigEtag(config) };
  }

  async setServeConfig(config: StoredServeConfig, ifMatch?: string): Promise<void> {
    await this.#gateway.setServeConfig(config, ifMatch);
  }

  get demandsDoors(): boolean {
    return this.#gateway.demandsDoors;
  }

  doorAt(place: Place): string | undefined {
    return this.#gateway.doorAt(place);
  }

  async whois(address: string): Promise<WhoIsResponse | undefined> {
    const { map } = this.#gateway.node;
    if (map === undefined) return undefined;
    const plain = parseAddressPort(address)?.address ?? address;
    const nodes: readonly Node[] = [map.self, ...map.peers.values()];
    const node = nodes.find(
      ({ Key, Addresses }) => Key === plain || Addresses.some((prefix) => prefix.split("/")[0] === plain),
    );
    const profile = node === undefined ? undefined : map.users.get(node.User);
    if (node === undefined || profile === undefined) return undefined;
    const source = node.Addresses[0]?.split("/")[0] ?? "";
    const destination = this.#gateway.node.addresses.find((own) => own.includes(":") === source.includes(":"));
    const capabilities = destination === undefined ? {} : capabilitiesOf(map.packetFilter, source, destination);
    return whoIsDocument(node, profile, capabilities);
  }

  async ping(ip: string, type: string, _size: number, signal: AbortSignal): Promise<PingResult> {
    const { node } = this.#gateway;
    const peer = node.peerByAddress(ip);
    const empty = {
      IP: ip,
      NodeIP: ip,
      NodeName: peer?.Name.split(".")[0] ?? "",
      Err: "",
      LatencySeconds: 0,
      Endpoint: "",
      DERPRegionID: 0,
      DERPRegionCode: "",
    };
    const kind = PING_KINDS.find((known) => known.toLowerCase() === type.toLowerCase());
    if (kind === undefined) return { ...empty, Err: `unknown ping type "${type.slice(0, 20)}"` };
    try {
      const { path, latencyMs, peerApiPort, peerApiUrl } = await node.ping(ip, { kind, signal });
      const region = Number(/^derp (\d+)$/.exec(path)?.[1] ?? 0);
      return {
        ...empty,
        LatencySeconds: latencyMs / 1000,
        Endpoint: kind === "disco" && region === 0 ? path : "",
        DERPRegionID: kind === "disco" ? region : 0,
        DERPRegionCode: kind === "disco" ? (node.map?.derpMap.Regions?.[String(region)]?.RegionCode ?? "") : "",
        ...(peerApiPort === undefined ? {} : { PeerAPIPort: peerApiPort }),
        ...(peerApiUrl === undefined ? {} : { PeerAPIURL: peerApiUrl }),
      };
    } catch (thrown) {
      return { ...empty, Err: messageOf(thrown) };
    }
  }

  prefs(): Prefs {
    return this.#gateway.preferences.now;
  }

  operatorUid(): number | undefined {
    return this.#gateway.preferences.operatorUid();
  }

  async checkPrefs(prefs: Prefs): Promise<string | undefined> {
    return refusalOfPrefs(prefs, this.prefs());
  }

  async editPrefs(change: MaskedPrefs): Promise<Prefs> {
    await this.#set(applyMaskedPrefs(this.prefs(), change));
    return this.prefs();
  }

  async start(options: StartOptions): Promise<void> {
    this.#offeredKey = options.AuthKey === "" ? undefined : options.AuthKey;
    if (options.UpdatePrefs) await this.#set({ ...this.prefs(), ...options.UpdatePrefs });
    if (this.#offeredKey !== undefined) this.#gateway.node.login({ authKey: this.#offeredKey });
  }

  /** With the key of a `start` right before, it is `up --force-reauth --auth-key`: a new node key, and nobody is asked. */
  async loginInteractive(): Promise<void> {
    const authKey = this.#offeredKey;
    this.#offeredKey = undefined;
    if (!this.prefs().WantRunning) await this.#set({ ...this.prefs(), WantRunning: true });
    this.#gateway.node.login(authKey === undefined ? {} : { authKey, isRenewal: true });
  }

  async logout(): Promise<void> {
    await this.#gateway.logout();
    await this.#set({ ...this.prefs(), LoggedOut: true });
  }

  async #set(prefs: Prefs): Promise<void> {
    await this.#gateway.setPreferences(prefs);
    this.#notify({ Prefs: this.prefs() });
  }

  watch(mask: number, onNotify: (notify: Notify) => void): { session: string; close(): void } {
    const { map } = this.#gateway.node;
    const first: Notify = {
      ...((mask & NOTIFY.initialState) === 0 ? {} : { State: STATE_NUMBERS[backendState(this.#gateway.node)] }),
      ...((mask & NOTIFY.initialPrefs) === 0 ? {} : { Prefs: this.prefs() }),
      ...((mask & NOTIFY.initialNetMap) === 0 ? {} : { SelfChange: map?.self ?? null, NetMap: netMap(map) }),
      ...((mask & NOTIFY.initialHealth) === 0 ? {} : { Health: this.#health() }),
      ...((mask & NOTIFY.initialStatus) === 0 ? {} : { InitialStatus: statusDocument(this.#gateway.node, true) }),
    };
    if (Object.keys(first).length > 0) onNotify(first);
    this.#watchers.add(onNotify);
    return { session: toHex(systemRandom(8)), close: () => void this.#watchers.delete(onNotify) };
  }

  /** Who may be public is the policy's word; all else this gateway does by itself. */
  async queryFeature(feature: string): Promise<QueryFeatureResponse> {
    return feature === "funnel" ? mayFunnel(this.#gateway.node) : { Complete: true };
  }

  certDomains(): readonly string[] | null {
    const { names } = this.#gateway.certificates;
    return names.length === 0 ? null : names;
  }

  async certificate(domain: string, minValiditySeconds: number): Promise<{ key: string; chain: string }> {
    return this.#gateway.certificates.certificate(domain, { minValidity: minValiditySeconds * 1000 });
  }

  certificates(): readonly CertificateStatus[] {
    return this.#gateway.certificates.list();
  }

  certificateBudget(): Promise<readonly BudgetLine[]> {
    return this.#gateway.certificates.budget();
  }

  /** What it is like now; key and chain are for `cert` alone. */
  async renewCertificate(name: string): Promise<{ readonly names: readonly string[]; readonly notAfter: number }> {
    const { names, notAfter } = await this.#gateway.certificates.renew(name);
    return { names, notAfter };
  }

  revokeCertificate(name: string): Promise<void> {
    return this.#gateway.certificates.revoke(name);
  }

  rollAccountKey(authority: string): Promise<void> {
    return this.#gateway.certificates.rollAccountKey(authority);
  }

  certificateAdvice(name: string, signal: AbortSignal): Promise<string> {
    return this.#gateway.certificates.advice(name, signal);
  }

  metrics(): Promise<string> {
    return this.#gateway.metrics.text();
  }

  health(): { readonly isHealthy: boolean; readonly problems: readonly string[] } {
    const { isHealthy, problems } = gatewayHealth(this.#gateway.node);
    return { isHealthy, problems: [...problems, ...this.#gateway.certificates.problems] };
  }

  async jwks(): Promise<unknown> {
    return this.#gateway.assertions.jwks;
  }

  dnsQuery(name: string, type: string): Promise<Uint8Array | undefined> {
    return queryDns((...query) => this.#gateway.node.queryDns(...query), name, type);
  }

  dnsConfig(): unknown {
    return this.#gateway.node.map?.dns;
  }

  profile(): unknown {
    return profileDocument(this.#gateway);
  }

  nodeKey(): string {
    return this.#gateway.node.nodeKeyText;
  }

  markLog(note: string): string {
    return this.#gateway.markLog(note);
  }

  netcheck(): NetcheckDocument {
    return netcheckDocument(this.#gateway.node);
  }

  bugReport(): unknown {
    return bugReport(this.#gateway, this.#gateway.node.wall());
  }

  authority(): Promise<string> {
    return this.#gateway.certificates.authority();
  }

  derpMap(): unknown {
    return this.#gateway.node.map?.derpMap;
  }

  /** `health.State` with the one warning that upstream's `cert` waits for. */
  #health(): unknown {
    const { waiting } = this.#gateway.certificates;
    if (waiting.length === 0) return { Warnings: null };
    const domains = waiting.join(", ");
    const pending = {
      WarnableCode: CERT_PENDING,
      Severity: "low",
      Title: "Fetching TLS certificate",
      Text: `Fetching TLS certificate via ACME for: ${domains}`,
      Args: { domains },
    };
    return { Warnings: { [CERT_PENDING]: pending } };
  }

  #notify(notify: Notify): void {
    for (const watcher of this.#watchers) watcher(notify);
  }
}

/** What clients up to 1.96 look at: `dns status` at the DNS configuration, `up --force-reauth` at the key. */
function netMap(map: NetworkMap | undefined): object | null {
  if (map === undefined) return null;
  const { self, dns } = map;
  return { SelfNode: self, NodeKey: self.Key, Name: self.Name, DNS: dns };
}
