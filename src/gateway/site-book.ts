import { loadJson, type SavedForm, saveJson } from "../base/saved-json.ts";
import type { Store } from "../base/store.ts";
import { renamedSites } from "../config/renamed-node.ts";
import type { StoredServeConfig } from "../wire/ipn.ts";
import { siteOf, splitSite } from "../wire/site.ts";

export interface SiteBookForm<Said> extends SavedForm<ReadonlyMap<string, Said>> {
  /** What `read` reads. */
  readonly write: (bySite: ReadonlyMap<string, Said>) => unknown;
  /** Sites at the most. */
  readonly most: number;
  /** Is a site there, by this configuration? */
  readonly sitesOf: (config: StoredServeConfig) => (site: string) => boolean;
}

/**
 * What commands have said of sites (`name:port`, or `name:port/mount`) and upstream's configuration has no room for: a stock client that changes
 * something else would write it back without. So it stands in a file of its own.
 */
export class SiteBook<Said> {
  /** Called when something else is said. */
  onChange: () => void = () => {};
  protected bySite: ReadonlyMap<string, Said>;
  readonly #store: Store;
  readonly #form: SiteBookForm<Said>;
  #lastWrite: Promise<void> = Promise.resolve();

  protected constructor(store: Store, form: SiteBookForm<Said>, bySite: ReadonlyMap<string, Said>) {
    this.#store = store;
    this.#form = form;
    this.bySite = bySite;
  }

  /** @throws {Fault} STATE_DAMAGED: better nobody is served than somebody from whom a site was closed. */
  protected static async load<Said>(store: Store, form: SiteBookForm<Said>): Promise<ReadonlyMap<string, Said>> {
    return (await loadJson(store, form)) ?? new Map();
  }

  protected hasRoomFor(site: string): boolean {
    return this.bySite.has(site) || this.bySite.size < this.#form.most;
  }

  /** In the place of what was said before; `undefined` takes that back. */
  protected async say(site: string, said: Said | undefined): Promise<void> {
    if (said === undefined && !this.bySite.has(site)) return;
    await this.#change((bySite) => {
      const others = [...bySite].filter(([other]) => other !== site);
      return new Map(said === undefined ? others : [...others, [site, said]]);
    });
  }

  /** It goes with its site: what is there later by another command is another matter. */
  async settle(before: StoredServeConfig, after: StoredServeConfig): Promise<void> {
    const [had, has] = [this.#form.sitesOf(before), this.#form.sitesOf(after)];
    const isKept = ([site]: readonly [string, Said]): boolean => !had(site) || has(site);
    if (![...this.bySite].every(isKept)) await this.#change((bySite) => new Map([...bySite].filter(isKept)));
  }

  /** What is said of a node's own sites goes with its name: at once, and then into the file. */
  async rename(from: string, to: string): Promise<void> {
    const before = Object.fromEntries(this.bySite);
    if (!Object.keys(before).some((site) => splitSite(siteOf(site)).name === from.toLowerCase())) return;
    this.bySite = new Map(Object.entries(renamedSites(before, from, to.toLowerCase())));
    await this.#change((bySite) => bySite);
  }

  /** One after the other: each is made of what the one before it has left. */
  #change(change: (bySite: ReadonlyMap<string, Said>) => ReadonlyMap<string, Said>): Promise<void> {
    const write = async (): Promise<void> => {
      await saveJson(this.#store, this.#form.file, this.#form.write(change(this.bySite)));
      this.bySite = change(this.bySite); // which a rename may have changed meanwhile
      this.onChange();
    };
    const written = this.#lastWrite.then(write);
    this.#lastWrite = written.catch(() => undefined);
    return written;
  }
}
