import { Fault, messageOf } from "../base/fault.ts";
import type { Caller } from "../identity/caller.ts";
import { type HeaderPair, identityHeaders, LONGEST_VALUE } from "../identity/headers.ts";
import type { HttpHandler } from "../wire/serve-config.ts";
import { originOf } from "./asked-name.ts";
import type { Front, ProxyOptions } from "./options.ts";

/** Well below what is left of an assertion's life. */
const KEEP_MS = 1000;

/** What of a request the identity fields depend on, beside who asks. */
export interface AskedFor {
  readonly host: string;
  readonly handler: HttpHandler;
  readonly hops: number;
}

interface Kept extends AskedFor {
  /** Of the callers: grows with every map and policy. */
  readonly epoch: number;
  /** Monotonic ms. */
  readonly at: number;
  readonly pairs: readonly HeaderPair[];
}

type IdentityOptions = Pick<ProxyOptions, "callers" | "assertions" | "clock" | "log" | "count">;

/** Who asks, and the fields that tell a backend so. */
export class RequestIdentity {
  readonly #options: IdentityOptions;
  readonly #kept: WeakMap<Front, Kept> = new WeakMap();

  constructor(options: IdentityOptions) {
    this.#options = options;
  }

  /** In doubt it is nobody's request (ID-3). */
  callerOf({ proof }: Front): Caller | Fault {
    const { callers, clock } = this.#options;
    try {
      return callers.of(proof, clock.now());
    } catch (error) {
      return new Fault("PROXY_CALLER_LOOKUP", `Cannot identify the caller: ${messageOf(error)}`, { cause: error });
    }
  }

  /** What the connection's last request was given, while nothing that it says can have changed (ID-9). */
  kept(front: Front, caller: Caller, { host, handler, hops }: AskedFor): readonly HeaderPair[] | undefined {
    if (!isKept(caller)) return undefined;
    const { callers, clock } = this.#options;
    const kept = this.#kept.get(front);
    if (kept === undefined || kept.epoch !== callers.epoch || kept.host !== host || kept.handler !== handler) return;
    if (kept.hops !== hops) return;
    return clock.now() - kept.at < KEEP_MS ? kept.pairs : undefined;
  }

  async fields(front: Front, caller: Caller, asked: AskedFor): Promise<readonly HeaderPair[]> {
    const { host, handler, hops } = asked;
    const { callers, assertions, log, count, clock } = this.#options;
    const { epoch } = callers;
    const isFunnel = front.proof.kind === "ingress";
    const names = handler.AcceptAppCaps ?? [];
    const { address } = front.proof.destination;
    const capabilities = isFunnel || names.length === 0 ? undefined : callers.capabilities(caller, address, names);
    const isTls = front.serverName !== undefined;
    const audience = originOf(front, host);
    const assertion = assertions === undefined ? undefined : await assertions.sign(caller, audience, capabilities);
    const pairs = identityHeaders({ caller, capabilities, isFunnel, isTls, host, assertion, hops }, (name) => {
      log.warn("proxy.header_omitted", { name, longest: LONGEST_VALUE });
      count?.("header_omitted");
    });
    if (isKept(caller)) this.#kept.set(front, { ...asked, epoch, at: clock.now(), pairs });
    return pairs;
  }
}

/** Guests come and go on one connection: nothing that one of them was given is kept. */
const isKept = ({ kind }: Caller): boolean => kind !== "guest";
