import type { Clock } from "../../base/clock.ts";
import { type Fault, messageOf } from "../../base/fault.ts";
import type { Log } from "../../base/log.ts";
import { pause } from "../../base/pause.ts";
import type { Challenge, ChallengeSolver } from "../challenges/challenge.ts";
import type { AcmeSession } from "./acme-session.ts";
import { AuthorityFault, wordsOf } from "./authority-fault.ts";
import type { AuthorizationDocument, ChallengeDocument } from "./documents.ts";
import { Polling } from "./polling.ts";

const MOST_AT_ONCE = 8;
const TAKE_AWAY_MS = 60_000;
/** RFC 8555 section 8.3; it becomes part of paths and records. */
const TOKEN = /^[\w-]{1,256}$/;

export interface ProofOptions {
  readonly session: AcmeSession;
  readonly names: readonly string[];
  /** In order of preference. */
  readonly solvers: readonly ChallengeSolver[];
  readonly clock: Clock;
  readonly log: Log;
}

interface Candidate {
  readonly solver: ChallengeSolver;
  readonly challenge: ChallengeDocument;
}

/** Proves names to a CA, and remembers what it did not believe. */
export class Proofs {
  readonly #options: ProofOptions;
  /** By name: who was not believed, and what the CA said last. */
  readonly #refused: Map<string, { readonly solvers: Set<ChallengeSolver>; fault: AuthorityFault }> = new Map();
  #hasOther = false;

  constructor(options: ProofOptions) {
    this.#options = options;
  }

  /** Whether a refused name has a solver left; then a new order is worth it, since a refused one is lost. */
  takeOther(): boolean {
    const hasOther = this.#hasOther;
    this.#hasOther = false;
    return hasOther;
  }

  /** Several at once; the first failure ends the others. */
  async prove(authorizations: readonly string[], signal: AbortSignal): Promise<void> {
    const waiting = [...authorizations];
    const stop = new AbortController();
    const either = AbortSignal.any([signal, stop.signal]);
    const work = async (): Promise<void> => {
      for (let url = waiting.shift(); url !== undefined; url = waiting.shift()) {
        await this.#proveOne(url, either).catch((error: unknown) => {
          stop.abort(error); // only the first one counts
          throw error;
        });
      }
    };
    await Promise.allSettled(Array.from({ length: Math.min(MOST_AT_ONCE, waiting.length) }, work));
    either.throwIfAborted();
  }

  async #proveOne(url: string, signal: AbortSignal): Promise<void> {
    const authorization = await this.#options.session.readAuthorization(url, signal);
    const name = `${authorization.wildcard === true ? "*." : ""}${authorization.identifier.value.toLowerCase()}`;
    if (authorization.status === "valid") return;
    if (!this.#options.names.includes(name)) {
      // A proof for another name of ours would be worth something to others.
      throw new AuthorityFault("CERT_ORDER_NONSENSE", `Cannot prove "${wordsOf(name)}": nobody ordered it`);
    }
    if (authorization.status !== "pending") throw refusal(name, authorization);
    const candidates = this.#candidates(name, authorization);
    if (candidates.length === 0) {
      throw this.#refused.get(name)?.fault ?? unprovable(name, authorization, this.#options.solvers);
    }
    for (const [index, candidate] of candidates.entries()) {
      const isLast = index === candidates.length - 1;
      const takeAway = await this.#present(name, candidate, signal).catch((error: unknown) => {
        if (isLast || signal.aborted) throw error;
        this.#options.log.warn("certs.challenge_failed", {
          name,
          type: candidate.solver.type,
          reason: messageOf(error),
        });
        return undefined;
      });
      if (takeAway === undefined) continue;
      try {
        return await this.#convince(name, url, candidate, !isLast, signal);
      } finally {
        await this.#takeAway(name, candidate.solver, takeAway);
      }
    }
  }

  #candidates(name: string, { challenges }: AuthorizationDocument): readonly Candidate[] {
    return this.#options.solvers
      .filter((solver) => solver.canProve(name) && this.#refused.get(name)?.solvers.has(solver) !== true)
      .flatMap((solver) => {
        const challenge = challenges.find(({ type }) => type === solver.type);
        return challenge?.url !== undefined && TOKEN.test(challenge.token ?? "") ? [{ solver, challenge }] : [];
      });
  }

  async #present(name: string, { solver, challenge }: Candidate, signal: AbortSignal): Promise<() => Promise<void>> {
    const proof = await this.#options.session.keyAuthorization(challenge, signal);
    const takeAway = await solver.present(challengeOf(solver.type, name, challenge.token!, proof), signal);
    if (!signal.aborted) return takeAway;
    await this.#takeAway(name, solver, takeAway);
    throw signal.reason;
  }

  async #convince(
    name: string,
    url: string,
    { solver, challenge }: Candidate,
    hasOther: boolean,
    signal: AbortSignal,
  ): Promise<void> {
    const { session, clock } = this.#options;
    await session.respond(challenge, signal);
    const polling = new Polling(clock);
    for (;;) {
      const seen = await session.readAuthorization(url, signal);
      if (seen.status === "valid") return;
      if (seen.status !== "pending") {
        const fault = refusal(name, seen);
        const solvers = this.#refused.get(name)?.solvers ?? new Set();
        this.#refused.set(name, { solvers: solvers.add(solver), fault });
        this.#hasOther ||= hasOther;
        throw fault;
      }
      await polling.wait(seen.retryAfter, signal);
    }
  }

  /** The certificate does not wait for long, nor does it fail, because of what is left behind. */
  async #takeAway(name: string, { type }: ChallengeSolver, takeAway: () => Promise<void>): Promise<void> {
    const enough = new AbortController();
    try {
      await Promise.race([takeAway(), pause(this.#options.clock, TAKE_AWAY_MS, enough.signal)]);
    } catch (error) {
      this.#options.log.warn("certs.challenge_left", { name, type, reason: messageOf(error) });
    } finally {
      enough.abort();
    }
  }
}

function challengeOf(type: Challenge["type"], name: string, token: string, proof: string): Challenge {
  const plain = name.replace(/^\*\./, "");
  if (type === "dns-01") return { type, name: plain, record: `_acme-challenge.${plain}`, value: proof };
  if (type === "http-01") return { type, name, token, keyAuthorization: proof };
  return { type, name, keyAuthorization: proof };
}

function refusal(name: string, { status, challenges }: AuthorizationDocument): AuthorityFault {
  const error = challenges.find((challenge) => challenge.error !== undefined)?.error;
  const said = error === undefined ? `its proof is "${wordsOf(status)}"` : wordsOf(error.detail ?? error.type);
  return new AuthorityFault("CERT_ORDER_UNPROVED", `Cannot prove "${name}" to the CA: ${said}`, {
    problem: /:(\w{1,40})$/.exec(error?.type ?? "")?.[1],
    hint: "See that the CA reaches this name from the internet, or that its DNS record is served.",
  });
}

function unprovable(name: string, { challenges }: AuthorizationDocument, solvers: readonly ChallengeSolver[]): Fault {
  const offered = challenges.map(({ type }) => wordsOf(type)).join(", ") || "nothing";
  const ours = solvers.filter((solver) => solver.canProve(name)).map(({ type }) => type);
  return new AuthorityFault(
    "CERT_ORDER_UNPROVABLE",
    `Cannot prove "${name}": the CA takes ${offered}, we could show ${ours.join(", ") || "nothing"}`,
    { hint: "A wildcard needs DNS; other names need DNS, or port 80 or 443 to be reachable." },
  );
}
