import { Fault, messageOf } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import type { Store } from "../base/store.ts";
import { renamedNode } from "../config/renamed-node.ts";
import { serveConfigEtag } from "../config/serve-document.ts";
import type { StoredServeConfig } from "../wire/ipn.ts";
import type { ServeConfig } from "../wire/serve-config.ts";
import { concealed, effectiveConfig, isOfForeground } from "./effective-config.ts";
import { settledLeases } from "./funnel/lease-marks.ts";
import { keepConfig, NOBODY, type Owner } from "./kept-state.ts";

/** Who has a say in what is served, and who is told. */
export interface ServedConfigHost {
  readonly store: Store;
  readonly log: Log;
  /** @throws {Fault} GATEWAY_TARGET_REFUSED */
  check(config: StoredServeConfig): void;
  /** @throws {Fault} GATEWAY_DOOR_DEMANDED */
  checkPlaces(next: ServeConfig, before: ServeConfig): void;
  /** It may be another one from here on: whoever is no longer welcome is to go. */
  expose(): void;
  /** It is another one, and so is what it needs, and what there is to be said of it. */
  changed(): void;
  /** A write is over: what else commands said of places that are gone is forgotten. */
  settle(before: StoredServeConfig, config: StoredServeConfig): Promise<void>;
  /** The node has another name. */
  renamed(before: string, now: string): void;
}

export interface ServedFrom {
  readonly stored: StoredServeConfig;
  readonly owner: Owner;
  readonly isDeclared: boolean;
}

/** What is served here: as it was set, as it is kept, and as it is in force. */
export class ServedConfig {
  readonly #host: ServedConfigHost;
  #stored: StoredServeConfig;
  #current: ServeConfig;
  /** Whose it is. */
  #owner: Owner;
  /** It is as a file declares it: no command has changed it since. */
  #isDeclared: boolean;
  #declarations = 0;
  /** Settled as soon as the last write is over. */
  #written: Promise<void> = Promise.resolve();

  constructor(host: ServedConfigHost, { stored, owner, isDeclared }: ServedFrom) {
    this.#host = host;
    this.#stored = stored && settledLeases(stored, { before: null, ownName: owner.name, isEdit: false });
    this.#current = effectiveConfig(this.#stored);
    this.#owner = owner;
    this.#isDeclared = isDeclared;
  }

  /** Foreground parts apart; null before the first write. */
  get stored(): StoredServeConfig {
    return this.#stored;
  }

  /** In force. */
  get current(): ServeConfig {
    return this.#current;
  }

  /** Sites that were turned off by a write that failed: nobody gets there, but what is kept has them public. */
  get concealed(): readonly string[] {
    const { AllowFunnel: kept = {} } = effectiveConfig(this.#stored);
    const { AllowFunnel: open = {} } = this.#current;
    return Object.keys(kept).filter((site) => kept[site] === true && open[site] !== true);
  }

  /** Empty before the first map. */
  get ownerName(): string {
    return this.#owner.name;
  }

  /**
   * Writes are one after the other. `ifMatch`: it was made of the version with this tag, which has to be the last one still.
   *
   * @throws {Fault} GATEWAY_ETAG_MISMATCH, GATEWAY_TARGET_REFUSED, GATEWAY_DOOR_DEMANDED
   */
  async set(given: StoredServeConfig, ifMatch?: string): Promise<void> {
    this.#settled(given, ifMatch); // whatever becomes of the rest, of other writes and of the disk (FN-8)
    const written = this.#written.then(() => this.#write(given, ifMatch));
    this.#written = written.catch(() => undefined);
    await written;
  }

  /** What is not to be public any more is not from here on. */
  #settled(given: StoredServeConfig, ifMatch: string | undefined): StoredServeConfig {
    const found = serveConfigEtag(this.#stored);
    if (ifMatch !== undefined && ifMatch !== found) throw overtaken(`found tag ${found}, wanted ${ifMatch}`);
    const [before, ownName, isEdit] = [this.#stored, this.#owner.name, ifMatch !== undefined];
    const config = given && settledLeases(given, { before, ownName, isEdit });
    this.#current = concealed(this.#current, config);
    this.#host.expose();
    return config;
  }

  async #write(given: StoredServeConfig, ifMatch: string | undefined): Promise<void> {
    const owner = this.#owner;
    const config = this.#settled(given, ifMatch);
    const host = this.#host;
    host.check(config);
    host.checkPlaces(effectiveConfig(config), effectiveConfig(this.#stored));
    const [before, declarations] = [this.#stored, this.#declarations];
    if (!isOfForeground(before, config)) {
      await keepConfig(host.store, config, owner).catch((error: unknown) => {
        if (this.concealed.length === 0) throw error;
        const closed = "what was public is closed until it is restarted";
        throw new Fault("STATE_UNKEPT", `${messageOf(error)}: ${closed}`, { cause: error });
      });
      if (declarations !== this.#declarations) throw overtaken("a file was declared meanwhile, wanted none");
      this.#isDeclared = false;
    }
    this.#take(config);
    if (owner !== this.#owner) this.#rename(owner); // meanwhile
    host.expose();
    host.changed();
    await host.settle(before, config);
  }

  /** What a file declares is in force until the next declaration, and is not stored; `undefined`: what there is goes on. True: it is news. */
  declare(declared: ServeConfig | undefined, ownName: string): boolean {
    if (declared !== undefined && ownName === "") this.#owner = NOBODY;
    const given = declared && settledLeases(declared, { before: null, ownName, isEdit: false });
    const config = given ?? this.#stored;
    this.#host.check(config);
    this.#isDeclared ||= declared !== undefined;
    const isNews = serveConfigEtag(config) !== serveConfigEtag(this.#stored);
    if (declared !== undefined) this.#declarations++;
    if (isNews) this.#take(config);
    return isNews;
  }

  #take(config: StoredServeConfig): void {
    this.#stored = config;
    this.#current = effectiveConfig(config);
  }

  /** To be called with every map: what is served goes with the node when that is renamed. */
  follow(id: string, name: string): void {
    const before = this.#owner;
    if (name === "" || (before.id === id && before.name === name)) return;
    this.#owner = { id, name };
    this.#rename(before);
  }

  /** Another node, which is what we are after a login elsewhere, is no rename: what was for one network is not for another. */
  #rename({ id, name }: Owner): void {
    const [now, config] = [this.#owner, this.#stored];
    const isSame = this.#isDeclared || name === "" || id === now.id;
    if (config !== null && isSame && name !== now.name) {
      const renamed = renamedNode(config, name, now.name);
      const open = renamedNode(this.#current, name, now.name); // without what is just being turned off
      this.#take(settledLeases(renamed, { before: null, ownName: now.name, isEdit: false }));
      this.#current = concealed(this.#current, open);
      this.#host.renamed(name, now.name);
    }
    if (config !== null && !this.#isDeclared) this.keep(keepConfig(this.#host.store, this.#stored, now));
  }

  /** Nobody waits for it. */
  keep(written: Promise<void>): void {
    written.catch((error: unknown) => this.#host.log.error("serve.unkept", { error: messageOf(error) }));
  }
}

function overtaken(found: string): Fault {
  return new Fault("GATEWAY_ETAG_MISMATCH", `Cannot set the serve configuration: ${found}`, {
    hint: "Somebody changed it meanwhile: read it again.",
  });
}
