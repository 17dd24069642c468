import { Fault } from "../../base/fault.ts";
import type { ChallengeSolver } from "./challenge.ts";

const PREFIX = "/.well-known/acme-challenge/";
const MOST_PENDING = 1000;

/** What a CA may fetch over plain HTTP, and nothing else (RFC 8555 section 8.3). */
export class HttpChallenges {
  /** Host and path → what is answered. */
  readonly #pending: Map<string, string> = new Map();
  readonly #mayProve: (name: string) => boolean;

  /** `mayProve`: names whose port 80 leads to us. */
  constructor(mayProve: (name: string) => boolean) {
    this.#mayProve = mayProve;
  }

  get solver(): ChallengeSolver {
    return {
      type: "http-01",
      canProve: (name) => !name.startsWith("*.") && this.#mayProve(name),
      present: async (challenge) => {
        if (challenge.type !== "http-01" || !/^[\w-]{1,256}$/.test(challenge.token)) {
          throw new Fault("CERT_CHALLENGE_TOKEN", `Cannot prove "${challenge.name}": the CA's token is none`);
        }
        if (this.#pending.size >= MOST_PENDING) throw tooMany(challenge.name);
        const key = `${challenge.name.toLowerCase()}${PREFIX}${challenge.token}`;
        this.#pending.set(key, challenge.keyAuthorization);
        return async () => void this.#pending.delete(key);
      },
    };
  }

  /** `host` as it came, with or without a port; `path` as it came. `undefined`: there is nothing there. */
  answer(host: string, path: string): string | undefined {
    if (!path.startsWith(PREFIX)) return undefined;
    const name = host.toLowerCase().replace(/:\d{1,5}$/, "");
    return this.#pending.get(`${name}${path}`);
  }
}

export function tooMany(name: string): Fault {
  return new Fault("CERT_CHALLENGE_BUSY", `Cannot prove "${name}": ${MOST_PENDING} proofs are under way, wanted fewer`);
}
