import type { Clock } from "../../base/clock.ts";
import type { Certificate } from "../certificate.ts";
import type { AcmeSession, Polled } from "./acme-session.ts";
import type { OrderProgress, OrderRequest } from "./authority.ts";
import { AuthorityFault, wordsOf } from "./authority-fault.ts";
import type { DirectoryDocument, OrderDocument } from "./documents.ts";
import { readIssuedChain } from "./issued-chain.ts";
import { Polling } from "./polling.ts";
import type { Proofs } from "./proofs.ts";

/** Pages and orders of an account's list that are read to find a lost one. */
const MOST_PAGES = 20;
const MOST_READ = 50;

export interface OrderOptions {
  readonly session: AcmeSession;
  readonly proofs: Proofs;
  readonly request: OrderRequest;
  /** Name of the renewed certificate in the CA's renewal information. */
  readonly replaces: string | undefined;
  readonly profile: string | undefined;
  readonly preferredChain: string | undefined;
  readonly clock: Clock;
}

/**
 * One certificate, from whatever state its order is in (RFC 8555 section 7.1.6). What an order has come to is read from
 * the CA at every step and never guessed, so a process may end anywhere and another goes on.
 */
export class OrderRun {
  readonly #options: OrderOptions;
  #progress: OrderProgress;

  constructor(options: OrderOptions) {
    this.#options = options;
    this.#progress = options.request.progress;
  }

  async run(signal: AbortSignal): Promise<Certificate> {
    const { proofs } = this.#options;
    const known = await this.#resume(signal);
    let order = known ?? (await this.#begin(signal));
    for (;;) {
      try {
        const certificate = await this.#finish(order, signal);
        if (typeof certificate !== "string") return certificate;
        // An order from before may have been finished with a key that is lost; one of ours may not.
        if (order !== known) throw this.#nonsense(certificate);
      } catch (error) {
        if (signal.aborted || !proofs.takeOther()) throw error;
      }
      order = await this.#begin(signal);
    }
  }

  /** The order that a process before us made, if it is still good for something. */
  async #resume(signal: AbortSignal): Promise<Polled<OrderDocument> | undefined> {
    const { session } = this.#options;
    const { url, asked } = this.#progress;
    if (url === undefined) return asked === true ? this.#findLost(signal) : undefined;
    try {
      const order = await session.readOrder(url, signal);
      return this.#isUsable(order) ? order : undefined;
    } catch (error) {
      if (isFault(error, "CERT_ORDER_NONSENSE")) return undefined; // of another CA
      if (!isFault(error, "CERT_ORDER_REFUSED")) throw error;
      // The order is gone, unless it is our account that the CA does not like; then this fails as well.
      await session.updateAccount({}, signal);
      return undefined;
    }
  }

  /** An order that was asked for by a process that ended before it heard the URL (RFC 8555 section 7.1.2.1). */
  async #findLost(signal: AbortSignal): Promise<Polled<OrderDocument> | undefined> {
    const { session } = this.#options;
    let left = MOST_READ;
    try {
      let { orders: page } = await session.updateAccount({}, signal);
      for (let pages = 0; page !== undefined && pages < MOST_PAGES; pages++) {
        const { orders, next } = await session.readOrderList(page, signal);
        for (const url of orders.slice(0, left)) {
          const order = await session.readOrder(url, signal);
          if (/^(pending|ready)$/.test(order.status) && this.#isUsable(order)) return this.#noted(order);
        }
        left -= orders.length;
        page = left > 0 ? next : undefined;
      }
    } catch (error) {
      // Few CAs keep the list; without it the CA gives the same order again, or another.
      if (!isFault(error, "CERT_ORDER_REFUSED") && !isFault(error, "CERT_ORDER_NONSENSE")) throw error;
    }
    return undefined;
  }

  async #begin(signal: AbortSignal): Promise<Polled<OrderDocument>> {
    const { session, request, replaces, profile } = this.#options;
    const { names } = request;
    checkProfile(profile, session.directory);
    await this.#save({ key: this.#progress.key, asked: true });
    const order = await session.newOrder({ names, replaces, profile }, signal).catch((error: unknown) => {
      // RFC 9773 section 5: the CA may not know the certificate, or count it as replaced already.
      const mayPass = replaces !== undefined && isFault(error, "CERT_ORDER_REFUSED");
      if (!mayPass) throw error;
      return session.newOrder({ names, profile }, signal);
    });
    if (!this.#hasNames(order)) throw this.#nonsense("an order for other names");
    return this.#noted(order);
  }

  /** The certificate, or why the one that the order has is not ours. */
  async #finish(begun: Polled<OrderDocument>, signal: AbortSignal): Promise<Certificate | string> {
    const { session, proofs, request, preferredChain, clock } = this.#options;
    const { key } = this.#progress;
    const polling = new Polling(clock);
    let order = begun;
    let isAsked = false;
    for (;;) {
      const { status } = order;
      if (status === "valid") {
        return readIssuedChain(await session.readChain(order, preferredChain, signal), key, request.names);
      }
      if (status === "pending") await proofs.prove(order.authorizations, signal);
      else if (status === "ready" && !isAsked) {
        await session.finalize(order, key, request.names, signal);
        isAsked = true;
      } else if (status === "invalid") throw this.#invalid(order);
      else if (status !== "processing" && status !== "ready")
        throw this.#nonsense(`an order in state "${wordsOf(status)}"`);
      order = await session.readOrder(order.url, signal);
      if (order.status === status) await polling.wait(order.retryAfter, signal);
    }
  }

  #isUsable(order: OrderDocument): boolean {
    const isOpen = !/^(valid|processing)$/.test(order.status);
    const isOver = isOpen && Date.parse(order.expires ?? "") < this.#options.clock.wall();
    return order.status !== "invalid" && !isOver && this.#hasNames(order);
  }

  #hasNames({ identifiers }: OrderDocument): boolean {
    const ordered = identifiers.map(({ value }) => value.toLowerCase()).sort();
    return ordered.join() === [...this.#options.request.names].sort().join();
  }

  async #noted(order: Polled<OrderDocument>): Promise<Polled<OrderDocument>> {
    await this.#save({ key: this.#progress.key, asked: true, url: order.url });
    return order;
  }

  async #save(progress: OrderProgress): Promise<void> {
    await this.#options.request.save(progress);
    this.#progress = progress;
  }

  #invalid({ error }: OrderDocument): AuthorityFault {
    const names = this.#options.request.names.join(", ");
    const said = wordsOf(error?.detail ?? "the order is invalid");
    return new AuthorityFault("CERT_ORDER_INVALID", `Cannot get a certificate for "${names}": ${said}`, {
      problem: /:(\w{1,40})$/.exec(error?.type ?? "")?.[1],
    });
  }

  #nonsense(found: string): AuthorityFault {
    const names = this.#options.request.names.join(", ");
    return new AuthorityFault("CERT_ORDER_NONSENSE", `Cannot use what the CA gave for "${names}": ${found}`);
  }
}

function isFault(error: unknown, code: string): boolean {
  return error instanceof AuthorityFault && error.code === code;
}

/** draft-aaron-acme-profiles section 4: only a profile that the CA offers may be asked for. */
function checkProfile(profile: string | undefined, { meta }: DirectoryDocument): void {
  const offered = meta?.profiles ?? {};
  if (profile === undefined || Object.hasOwn(offered, profile)) return;
  const names = Object.keys(offered).map(wordsOf).join(", ") || "none";
  throw new AuthorityFault("CERT_ORDER_PROFILE", `Cannot order with the profile "${profile}": the CA offers ${names}`);
}
