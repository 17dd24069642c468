import type { Challenge, ChallengeSolver, ChallengeType } from "../../src/certs/challenges/challenge.ts";

/** A solver that keeps what it shows in a set, so that a test sees what is there and what was. */
export class Shown implements ChallengeSolver {
  readonly type: ChallengeType;
  readonly now: Set<Challenge> = new Set();
  readonly ever: Challenge[] = [];
  most = 0;
  /** Thrown by the next `present`. */
  failure: Error | undefined;

  constructor(type: ChallengeType) {
    this.type = type;
  }

  canProve(name: string): boolean {
    return this.type === "dns-01" || !name.startsWith("*.");
  }

  async present(challenge: Challenge): Promise<() => Promise<void>> {
    if (this.failure !== undefined) throw this.failure;
    this.ever.push(challenge);
    this.now.add(challenge);
    this.most = Math.max(this.most, this.now.size);
    return async () => void this.now.delete(challenge);
  }
}
