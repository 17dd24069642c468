import type { Clock } from "../../base/clock.ts";
import { withDeadline } from "../../base/deadline.ts";
import { Fault } from "../../base/fault.ts";
import type { Certificate } from "../certificate.ts";
import { Account, type AccountOptions } from "./account.ts";
import { loadAcme } from "./acme-library.ts";
import { AcmeSession } from "./acme-session.ts";
import type { Authority, OrderRequest, RenewalWindow } from "./authority.ts";
import { AuthorityFault, wordsOf } from "./authority-fault.ts";
import { CaTransport } from "./ca-transport.ts";
import { type DirectoryDocument, directoryDocument } from "./documents.ts";
import { OrderRun } from "./order.ts";
import { Proofs } from "./proofs.ts";
import { certificateId, readRenewalWindow } from "./renewal-information.ts";

const ATTEMPT_MS = 15 * 60_000;
const DIRECTORY_MS = 3_600_000;

export interface AuthorityOptions extends AccountOptions {
  /** PEM of the roots that sign the CA's own TLS certificate, in place of the system's. */
  readonly caBundle?: string | undefined;
  /** Of every certificate, unless an order says otherwise. */
  readonly profile?: string | undefined;
  /** Common name of a root; the chain that ends there is taken where the CA offers several. */
  readonly preferredChain?: string | undefined;
  /** Of one request, in ms. */
  readonly requestLimit?: number | undefined;
}

/**
 * A CA that speaks ACME. Nothing is asked and nothing is loaded before the first order.
 * @throws {Fault} CERT_AUTHORITY_URL, CERT_AUTHORITY_ID
 */
export function openAuthority(options: AuthorityOptions): Authority {
  return new AcmeAuthority(options);
}

class AcmeAuthority implements Authority {
  readonly id: string;
  readonly #options: AuthorityOptions;
  readonly #transport: CaTransport;
  readonly #account: Account;
  readonly #clock: Clock;
  #directory: { readonly document: DirectoryDocument; readonly until: number } | undefined;

  constructor(options: AuthorityOptions) {
    if (!/^[a-z0-9][a-z0-9-]{0,62}$/.test(options.id)) {
      throw new Fault("CERT_AUTHORITY_ID", `Cannot name a CA "${wordsOf(options.id)}": letters, digits and - wanted`);
    }
    this.id = options.id;
    this.#options = options;
    this.#clock = options.clock;
    this.#transport = new CaTransport(options);
    this.#account = new Account(options, (key, url, signal) => this.#openSession(key, url, signal));
  }

  issue(request: OrderRequest, signal: AbortSignal): Promise<Certificate> {
    const { log, preferredChain } = this.#options;
    const profile = request.profile ?? this.#options.profile;
    let { progress } = request;
    const save = async (next: typeof progress): Promise<void> => {
      await request.save(next);
      progress = next;
    };
    return this.#attempt(signal, (limited) =>
      this.#account.use(limited, async (session) => {
        const { names, solvers } = request;
        const hasRenewals = session.directory.renewalInfo !== undefined && request.replaces !== undefined;
        const replaces = hasRenewals ? await certificateId(request.replaces) : undefined;
        const proofs = new Proofs({ session, names, solvers, clock: this.#clock, log });
        const current = { ...request, progress, save };
        const run = { session, proofs, request: current, replaces, profile, preferredChain, clock: this.#clock };
        return new OrderRun(run).run(limited);
      }),
    );
  }

  async renewalWindow(chain: string, signal: AbortSignal): Promise<RenewalWindow | undefined> {
    try {
      const { renewalInfo } = await this.#readDirectory(signal);
      const id = renewalInfo === undefined ? undefined : await certificateId(chain);
      if (id === undefined) return undefined;
      const answer = await this.#transport.ask("GET", `${renewalInfo!.replace(/\/$/, "")}/${id}`, signal);
      if (this.#transport.faultOf(answer) !== undefined) return undefined;
      return readRenewalWindow(answer.body, answer.headers["retry-after"], this.#clock.wall());
    } catch (error) {
      if (signal.aborted || !(error instanceof AuthorityFault)) throw error;
      return undefined;
    }
  }

  revoke(chain: string, key: string, signal: AbortSignal): Promise<void> {
    return this.#attempt(signal, async (limited) => {
      const session = await this.#account.session(limited);
      try {
        await session.revoke(chain, limited);
      } catch (error) {
        if (!(error instanceof AuthorityFault) || error.problem === undefined) throw error;
        if (error.problem === "alreadyRevoked") return;
        // Issued to an account that is lost: whoever has the key may revoke as well (RFC 8555 section 7.6).
        const holder = await this.#openSession(key, undefined, limited);
        await holder.revokeAsHolder(chain, limited);
      }
    });
  }

  accountUrl(signal: AbortSignal): Promise<string> {
    return this.#attempt(signal, async (limited) => (await this.#account.session(limited)).accountUrl);
  }

  rollAccountKey(signal: AbortSignal): Promise<void> {
    return this.#attempt(signal, (limited) => this.#account.rollKey(limited));
  }

  async #openSession(accountKey: string, accountUrl: string | undefined, signal: AbortSignal): Promise<AcmeSession> {
    const { directory: directoryUrl, externalAccount } = this.#options;
    const [library, directory] = await Promise.all([loadAcme(), this.#readDirectory(signal)]);
    const [transport, clock] = [this.#transport, this.#clock];
    const of = { library, transport, directory, directoryUrl, clock };
    return new AcmeSession({ ...of, accountKey, accountUrl, externalAccount });
  }

  async #readDirectory(signal: AbortSignal): Promise<DirectoryDocument> {
    const now = this.#clock.now();
    if (this.#directory !== undefined && now < this.#directory.until) return this.#directory.document;
    const answer = await this.#transport.ask("GET", this.#options.directory, signal);
    const fault = this.#transport.faultOf(answer);
    if (fault !== undefined) throw fault;
    const { success, data } = directoryDocument.safeParse(answer.body);
    if (!success) throw this.#transport.nonsense("no ACME directory is there");
    this.#directory = { document: data, until: now + DIRECTORY_MS };
    return data;
  }

  /** Whatever a CA does, an attempt ends. */
  #attempt<T>(signal: AbortSignal, work: (limited: AbortSignal) => Promise<T>): Promise<T> {
    const late = (): AuthorityFault => timeout(this.id);
    return withDeadline(this.#clock, ATTEMPT_MS, late, (limit) => work(AbortSignal.any([signal, limit])));
  }
}

function timeout(id: string): AuthorityFault {
  return new AuthorityFault("CERT_ORDER_TIMEOUT", `Cannot wait for "${id}" any longer: not done in 15 minutes`, {
    hint: "The order goes on where it was with the next attempt.",
  });
}
