import { loadJson, type SavedForm, saveJson } from "../base/saved-json.ts";
import type { Store } from "../base/store.ts";
import type { StoredServeConfig } from "../wire/ipn.ts";

export interface SiteBookForm<Said> extends SavedForm<ReadonlyMap<string, Said>> {
  /** What `read` reads. */
  readonly write: (bySite: ReadonlyMap<string, Said>) => unknown;
  /** Sites at the most. */
  readonly most: number;
  /** Is a site there, by this configuration? */
  readonly sitesOf: (config: StoredServeConfig) => (site: string) => boolean;
}

/**
 * What commands have said of sites (`name:port`) and upstream's configuration has no room for: a stock client that changes
 * something else would write it back without. So it stands in a file of its own.
 */
export class SiteBook<Said> {
  /** Called when something else is said. */
  onChange: () => void = () => {};
  protected bySite: ReadonlyMap<string, Said>;
  readonly #store: Store;
  readonly #form: SiteBookForm<Said>;

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
    const next = new Map(this.bySite);
    if (said === undefined) next.delete(site);
    else next.set(site, said);
    await this.#keep(next);
  }

  /** It goes with its site: what is there later by another command is another matter. */
  async settle(before: StoredServeConfig, after: StoredServeConfig): Promise<void> {
    const [had, has] = [this.#form.sitesOf(before), this.#form.sitesOf(after)];
    const kept = [...this.bySite].filter(([site]) => !had(site) || has(site));
    if (kept.length < this.bySite.size) await this.#keep(new Map(kept));
  }

  async #keep(next: ReadonlyMap<string, Said>): Promise<void> {
    await saveJson(this.#store, this.#form.file, this.#form.write(next));
    this.bySite = next;
    this.onChange();
  }
}
