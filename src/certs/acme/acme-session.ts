import type { Client, Order } from "acme-client";
import type { z } from "zod";
import type { Clock } from "../../base/clock.ts";
import { Fault, messageOf } from "../../base/fault.ts";
import { pause } from "../../base/pause.ts";
import { type AcmeLibrary, headOf, inCall, liftNonceLimit } from "./acme-library.ts";
import { AuthorityFault, wordsOf } from "./authority-fault.ts";
import type { CaTransport } from "./ca-transport.ts";
import {
  type AccountDocument,
  type AuthorizationDocument,
  accountDocument,
  authorizationDocument,
  type ChallengeDocument,
  type DirectoryDocument,
  type OrderDocument,
  orderDocument,
  orderList,
} from "./documents.ts";
import { parseRetryAfter } from "./retry-after.ts";

/** A CA that refuses ten nonces in a row for one request gets a pause, so many times. */
const NONCE_ROUNDS = 10;
const NONCE_PAUSE_MS = 500;
const LONGEST_NONCE_PAUSE_MS = 8000;

export interface ExternalAccount {
  readonly keyId: string;
  /** base64url, as CAs hand it out. */
  readonly hmacKey: string;
}

export interface SessionOptions {
  readonly library: AcmeLibrary;
  readonly transport: CaTransport;
  readonly directory: DirectoryDocument;
  readonly directoryUrl: string;
  readonly clock: Clock;
  /** PKCS #8 PEM. */
  readonly accountKey: string;
  readonly accountUrl?: string | undefined;
  readonly externalAccount?: ExternalAccount | undefined;
}

/** What the library's methods are made of; none of them signs a revocation with a certificate's key. */
interface LibraryApi {
  apiResourceRequest(
    resource: string,
    payload: object,
    statuses: readonly number[],
    options: { readonly includeJwsKid: boolean },
  ): Promise<unknown>;
}

/** A body together with how long the CA asks to wait before it is read again. */
export type Polled<T> = T & { readonly retryAfter: number | undefined };

/** Requests signed by one account key. Every answer is checked for its form; all it throws are faults. */
export class AcmeSession {
  readonly directory: DirectoryDocument;
  readonly accountKey: string;
  readonly #options: SessionOptions;
  readonly #client: Client;

  constructor(options: SessionOptions) {
    const { library, directoryUrl, accountKey, accountUrl, externalAccount } = options;
    this.#options = options;
    this.directory = options.directory;
    this.accountKey = accountKey;
    this.#client = new library.Client({
      directoryUrl,
      accountKey,
      ...(accountUrl !== undefined && { accountUrl }),
      ...(externalAccount !== undefined && {
        externalAccountBinding: { kid: externalAccount.keyId, hmacKey: externalAccount.hmacKey },
      }),
    });
    liftNonceLimit(this.#client);
  }

  get accountUrl(): string {
    try {
      return this.#client.getAccountUrl();
    } catch (error) {
      throw this.#options.transport.nonsense("an account without a URL", error);
    }
  }

  /** RFC 8555 section 7.3; an account that the key has already is found. */
  createAccount(
    payload: { contact?: string[]; termsOfServiceAgreed?: boolean; onlyReturnExisting?: boolean },
    signal: AbortSignal,
  ): Promise<AccountDocument> {
    return this.#ask(accountDocument, signal, () => this.#client.createAccount(payload));
  }

  updateAccount(payload: { contact?: string[] }, signal: AbortSignal): Promise<AccountDocument> {
    return this.#ask(accountDocument, signal, () => this.#client.updateAccount(payload));
  }

  /** RFC 8555 section 7.3.5. The session is of no use afterwards. */
  async changeKey(newKey: string, signal: AbortSignal): Promise<void> {
    await this.#call(signal, () => this.#client.updateAccountKey(newKey));
  }

  async newOrder(
    payload: { names: readonly string[]; replaces?: string | undefined; profile?: string | undefined },
    signal: AbortSignal,
  ): Promise<Polled<OrderDocument>> {
    const { names, replaces, profile } = payload;
    const identifiers = names.map((value) => ({ type: "dns", value }));
    const fields = { ...(replaces !== undefined && { replaces }), ...(profile !== undefined && { profile }) };
    return this.#ask(orderDocument, signal, () => this.#client.createOrder({ identifiers, ...fields }));
  }

  readOrder(url: string, signal: AbortSignal): Promise<Polled<OrderDocument>> {
    return this.#ask(orderDocument, signal, () => this.#read(url));
  }

  readAuthorization(url: string, signal: AbortSignal): Promise<Polled<AuthorizationDocument>> {
    return this.#ask(authorizationDocument, signal, () => this.#read(url));
  }

  /** One page of the account's orders, and the URL of the next page (RFC 8555 section 7.1.2.1). */
  async readOrderList(
    url: string,
    signal: AbortSignal,
  ): Promise<{ orders: readonly string[]; next: string | undefined }> {
    let next: string | undefined;
    const { orders } = await this.#ask(orderList, signal, async () => {
      const body = await this.#read(url);
      next = /<([^>]*)>\s*;\s*rel="?next"?/i.exec(headOf(body)["link"] ?? "")?.[1];
      return body;
    });
    return { orders, next };
  }

  /** What proves the name (RFC 8555 section 8.1): text for HTTP and TLS, its digest for DNS. */
  keyAuthorization(challenge: ChallengeDocument, signal: AbortSignal): Promise<string> {
    return this.#call(signal, () => this.#client.getChallengeKeyAuthorization(challenge as never));
  }

  /** The CA may look now. */
  async respond(challenge: ChallengeDocument, signal: AbortSignal): Promise<void> {
    await this.#call(signal, () => this.#client.completeChallenge(challenge as never));
  }

  /** Asks for the certificate with `key` in the name of the order. */
  async finalize(order: OrderDocument, key: string, names: readonly string[], signal: AbortSignal): Promise<void> {
    // No common name: the names stand in the extension, and a long one would not fit.
    const { createCsr } = this.#options.library.crypto;
    const [, csr] = await this.#call(signal, () => createCsr({ altNames: [...names] }, key));
    await this.#call(signal, () => this.#client.finalizeOrder(order as never as Order, csr));
  }

  /** PEM, or what the CA gives for it. */
  readChain(order: OrderDocument, preferredRoot: string | undefined, signal: AbortSignal): Promise<unknown> {
    return this.#call(signal, () => this.#client.getCertificate(order as never as Order, preferredRoot));
  }

  async revoke(chain: string, signal: AbortSignal): Promise<void> {
    await this.#call(signal, () => this.#client.revokeCertificate(chain));
  }

  /** RFC 8555 section 7.6: signed by the key of the certificate, which is what this session was opened with. */
  async revokeAsHolder(chain: string, signal: AbortSignal): Promise<void> {
    const { library } = this.#options;
    const payload = { certificate: library.crypto.getPemBodyAsB64u(chain) };
    const { api } = this.#client as unknown as { api: LibraryApi };
    await this.#call(signal, () => api.apiResourceRequest("revokeCert", payload, [200], { includeJwsKid: false }));
  }

  /** The library has no method that reads just any resource; this one does, and adds the URL to the body. */
  #read(url: string): Promise<Order> {
    return this.#client.getOrder({ url } as Order);
  }

  async #ask<T extends z.ZodType<object>>(
    form: T,
    signal: AbortSignal,
    work: () => Promise<unknown>,
  ): Promise<Polled<z.infer<T>>> {
    const body = await this.#call(signal, work);
    const { success, data, error } = form.safeParse(body);
    if (!success) {
      const { path, message } = error.issues[0]!;
      throw this.#options.transport.nonsense(`${path.join(".") || "its answer"}: ${wordsOf(message)}`);
    }
    const wall = this.#options.clock.wall();
    return { ...data, retryAfter: parseRetryAfter(headOf(body as object)["retry-after"], wall) };
  }

  async #call<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const { transport, directory, clock } = this.#options;
    for (let round = 1; ; round++) {
      try {
        return await inCall({ transport, directory, signal }, work);
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        if (!(error instanceof Fault)) throw transport.nonsense(wordsOf(messageOf(error)), error);
        const isNonce = error instanceof AuthorityFault && error.problem === "badNonce";
        if (!isNonce || round === NONCE_ROUNDS) throw error;
        await pause(clock, Math.min(NONCE_PAUSE_MS * 2 ** round, LONGEST_NONCE_PAUSE_MS), signal);
      }
    }
  }
}
