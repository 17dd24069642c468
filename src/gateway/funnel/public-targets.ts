import { findTcp, hasOwnSite } from "../../proxy/serve-lookup.ts";
import { foldName, wildcardOf } from "../../wire/host-name.ts";
import { leaseKey, type ServeConfig } from "../../wire/serve-config.ts";

/** What a relay may be let in for. */
export interface Target {
  /** `name:port`, as the relay wrote it. */
  readonly text: string;
  readonly name: string;
  readonly port: number;
  /** `lease`: the port is public as it is, whatever is said on it. `name`: to TLS clients that ask for the name. */
  readonly right: "lease" | "name";
  /** As it stands in our configuration: all names under a wildcard are one. */
  readonly site: string;
}

const MOST_KNOWN = 4096;

/** What our own configuration makes public, letter for letter (FN-6). */
export class PublicTargets {
  readonly #configNow: () => ServeConfig;
  readonly #ownName: () => string;
  /** What was public by that configuration, as it was asked for. */
  readonly #known: Map<string, Target> = new Map();
  #config: ServeConfig | undefined;

  /** `ownName`: this node's full name, under which raw ports are delivered. */
  constructor(config: () => ServeConfig, ownName: () => string) {
    this.#configNow = config;
    this.#ownName = ownName;
  }

  /** Of `name:port`, whose colon is at `colon`. It is looked up once while configuration and own name are the same. */
  find(text: string, colon: number): Target | undefined {
    const config = this.#configNow();
    if (config !== this.#config) {
      this.#config = config;
      this.#known.clear();
    }
    const known = this.#known.get(text);
    if (known !== undefined) return known;
    const target = this.#read(text, text.slice(0, colon), text.slice(colon + 1));
    if (this.#known.size >= MOST_KNOWN) this.#known.clear();
    if (target !== undefined) this.#known.set(text, target);
    return target;
  }

  /** To be called when our own name may be another. */
  forget(): void {
    this.#known.clear();
  }

  /** By the configuration of now, and by the same right. */
  isStillPublic({ text, name, port, right }: Target): boolean {
    return this.#rightTo(text, name, port) === right;
  }

  #read(text: string, host: string, portText: string): Target | undefined {
    const port = /^[1-9]\d{0,4}$/.test(portText) ? Number(portText) : 0;
    const name = foldName(host);
    if (port === 0 || port > 65_535 || name === undefined) return undefined;
    const right = this.#rightTo(text, name, port);
    if (right === undefined) return undefined;
    const isExact = right === "lease" || Object.hasOwn(this.#configNow().AllowFunnel ?? {}, text);
    return { text, name, port, right, site: isExact ? text : `${wildcardOf(name)}:${port}` };
  }

  #rightTo(text: string, name: string, port: number): Target["right"] | undefined {
    const config = this.#configNow();
    const { AllowFunnel } = config;
    const handler = findTcp(config, port);
    const isTcp = (handler?.TCPForward ?? "") !== "";
    if (isTcp && isOn(AllowFunnel, leaseKey(port)) && text === `${foldName(this.#ownName())}:${port}`) {
      return "lease";
    }
    if (!isOn(AllowFunnel, text)) {
      // What stands under a name of its own below a public wildcard is public when that name is.
      const isOwn = Object.hasOwn(AllowFunnel ?? {}, `${name}:${port}`) || hasOwnSite(config, name, port);
      if (isOwn || !isOn(AllowFunnel, `${wildcardOf(name)}:${port}`)) return undefined;
    }
    // Without TLS there is no name to agree with.
    return isTcp || handler?.HTTPS === true ? "name" : undefined;
  }
}

function isOn(allowed: ServeConfig["AllowFunnel"], key: string): boolean {
  return allowed !== undefined && Object.hasOwn(allowed, key) && allowed[key] === true;
}
