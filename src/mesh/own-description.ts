import type { AddressBytes } from "../base/address.ts";
import { capabilityValues } from "../wire/capabilities.ts";
import type { NetworkMap } from "../wire/network-map.ts";
import type { Hostinfo, NetInfo } from "../wire/tailcfg.ts";
import { VISITOR_RULES } from "../wire/visitor-rules.ts";
import type { FunnelWish } from "./control/control-client.ts";
import { type OwnWish, ownHostinfo } from "./own-hostinfo.ts";

interface OwnEndpoint {
  readonly endpoint: string;
  readonly type: number;
}

/** What the server is to know of us as it stands now; whoever changes it need not care whether that is news. */
export class OwnDescription {
  readonly #tags: readonly string[] | undefined;
  readonly #backendLogId: string;
  readonly #onNews: () => void;
  #wish: OwnWish & FunnelWish;
  #endpoints: readonly OwnEndpoint[] = [];
  #netInfo: NetInfo = {};
  #takesVisitorRules = false;

  constructor(wish: OwnWish, tags: readonly string[] | undefined, backendLogId: string, onNews: () => void) {
    this.#wish = wish;
    this.#tags = tags;
    this.#backendLogId = backendLogId;
    this.#onNews = onNews;
  }

  get services(): OwnWish["services"] {
    return this.#wish.services;
  }

  get endpoints(): readonly OwnEndpoint[] {
    return this.#endpoints;
  }

  set endpoints(endpoints: readonly OwnEndpoint[]) {
    this.#endpoints = endpoints;
    this.#onNews();
  }

  get netInfo(): NetInfo {
    return this.#netInfo;
  }

  addNetInfo(info: NetInfo): void {
    this.#netInfo = { ...this.#netInfo, ...info };
    this.#onNews();
  }

  tell(wish: Partial<OwnWish & FunnelWish>): void {
    const before = JSON.stringify(this.#wish);
    this.#wish = { ...this.#wish, ...wish };
    if (JSON.stringify(this.#wish) !== before) this.#onNews();
  }

  /** Whom the owner keeps out is told to a server that knows what to do with it, and to no other. */
  setServer(map: NetworkMap | undefined): void {
    const wasKeptBack = !this.#takesVisitorRules;
    this.#takesVisitorRules = capabilityValues(map?.self.CapMap, VISITOR_RULES) !== undefined;
    const { visitorRules = [] } = this.#wish;
    if (wasKeptBack && this.#takesVisitorRules && visitorRules.length > 0) this.#onNews();
  }

  funnelWish(): FunnelWish {
    return this.#takesVisitorRules ? this.#wish : { ...this.#wish, visitorRules: [] };
  }

  /** `peerApi`: our addresses that answer it. */
  hostinfo(peerApi: readonly AddressBytes[]): Hostinfo {
    const facts = { tags: this.#tags, backendLogId: this.#backendLogId, netInfo: this.#netInfo, peerApi };
    return ownHostinfo({ ...this.#wish, ...facts });
  }
}
